import io
import struct

import pytest
from PIL import Image

from serve_app.av1 import coded_pixels
from serve_app.isobmff import boxes, brands, check_copies, items


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def file(kinds: list[bytes], places: list[list[tuple[int, int]]], tail: bytes = b"") -> bytes:
    """Write a file whose items lie at these offsets and lengths of it."""
    infos = [box(b"infe", b"\2\0\0\0" + struct.pack(">HH", i, 0) + kind + b"\0") for i, kind in enumerate(kinds)]
    entries = b"".join(
        struct.pack(">HHH", i, 0, len(parts)) + b"".join(struct.pack(">II", *part) for part in parts)
        for i, parts in enumerate(places)
    )
    iinf = box(b"iinf", bytes(4) + struct.pack(">H", len(infos)) + b"".join(infos))
    iloc = box(b"iloc", bytes(4) + b"\x44\0" + struct.pack(">H", len(places)) + entries)
    return box(b"ftyp", b"avif\0\0\0\0mif1") + box(b"meta", bytes(4) + iinf + iloc) + tail


def test_items_of_a_real_file_are_found():
    buffer = io.BytesIO()
    Image.new("RGBA", (30, 20), (1, 2, 3, 4)).save(buffer, "AVIF", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    assert [item.kind for item in items(buffer.getvalue())] == [b"av01", b"av01", b"Exif"]
    assert coded_pixels(buffer.getvalue()) == 2 * 30 * 20
    assert {b"avif", b"mif1"} <= brands(buffer.getvalue())


def test_items_may_share_their_bytes():
    data = file([b"av01"] * 50, [[(0, 40)]] * 50)
    assert len(items(data)) == 50


@pytest.mark.parametrize(
    "data",
    [
        b"",
        file([], []),
        file([b"av01"], [[(10**6, 5)]]),
        file([b"av01"], [[(0, 10**6)]]),
        file([b"av01"], [[(0, 100)] * 60]),
        file([b"av01"] * 9, [[(i, 0)] for i in range(9)]),
        file([b"av01"] * 1001, [[(0, 1)]] * 1001),
        file([b"av01"] * 11, [[(0, 1)] * 1000] * 11),
        file([b"av01"], [[(0, 1)]]) + box(b"meta", b""),
        file([b"av01"], [[(0, 1)]])[:-4],
    ],
    ids=["nothing", "none", "beyond", "longer", "parts", "overlap", "items", "extents", "two", "cut"],
)
def test_items_that_can_not_be_so_are_refused(data):
    with pytest.raises(ValueError, match=r"file|box|item"):
        items(data)


def test_boxes_without_end_are_refused():
    with pytest.raises(ValueError, match="too many"):
        list(boxes(box(b"free", b"") * 2000, 0, 16_000))


def test_text_that_many_pictures_share_is_refused():
    text = bytes(300_000)
    at = len(file([b"mime"] + [b"hvc1"] * 500, [[(0, 1)]] * 501))
    check_copies(file([b"mime", b"hvc1"], [[(at, 5)], [(0, 1)]], text))
    with pytest.raises(ValueError, match="too much"):
        check_copies(file([b"mime"] + [b"hvc1"] * 500, [[(at, len(text))]] + [[(0, 1)]] * 500, text))


def test_frame_without_its_size_is_refused():
    at = len(file([b"av01"], [[(0, 2)]]))
    with pytest.raises(ValueError, match="how large"):
        coded_pixels(file([b"av01"], [[(at, 2)]], b"\x12\0"))
