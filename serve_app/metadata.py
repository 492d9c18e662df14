"""Photos without what cameras write into them: places, times, names, thumbnails.

Only bytes are left out: what is decoded stays the same to the pixel, so orientation and colour profile stay.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

from serve_app.isobmff import METADATA, boxes, items

UPRIGHT = 1
_EXIF = b"Exif\x00\x00"

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""What ends the data of a JPEG's scan: neither a stuffed byte nor a restart marker."""
_SCAN, _END = 0xDA, 0xD9
_APPS = range(0xE0, 0xF0)
_COMMENT = 0xFE
_KEPT_APPS = {0xE0: b"JFIF\x00", 0xE2: b"ICC_PROFILE\x00", 0xEE: b"Adobe"}
"""The segments that a decoder needs: resolution, colour profile, how CMYK is stored."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_LEFT_OUT = (*_PNG_TEXTS, b"eXIf", b"tIME")
_WEBP_LEFT_OUT = (b"EXIF", b"XMP ")
_WEBP_FLAGS = {b"EXIF": 0b1000, b"XMP ": 0b100}

_EXIF_ITEM = b"Exif"
_BLANKED_BOXES = (b"free", b"skip", b"uuid", b"udta")
_NO_EXIF = bytes(4) + b"II*\x00\x08\x00\x00\x00" + bytes(6)
"""An item of EXIF that says nothing: where its TIFF begins, and that without entries."""


def without_metadata(photo: bytes) -> bytes | None:
    """Return a JPEG, PNG, WebP, AVIF or HEIC photo without metadata; None where its parts can't be told apart.

    The photo has been decoded once, so that it is one is known.
    """
    try:
        if photo.startswith(b"\xff\xd8"):
            return b"".join(_jpeg(photo, _exif(photo)))
        if photo.startswith(_PNG):
            return b"".join(_png(photo))
        if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP":
            return _webp(photo, _exif(photo))
        if photo[4:8] == b"ftyp":
            return _boxed(photo)
    except (struct.error, IndexError, OSError, SyntaxError, ValueError):
        return None
    return None


def _exif(photo: bytes) -> bytes:
    """Return EXIF that holds the orientation alone, and nothing where the photo is upright."""
    try:
        turn = Image.open(io.BytesIO(photo)).getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError):
        return b""  # As `images.decode` takes a damaged block.
    if turn == UPRIGHT or not isinstance(turn, int):
        return b""
    kept = Image.Exif()
    kept[ExifTags.Base.Orientation] = turn
    return kept.tobytes()


def _jpeg(photo: bytes, exif: bytes) -> Iterator[bytes]:
    """Yield the file's parts up to its end; what follows that, as a phone's video or second picture, is left out."""
    yield photo[:2]
    if exif:
        yield struct.pack(">BBH", 0xFF, 0xE1, len(exif) + 2) + exif
    position = 2
    while position < len(photo):
        found = _MARKER.search(photo, position)
        if found is None:
            yield photo[position:]
            return
        yield photo[position : found.start()]
        marker = photo[found.start() + 1]
        if marker == _END:
            yield found[0]
            return
        position = found.end() + struct.unpack_from(">H", photo, found.end())[0]
        if marker != _COMMENT and (marker not in _APPS or _is_kept(photo, found.end() + 2, marker)):
            yield photo[found.start() : position]


def _is_kept(photo: bytes, start: int, marker: int) -> bool:
    name = _KEPT_APPS.get(marker)
    return name is not None and photo.startswith(name, start)


def _png(photo: bytes) -> Iterator[bytes]:
    yield _PNG
    position, chunks = len(_PNG), []
    while position < len(photo):
        (size,) = struct.unpack_from(">I", photo, position)
        kind = photo[position + 4 : position + 8]
        chunks.append((kind, photo[position : position + size + 12]))
        position += size + 12
        if kind == b"IEND":
            break
    # Pillow decodes the whole file to look for EXIF where there is nothing of it, so look before.
    exif = _exif(photo).removeprefix(_EXIF) if any(kind in (*_PNG_TEXTS, b"eXIf") for kind, _ in chunks) else b""
    for kind, chunk in chunks:
        if kind not in _PNG_LEFT_OUT:
            yield chunk
        if kind == b"IHDR" and exif:
            body = b"eXIf" + exif
            yield struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))


def _webp(photo: bytes, exif: bytes) -> bytes:
    kept, position = [], 12
    end = min(len(photo), 8 + struct.unpack_from("<I", photo, 4)[0])
    while position + 8 <= end:
        kind, size = struct.unpack_from("<4sI", photo, position)
        chunk = photo[position : position + 8 + size + size % 2]
        position += 8 + size + size % 2
        if kind == b"VP8X":
            flags = chunk[8] & ~sum(_WEBP_FLAGS.values()) | (_WEBP_FLAGS[b"EXIF"] if exif else 0)
            chunk = chunk[:8] + bytes([flags]) + chunk[9:]
        if kind not in _WEBP_LEFT_OUT:
            kept.append(chunk)
    if exif:
        kept.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif + bytes(len(exif) % 2))
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _boxed(photo: bytes) -> bytes:
    """Blank what says something of a HEIC or AVIF photo; its parts stay in place, as others tell where they are.

    How it is turned stands in a box of its own.
    """
    blanked = bytearray(photo)
    for kind, extents in {(item.kind, item.extents) for item in items(photo) if item.kind in METADATA}:
        for start, end in extents:
            blank = _NO_EXIF if kind == _EXIF_ITEM and (start, end) == extents[0] else b""
            blanked[start:end] = blank[: end - start].ljust(end - start, b"\x00")
    for kind, start, end in boxes(photo, 0, len(photo)):
        if kind in _BLANKED_BOXES:
            blanked[start:end] = bytes(end - start)
    return bytes(blanked)
