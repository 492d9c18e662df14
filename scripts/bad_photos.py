"""Photos that are damaged, dishonest, or only odd, made in memory from a seed."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

SEARCHED = "ok"
TRUNCATED, NO_IMAGE, OTHER_KIND = "truncated", "not_an_image", "unsupported_type"
TOO_MANY = "too_many_pixels"
ANY = (SEARCHED, TRUNCATED, NO_IMAGE, OTHER_KIND, TOO_MANY)
SIDE = 96
"""Encodings of this size have enough structure to be damaged in, and cost nothing to search."""
FLIPS = 8
ORIENTATION = 0x0112
PNG = b"\x89PNG\r\n\x1a\n"
ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG": ("JPEG", {"quality": 90}),
    "progressive JPEG": ("JPEG", {"progressive": True}),
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {}),
    "lossless WebP": ("WEBP", {"lossless": True}),
    "AVIF": ("AVIF", {"speed": 10}),
    "HEIC": ("HEIF", {"quality": 60}),
}


@dataclass(frozen=True, slots=True)
class BadPhoto:
    """Hold a file, and the codes that a search with it may have: `ok` where it is searched."""

    kind: str
    name: str
    data: bytes
    codes: tuple[str, ...]


def bad_photos(seed: int = 0) -> list[BadPhoto]:
    """Return the corpus, the same one for each seed."""
    return [photo for maker in MAKERS for photo in maker(random.Random(seed))]


@cache
def _heif_writer() -> None:
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def encoded(image: Image.Image, encoding: str, **options: Any) -> bytes:
    kind, usual = ENCODINGS[encoding]
    if kind == "HEIF":
        _heif_writer()
    buffer = io.BytesIO()
    image.save(buffer, kind, **{**usual, **options})
    return buffer.getvalue()


def picture(side: int = SIDE) -> Image.Image:
    """Draw what has edges, colours and texture, always the same."""
    rows = bytes(((x * y) ^ (x << shift)) & 255 for y in range(side) for x in range(side) for shift in (0, 1, 2))
    return Image.frombytes("RGB", (side, side), rows)


@cache
def _whole(encoding: str) -> bytes:
    return encoded(picture(), encoding)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _with_chunk(chunk: bytes) -> bytes:
    """Put a chunk behind the header of a PNG, which is 33 bytes long."""
    return _whole("PNG")[:33] + chunk + _whole("PNG")[33:]


def _png_header(width: int, height: int) -> bytes:
    return PNG + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + _whole("PNG")[33:]


def _truncated(_: random.Random) -> Iterator[BadPhoto]:
    for encoding in ENCODINGS:
        data = _whole(encoding)
        for quarter in (1, 2, 3):
            yield BadPhoto("truncated", f"{encoding}, {quarter}/4", data[: len(data) * quarter // 4], (TRUNCATED,))


def _wrong_magic(chance: random.Random) -> Iterator[BadPhoto]:
    for encoding in ENCODINGS:
        data = _whole(encoding)
        yield BadPhoto("wrong magic", f"{encoding} with 12 zeros", bytes(12) + data[12:], (NO_IMAGE,))
        noise = b"~" + chance.randbytes(11)
        yield BadPhoto("wrong magic", f"{encoding} with noise", noise + data[12:], (NO_IMAGE,))
    yield BadPhoto("wrong magic", "JPEG as PNG", PNG + _whole("JPEG")[8:], (TRUNCATED,))
    yield BadPhoto("wrong magic", "PNG as JPEG", b"\xff\xd8\xff\xe0" + _whole("PNG")[4:], (TRUNCATED,))
    yield BadPhoto("wrong magic", "JPEG as WebP", b"RIFF\0\1\0\0WEBPVP8 " + _whole("JPEG"), (TRUNCATED,))
    yield BadPhoto("wrong magic", "JPEG as HEIC", b"\0\0\0\x18ftypheic" + _whole("JPEG"), (TRUNCATED,))
    yield BadPhoto("wrong magic", "HEIC as AVIF", _whole("HEIC").replace(b"heic", b"avif"), (TRUNCATED,))
    yield BadPhoto("wrong magic", "AVIF as HEIC", _whole("AVIF").replace(b"avif", b"heic"), (TRUNCATED,))


def _other_kinds(_: random.Random) -> Iterator[BadPhoto]:
    for kind in ("GIF", "TIFF", "BMP", "ICO"):
        buffer = io.BytesIO()
        picture(32).save(buffer, kind)
        yield BadPhoto("other kind", kind, buffer.getvalue(), (OTHER_KIND,))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/><script>alert(1)</script></svg>'
    known = {
        "SVG": svg,
        "SVG with entities": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + svg,
        "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "JPEG XL": b"\xff\x0a" + bytes(60),
        "JPEG XL in boxes": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "MP4": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(60),
        "MOV": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(60),
    }
    yield from (BadPhoto("other kind", name, data, (OTHER_KIND,)) for name, data in known.items())
    unknown = {
        "zip": b"PK\3\4" + bytes(60),
        "gzip": zlib.compress(bytes(100), wbits=31),
        "program": b"\x7fELF\2\1\1" + bytes(60),
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "PostScript": b"%!PS-Adobe-3.0\n(/etc/passwd) run",
        "EPS preview": b"\xc5\xd0\xd3\xc6" + bytes(60),
        "ImageMagick script": b"push graphic-context\nfill 'url(https://127.0.0.1/|ls)'\n",
        "JSON": b'{"image": null}',
        "path": b"/etc/passwd",
        "SVG behind spaces": b" \n" + svg,
    }
    yield from (BadPhoto("other kind", name, data, (NO_IMAGE,)) for name, data in unknown.items())


def _polyglots(_: random.Random) -> Iterator[BadPhoto]:
    html = b"<script>alert(1)</script>"
    behind = {"zip": b"PK\3\4" + bytes(40), "HTML": html, "a JPEG": _whole("JPEG"), "PHP": b"<?php system($_GET[0]);?>"}
    for name, tail in behind.items():
        for encoding in ("JPEG", "PNG", "WebP"):
            yield BadPhoto("polyglot", f"{encoding}, {name} behind", _whole(encoding) + tail, (SEARCHED,))
    comment = b"\xff\xfe" + struct.pack(">H", len(html) + 2) + html
    yield BadPhoto("polyglot", "JPEG, HTML inside", _whole("JPEG")[:2] + comment + _whole("JPEG")[2:], (SEARCHED,))
    yield BadPhoto("polyglot", "PNG, HTML inside", _with_chunk(_chunk(b"tEXt", b"a\0" + html)), (SEARCHED,))
    yield BadPhoto("polyglot", "GIF before a JPEG", b"GIF89a" + _whole("JPEG"), (OTHER_KIND,))
    yield BadPhoto("polyglot", "PDF before a JPEG", b"%PDF-1.4\n" + _whole("JPEG"), (OTHER_KIND,))
    yield BadPhoto("polyglot", "zip before a JPEG", b"PK\3\4" + _whole("JPEG"), (NO_IMAGE,))
    yield BadPhoto("polyglot", "spaces before a PNG", b"  " + _whole("PNG"), (NO_IMAGE,))


def _bombs(_: random.Random) -> Iterator[BadPhoto]:
    for width, height in ((8000, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1), (65_535, 65_535), (0, 0)):
        codes = (TOO_MANY,) if width else (TRUNCATED,)
        yield BadPhoto("bomb", f"PNG that claims {width} × {height}", _png_header(width, height), codes)
    flat = Image.new("1", (8000, 8000))
    yield BadPhoto("bomb", "PNG of 64 megapixels", encoded(flat, "PNG"), (TOO_MANY,))
    yield BadPhoto("bomb", "PNG of 49 megapixels", encoded(flat.crop((0, 0, 7000, 7000)), "PNG"), (SEARCHED,))
    grey = Image.new("L", (7000, 7000), 99)
    yield BadPhoto("bomb", "JPEG of 49 megapixels", encoded(grey, "JPEG"), (SEARCHED,))
    yield BadPhoto("bomb", "JPEG of 65,500 × 65,500", _jpeg_sized(65_500, 65_500), (TOO_MANY,))
    yield BadPhoto("bomb", "JPEG of 600 scans", _scans(600), (TOO_MANY,))
    yield BadPhoto("bomb", "WebP of 16,383 × 16,383", _webp_sized(16_383, 16_383), (TOO_MANY,))
    for encoding, code in (("AVIF", TRUNCATED), ("HEIC", TOO_MANY)):
        yield BadPhoto("bomb", f"{encoding} that claims 30,000²", _boxed_sized(_whole(encoding), 30_000), (code,))
    large = encoded(Image.new("RGB", (2000, 2000), "teal"), "AVIF")
    yield BadPhoto("bomb", "AVIF of 2,000² that claims 100²", _boxed_sized(large, 100), (TOO_MANY,))
    yield BadPhoto("bomb", "HEIC that claims less", _boxed_sized(_whole("HEIC"), 10), (TRUNCATED,))
    packed = zlib.compress(bytes(70 * 2**20), 9)
    yield BadPhoto("bomb", "PNG, 70 MiB of text", _with_chunk(_chunk(b"zTXt", b"a\0\0" + packed)), (TRUNCATED,))
    text = b"a\0\1\0\0\0" + packed
    yield BadPhoto("bomb", "PNG, 70 MiB of other text", _with_chunk(_chunk(b"iTXt", text)), (TRUNCATED,))
    yield BadPhoto("bomb", "PNG, 70 MiB of profile", _with_chunk(_chunk(b"iCCP", b"a\0\0" + packed)), (TRUNCATED,))
    yield BadPhoto("bomb", "PNG of 9,000 texts", _with_chunk(_chunk(b"tEXt", b"a\0b") * 9000), (SEARCHED,))
    yield BadPhoto("bomb", "GIF of 65,535²", b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(20), (OTHER_KIND,))


def _jpeg_sized(width: int, height: int) -> bytes:
    data = bytearray(_whole("JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def _webp_sized(width: int, height: int) -> bytes:
    data = bytearray(_whole("WebP"))
    struct.pack_into("<HH", data, data.index(b"\x9d\x01\x2a") + 3, width, height)
    return bytes(data)


def _boxed_sized(data: bytes, side: int) -> bytes:
    """Let the boxes of an AVIF or HEIC file claim another size than its frames have."""
    claimed = bytearray(data)
    for found in re.finditer(b"ispe", data):
        struct.pack_into(">II", claimed, found.end() + 4, side, side)
    return bytes(claimed)


def _scans(count: int) -> bytes:
    """Repeat the last scan of a progressive JPEG, which changes nothing."""
    data = encoded(Image.new("L", (2000, 2000), 99), "progressive JPEG")
    end = data.rindex(b"\xff\xd9")
    return data[:end] + data[data.rindex(b"\xff\xda") : end] * count + data[end:]


def _shapes(_: random.Random) -> Iterator[BadPhoto]:
    for width, height in ((65_535, 1), (1, 65_535), (1, 1), (2, 1), (3, 20_000)):
        thin = encoded(Image.new("RGB", (width, height), "teal"), "PNG")
        yield BadPhoto("shape", f"PNG of {width} × {height}", thin, (SEARCHED,))
    for encoding, longest in (("JPEG", 65_500), ("WebP", 16_383), ("AVIF", 8000), ("HEIC", 4000)):
        for size in ((longest, 1), (1, longest), (1, 1)):
            name = f"{encoding} of {size[0]} × {size[1]}"
            yield BadPhoto("shape", name, encoded(Image.new("RGB", size, "teal"), encoding), (SEARCHED,))


def _colours(_: random.Random) -> Iterator[BadPhoto]:
    image = picture()
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        odd = Image.new(mode, image.size, 40_000) if mode == "I;16" else image.convert(mode)
        yield BadPhoto("colours", f"PNG, {mode}", encoded(odd, "PNG"), (SEARCHED,))
    for mode in ("L", "CMYK"):
        yield BadPhoto("colours", f"JPEG, {mode}", encoded(image.convert(mode), "JPEG"), (SEARCHED,))
    see_through = encoded(image.quantize(16), "PNG", transparency=3)
    yield BadPhoto("colours", "PNG, palette with a hole", see_through, (SEARCHED,))
    no_palette = see_through[: see_through.index(b"PLTE") - 4] + see_through[see_through.index(b"IDAT") - 4 :]
    yield BadPhoto("colours", "PNG, palette that is missing", no_palette, (SEARCHED, TRUNCATED))
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, colour, 0, 0, 0))
        rows = zlib.compress((b"\0" + b"\x80\x40" * channels * 32) * 32)
        deep = PNG + header + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
        yield BadPhoto("colours", f"PNG, {channels} channels of 16 bits", deep, (SEARCHED,))
    for encoding in ("WebP", "AVIF", "HEIC"):
        see_through = encoded(image.convert("RGBA"), encoding)
        yield BadPhoto("colours", f"{encoding}, transparent", see_through, (SEARCHED,))


def _animated(_: random.Random) -> Iterator[BadPhoto]:
    frames = [Image.new("RGB", (64, 64), (i, 255 - i, 99)) for i in range(40)]
    for encoding in ("PNG", "WebP", "AVIF", "HEIC"):
        film = encoded(frames[0], encoding, save_all=True, append_images=frames[1:])
        yield BadPhoto("animated", encoding, film, (SEARCHED,))
    for kind, code in (("GIF", OTHER_KIND), ("MPO", SEARCHED)):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        yield BadPhoto("animated", kind, buffer.getvalue(), (code,))


def _profiles(chance: random.Random) -> Iterator[BadPhoto]:
    profiles = {
        "noise": chance.randbytes(600),
        "zeros": bytes(600),
        "one byte": b"\0",
        "header alone": (128).to_bytes(4, "big") + b"lcms\4\x40\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(88),
        "a million tags": bytes(36) + b"acsp" + bytes(88) + b"\x7f\xff\xff\xff" + bytes(400),
        "6 MiB": chance.randbytes(6 * 2**20),
    }
    for name, profile in profiles.items():
        for encoding in ("JPEG", "WebP"):
            data = encoded(picture(), encoding, icc_profile=profile)
            yield BadPhoto("colour profile", f"{encoding}, {name}", data, (SEARCHED,))
    for encoding in ("PNG", "AVIF"):
        data = encoded(picture(), encoding, icc_profile=profiles["noise"])
        yield BadPhoto("colour profile", f"{encoding}, noise", data, (SEARCHED,))


def _exif(chance: random.Random) -> Iterator[BadPhoto]:
    begin = b"II*\0\x08\0\0\0"
    blocks = {
        "noise": chance.randbytes(400),
        "nothing": b"",
        "offset beyond its end": b"II*\0\xff\xff\xff\x7f",
        "directory that leads to itself": begin + b"\0\0\x08\0\0\0",
        "65,535 entries": begin + b"\xff\xff" + chance.randbytes(500),
        "value of 4 GiB": begin + struct.pack("<HHHII", 1, ORIENTATION, 3, 2**31 - 1, 8) + bytes(4),
        "text as orientation": begin + struct.pack("<HHHI4s", 1, ORIENTATION, 2, 4, b"six\0") + bytes(4),
        "no orientation": begin + struct.pack("<HHHIHH", 1, ORIENTATION, 3, 0, 0, 0) + bytes(4),
    }
    for turn in (0, 9, 65_535):
        blocks[f"orientation {turn}"] = begin + struct.pack("<HHHIHH", 1, ORIENTATION, 3, 1, turn, 0) + bytes(4)
    for name, block in blocks.items():
        segment = b"Exif\0\0" + block
        app1 = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
        yield BadPhoto("EXIF", f"JPEG, {name}", _whole("JPEG")[:2] + app1 + _whole("JPEG")[2:], (SEARCHED,))
        yield BadPhoto("EXIF", f"PNG, {name}", _with_chunk(_chunk(b"eXIf", block)), (SEARCHED,))


def _nothing(chance: random.Random) -> Iterator[BadPhoto]:
    yield BadPhoto("no photo", "no byte", b"", ("empty_body",))
    for count in (1, 100, 10**6):
        yield BadPhoto("no photo", f"{count} zeros", bytes(count), (NO_IMAGE,))
        yield BadPhoto("no photo", f"{count} times 255", b"\xff" * count, (NO_IMAGE,))
        yield BadPhoto("no photo", f"noise of {count}", b"~" + chance.randbytes(count), (NO_IMAGE,))


def _flipped(chance: random.Random) -> Iterator[BadPhoto]:
    for encoding in ENCODINGS:
        for number in range(FLIPS):
            data = bytearray(_whole(encoding))
            for _ in range(1 + number // 2):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            yield BadPhoto("flipped bits", f"{encoding}, {number}", bytes(data), ANY)


MAKERS = (
    _truncated,
    _wrong_magic,
    _other_kinds,
    _polyglots,
    _bombs,
    _shapes,
    _colours,
    _animated,
    _profiles,
    _exif,
    _nothing,
    _flipped,
)
