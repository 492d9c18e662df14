import io
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from serve_app.domain import WHOLE_BOX, Box
from serve_app.errors import EmptyBody, NotAnImage, TooManyPixels, Truncated, UnsupportedType
from serve_app.images import WORKING_SIDE_PX, _draft_size, _kept_transform, cut, cut_all, decode

register_heif_opener()

RED, GREEN, WHITE = (220, 30, 30), (30, 200, 40), (255, 255, 255)


def linear_grey_profile() -> bytes:
    """Write the smallest ICC profile of a grey with gamma 1: https://www.color.org/icc_specs2.xalter."""
    white = b"XYZ \0\0\0\0" + b"".join(round(v * 65536).to_bytes(4, "big") for v in (0.9642, 1.0, 0.8249))
    curve = b"curv\0\0\0\0" + bytes(4)
    text = b"desc\0\0\0\0" + (7).to_bytes(4, "big") + b"linear\0" + bytes(78)
    tags, data, offset = b"", b"", 128 + 4 + 3 * 12
    for name, value in ((b"wtpt", white), (b"kTRC", curve), (b"desc", text)):
        tags += name + (offset + len(data)).to_bytes(4, "big") + len(value).to_bytes(4, "big")
        data += value + bytes(-len(value) % 4)
    body = (3).to_bytes(4, "big") + tags + data
    header = (128 + len(body)).to_bytes(4, "big") + b"lcms" + (0x02100000).to_bytes(4, "big") + b"mntrGRAYXYZ "
    header += bytes(12) + b"acsp" + bytes(28) + white[8:]
    return header.ljust(128, b"\0") + body


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_colours(width: int = 40, height: int = 20) -> Image.Image:
    """Draw red on the left, green on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    return image


def near(pixel, colour, tolerance: int = 6) -> bool:
    return bool(np.all(np.abs(pixel.astype(int) - colour) <= tolerance))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_photo_of_each_kind_is_decoded(kind):
    photo = decode(encoded(two_colours(), kind))
    assert photo.pixels.shape == (20, 40, 3)
    assert near(photo.pixels[10, 5], RED, 12)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(turn):
    upright = two_colours()
    exif = Image.Exif()
    exif[0x0112] = turn
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[turn]) if turn in undo else upright
    photo = decode(encoded(stored, "PNG", exif=exif))
    assert (photo.width, photo.height) == (40, 20)
    assert np.array_equal(photo.pixels, np.asarray(upright))


def test_damaged_exif_does_not_cost_the_photo():
    photo = decode(encoded(two_colours(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"))
    assert photo.width == 40


def test_transparency_is_laid_on_white():
    image = two_colours().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    assert tuple(decode(encoded(image)).pixels[10, 5]) == WHITE


def test_transparent_palette_colour_is_laid_on_white():
    image = two_colours().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    index = image.getpixel((5, 5))
    assert tuple(decode(encoded(image, transparency=index)).pixels[10, 5]) == WHITE


def test_colours_are_converted_by_their_profile():
    """A grey that a profile of gamma 1 calls one half is much lighter on a screen."""
    half = Image.new("L", (8, 8), 128)
    photo = decode(encoded(half, icc_profile=linear_grey_profile()))
    assert near(photo.pixels[4, 4], (188, 188, 188), 3)


def test_useless_profile_is_left_out():
    assert near(decode(encoded(two_colours(), icc_profile=b"nonsense")).pixels[10, 5], RED)


def test_cmyk_becomes_rgb():
    assert near(decode(encoded(two_colours().convert("CMYK"), "JPEG", quality=95)).pixels[10, 5], RED, 12)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert tuple(decode(encoded(deep)).pixels[4, 4]) == (128, 128, 128)


def test_working_photo_is_bounded_and_remembers_its_size():
    photo = decode(encoded(two_colours(4000, 2000), "JPEG"))
    assert photo.pixels.shape == (800, 1600, 3)
    assert (photo.width, photo.height) == (4000, 2000)


@pytest.mark.parametrize("side", [1602, 3198, 4000, 6401])
def test_reducing_misses_no_pixel(side):
    """One bright line of a dark photo loses brightness as it gets thinner, and is not lost wherever it is."""
    for at in range(side // 2, side // 2 + 5):
        lined = np.zeros((20, side), np.uint8)
        lined[:, at] = 240
        seen = decode(encoded(Image.fromarray(lined))).pixels[..., 0].sum(axis=1).mean()
        assert 0.6 < seen / (240 * WORKING_SIDE_PX / side) < 1.4


def test_reducing_moves_nothing():
    photo = decode(encoded(two_colours(3301, 1001)))
    edge = np.argmax(photo.pixels[0, :, 1] > photo.pixels[0, :, 0])
    assert abs(edge - 800) <= 1


def test_colour_of_what_is_transparent_stays_out_of_a_reduced_photo():
    clear = Image.new("RGBA", (2400, 60), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (1200, 0, 2400, 60))
    row = decode(encoded(clear)).pixels[20].astype(int)
    assert tuple(row[0]) == WHITE
    assert tuple(row[-1]) == (0, 0, 255)
    assert np.all(row[:, 0] - row[:, 1] <= 2)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_large_photo_of_each_kind_is_reduced(mode):
    photo = decode(encoded(two_colours(3400, 200).convert(mode), "JPEG", quality=95))
    assert photo.pixels.shape == (94, 1600, 3)
    assert near(photo.pixels[40, 300], two_colours().convert(mode).convert("RGB").getpixel((5, 10)), 12)


def test_profile_counts_in_a_reduced_photo():
    photo = decode(encoded(Image.new("L", (3200, 40), 128), icc_profile=linear_grey_profile()))
    assert near(photo.pixels[4, 4], (188, 188, 188), 3)


def test_same_photo_gives_the_same_pixels():
    data = encoded(two_colours(3000, 2000), "JPEG")
    assert np.array_equal(decode(data).pixels, decode(data).pixels)


def test_crop_is_exactly_its_box():
    photo = decode(encoded(two_colours()))
    assert np.all(cut(photo, Box(0.5, 0, 1, 1)) == GREEN)
    assert np.all(cut(photo, Box(0.1, 0.2, 0.5, 0.9), 7) == RED)


def test_crops_are_stacked_in_order():
    photo = decode(encoded(two_colours()))
    crops = cut_all(photo, [Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1), WHOLE_BOX])
    assert crops.shape == (3, 224, 224, 3)
    assert tuple(crops[0, 0, 0]) == RED
    assert tuple(crops[1, 0, 0]) == GREEN


def test_no_boxes_give_no_crops():
    assert cut_all(decode(encoded(two_colours())), []).shape == (0, 224, 224, 3)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", EmptyBody),
        (b"hello", NotAnImage),
        (b"\x00" * 100, NotAnImage),
        (encoded(two_colours(), "GIF"), UnsupportedType),
        (encoded(two_colours(), "TIFF"), UnsupportedType),
        (encoded(two_colours(), "BMP"), UnsupportedType),
        (b"\x00\x00\x00\x18ftypheic" + b"\x00" * 40, Truncated),
        (b"\x00\x00\x00\x18ftypavif" + b"\x00" * 40, Truncated),
        (b"\x00\x00\x00\x18ftypisom" + b"\x00" * 40, UnsupportedType),
        (b"%PDF-1.7", UnsupportedType),
        (encoded(two_colours(400, 400), "JPEG")[:600], Truncated),
        (encoded(two_colours(400, 400), "JPEG")[:30], Truncated),
        (encoded(two_colours(400, 400))[:100], Truncated),
        (encoded(two_colours(400, 400), "WEBP")[:60], Truncated),
    ],
)
def test_what_is_no_photo_is_refused_by_name(data, error):
    with pytest.raises(error):
        decode(data)


def test_pixels_are_counted_before_they_are_decoded():
    with pytest.raises(TooManyPixels):
        decode(encoded(two_colours(200, 100)), max_pixels=19_999)


def test_png_header_that_claims_a_huge_size_is_refused():
    data = bytearray(encoded(two_colours()))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(TooManyPixels):
        decode(bytes(data))


def claiming(data: bytes, width: int, height: int) -> bytes:
    """Let the boxes of an AVIF or HEIC file claim another size than its frames have."""
    claimed = bytearray(data)
    for found in re.finditer(b"ispe", data):
        struct.pack_into(">II", claimed, found.end() + 4, width, height)
    return bytes(claimed)


def test_turn_of_an_avif_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = decode(encoded(two_colours(), "AVIF", exif=exif))
    assert (photo.width, photo.height) == (20, 40)
    assert near(photo.pixels[5, 10], RED, 12)


def test_turn_of_a_heic_stands_in_its_boxes_and_not_in_its_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = decode(encoded(two_colours(), "HEIF", exif=exif))
    assert (photo.width, photo.height) == (40, 20)


def test_first_picture_of_an_animated_avif_is_the_photo():
    film = encoded(two_colours(), "AVIF", save_all=True, append_images=[Image.new("RGB", (40, 20), WHITE)])
    assert film[8:12] == b"avis"
    assert near(decode(film).pixels[10, 5], RED, 12)


def test_avif_is_as_large_as_its_frames():
    small = claiming(encoded(two_colours(2000, 2000), "AVIF", speed=10), 100, 100)
    assert Image.open(io.BytesIO(small)).size == (100, 100)
    with pytest.raises(TooManyPixels, match="4,000,000"):
        decode(small)


def test_transparent_avif_counts_twice_and_is_decoded():
    clear = Image.new("RGBA", (1500, 1200), (*RED, 0))
    assert near(decode(encoded(clear, "AVIF", speed=10)).pixels[10, 5], WHITE)


def test_heic_of_other_frames_than_it_says_is_refused():
    with pytest.raises(Truncated):
        decode(claiming(encoded(two_colours(200, 200), "HEIF"), 20, 20))


def test_jpeg_that_never_ends_refining_is_refused():
    data = encoded(Image.new("L", (640, 480), 99), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    scan = data[data.rindex(b"\xff\xda") : end]
    assert decode(data[:end] + scan * 90 + data[end:]).width == 640
    with pytest.raises(TooManyPixels, match="100 times"):
        decode(data[:end] + scan * 101 + data[end:])


def test_what_follows_a_jpeg_is_no_scan_of_it():
    assert decode(encoded(two_colours(), "JPEG") + b"\xff\xda\x00\x02" * 200).width == 40


def test_heic_without_its_reader_is_refused_with_what_is_missing():
    program = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from serve_app.images import decode\n"
        "from serve_app.errors import UnsupportedType\n"
        "try: decode(bytes(4) + b'ftypheic' + bytes(40))\n"
        "except UnsupportedType as error: print(error.message)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pillow-heif" in said


def test_large_colour_profiles_are_not_kept():
    before = _kept_transform.cache_info().currsize
    for filler in range(3):
        decode(encoded(two_colours(), "JPEG", icc_profile=linear_grey_profile() + bytes([filler]) * 70_000))
    assert _kept_transform.cache_info().currsize == before


@pytest.mark.parametrize(("size", "least"), [((4032, 3024), 2), ((8064, 6048), 4)])
def test_jpeg_of_a_phone_is_decoded_at_a_reduced_scale(size, least):
    """At half of the side a decoder transforms a quarter of the samples, at a quarter a sixteenth."""
    file = Image.open(io.BytesIO(encoded(Image.new("RGB", size, RED), "JPEG")))
    file.draft(None, _draft_size(file.size))
    assert size[0] / file.width == least
    assert max(file.size) >= WORKING_SIDE_PX
