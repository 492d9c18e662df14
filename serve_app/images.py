"""Photos as they arrive, made into working photos and crops.

Whatever changes the pixels that a model sees is part of `PREPROCESSING_VERSION`, which is part of
every embedding's fingerprint.
"""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Callable
from functools import cache, lru_cache

import cv2
import numpy as np
from PIL import AvifImagePlugin, ExifTags, Image, ImageCms, ImageFile

from serve_app.av1 import coded_pixels
from serve_app.domain import Box, Crops, Photo, Pixels
from serve_app.errors import BadConfig, EmptyBody, NotAnImage, TooManyPixels, Truncated, UnsupportedType
from serve_app.isobmff import brands, check_copies
from serve_app.jpeg_scans import MOST_SCANS, has_too_many_scans

log = logging.getLogger(__name__)
# Photos are decoded side by side; threads of OpenCV's own would take the cores from those that run the models.
cv2.setNumThreads(1)

PREPROCESSING_VERSION = 2
WORKING_SIDE_PX = 1600
CROP_SIDE_PX = 224
CROP_RULE = "squash"
"""A crop is exactly its box, resized to a square without keeping the aspect ratio."""

MAX_PIXELS = 50_000_000
KINDS = "JPEG, PNG, WebP, AVIF or HEIC"
FORMATS = ("JPEG", "PNG", "WEBP")
AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
FRAMES = 3
"""An AVIF file may hold so many frames as large as it says: the photo, its transparency, its brighter version."""
SMALL_PIXELS = 2**20
"""Whatever an AVIF file says, it may hold frames of this size."""
MOST_PROFILE_BYTES = 4 * 2**20
"""A larger colour profile is left out; the largest of printing presses have 3 MB."""
KEPT_PROFILE_BYTES = 64 * 1024
"""Transforms of larger profiles are made anew each time: what is kept must not grow with what strangers send."""
DAMAGED = "the photo ends before it is complete, or is damaged; upload it again"
_NO_PHOTO = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error)
"""What Pillow and its plugins raise for a file that they can't read."""
_NO_EXIF = (*_NO_PHOTO, LookupError, TypeError)

_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"BM": "BMP",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"\x00\x00\x01\x00": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
}
# https://exiftool.org/TagNames/EXIF.html, tag 0x0112: how the stored rows and columns are to be turned.
_TURNS: dict[int, Callable[[Pixels], np.ndarray]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.flip(pixels, -1),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Make the working photo of a JPEG, PNG, WebP, AVIF or HEIC file; of several pictures in it, of the first.

    Raises EmptyBody, UnsupportedType, NotAnImage, Truncated, or TooManyPixels (before any pixel
    is decoded).
    """
    file = _open(data)
    _check_work(file, data, max_pixels)
    turn = _turn(file)
    width, height = file.size
    if turn in _TURNS and turn >= 5:
        width, height = height, width
    try:
        # Lets the JPEG decoder work at a reduced scale, so a phone's 12 megapixels cost no more than 3.
        file.draft(None, _draft_size(file.size))
        file.load()
    except _NO_PHOTO as error:
        raise Truncated(DAMAGED) from error
    pixels = _pixels(_eight_bits(file))
    if turn in _TURNS:
        pixels = _TURNS[turn](pixels)
    return Photo(pixels, width, height)


def cut(photo: Photo, box: Box, side_px: int = CROP_SIDE_PX) -> Pixels:
    """Resize what the box holds, to the nearest whole pixel and nothing beyond it, to (side, side, 3)."""
    height, width = photo.pixels.shape[:2]
    left, right = _span(box.x0, box.x1, width)
    top, bottom = _span(box.y0, box.y1, height)
    image = Image.fromarray(photo.pixels[top:bottom, left:right])
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BILINEAR))


def _span(start: float, end: float, size: int) -> tuple[int, int]:
    first = min(max(0, round(start * size)), size - 1)
    return first, min(max(first + 1, round(end * size)), size)


def cut_all(photo: Photo, boxes: list[Box], side_px: int = CROP_SIDE_PX) -> Crops:
    """Cut every box, in order: (n, side, side, 3)."""
    if not boxes:
        return np.empty((0, side_px, side_px, 3), np.uint8)
    return np.stack([cut(photo, box, side_px) for box in boxes])


def _check_work(file: ImageFile.ImageFile, data: bytes, max_pixels: int) -> None:
    """Raise TooManyPixels where decoding would take more than that many pixels, or Truncated where that can't be told.

    Some files ask for more of it than their size says.
    """
    if file.width * file.height > max_pixels:
        raise TooManyPixels(
            f"the photo has {file.width} × {file.height} pixels, more than {max_pixels:,}; send a smaller one"
        )
    if file.format in ("JPEG", "MPO") and has_too_many_scans(data):
        raise TooManyPixels(f"the photo goes over its pixels more than {MOST_SCANS} times; save it as an ordinary JPEG")
    if file.format != "AVIF":
        return
    try:
        pixels = coded_pixels(data)
    except ValueError as error:
        raise Truncated(DAMAGED) from error
    if pixels > FRAMES * min(max_pixels, max(SMALL_PIXELS, file.width * file.height)):
        raise TooManyPixels(f"the photo is made of {pixels:,} pixels, more than it says; send a smaller one")


def _open(data: bytes) -> ImageFile.ImageFile:
    if not data:
        raise EmptyBody("the request has no photo; send one as multipart field 'photo'")
    try:
        found = brands(data[: 2**16])
        if found & AVIF_BRANDS:
            return _open_avif(data)
        if found & HEIC_BRANDS:
            formats = _heic()
            check_copies(data)
            return Image.open(io.BytesIO(data), formats=formats)
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise TooManyPixels("the photo has far too many pixels; send a smaller one") from error
    except _NO_PHOTO as error:
        if _starts_like_a_photo(data):
            raise Truncated(DAMAGED) from error
        name = _other_format(data)
        if name is not None:
            raise UnsupportedType(f"this is a {name} file; send a {KINDS} photo") from error
        raise NotAnImage(f"this is no image; send a {KINDS} photo") from error


def _open_avif(data: bytes) -> ImageFile.ImageFile:
    """Open the still picture of an AVIF file: one that is called animated would be decoded as a film."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return Image.open(io.BytesIO(data[:8] + b"avif" + data[12:]), formats=("AVIF",))


@cache
def _heic() -> tuple[str, ...]:
    """Return the names of the formats that HEIC is read by; raises UnsupportedType where its reader is missing."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        words = (
            "this is a HEIC file, which this service has no reader for (pillow-heif, of the extra serve, is missing)"
        )
        raise UnsupportedType(f"{words}; send a JPEG, PNG or WebP photo") from error
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return ("HEIF",)


def _starts_like_a_photo(data: bytes) -> bool:
    if brands(data[: 2**16]) & (AVIF_BRANDS | HEIC_BRANDS):
        return True
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _other_format(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "video"
    return next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)


def _turn(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _NO_EXIF:
        # A damaged EXIF block must not cost the shopper the search.
        return 1
    return value if isinstance(value, int) else 1


def _draft_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, WORKING_SIDE_PX / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" or image.mode == "1":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "PA", "La", "RGBa"):
        return image.convert("RGBA")
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        return image.convert("RGBA")
    return image


def _pixels(image: Image.Image) -> Pixels:
    if image.mode == "RGB" and "icc_profile" not in image.info:
        return _scaled(image)
    return np.asarray(_opaque_srgb(_reduced(image)))


def _reduced(image: Image.Image) -> Image.Image:
    if max(image.size) <= WORKING_SIDE_PX:
        return image
    # The colour of what is transparent stays out.
    flat = image.convert("RGBa") if image.mode == "RGBA" else image
    pixels = _scaled(flat)
    reduced = Image.frombuffer(flat.mode, pixels.shape[1::-1], pixels, "raw", flat.mode, 0, 1)
    reduced.info = image.info
    return reduced.convert("RGBA") if image.mode == "RGBA" else reduced


def _scaled(image: Image.Image) -> Pixels:
    """Return the image's pixels, with its long side within the working photo's.

    Whole blocks of pixels are averaged until less than half is left to go, where one linear step misses no pixel; a
    bicubic filter takes as long as the decoder does.
    """
    blocks = max(image.size) // WORKING_SIDE_PX
    pixels: Pixels = np.asarray(image.reduce(blocks) if blocks > 1 else image)
    if max(image.size) <= WORKING_SIDE_PX:
        return pixels
    return np.asarray(cv2.resize(pixels, _draft_size(image.size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _opaque_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    flat = image.convert("RGB") if alpha is not None else image
    flat = _to_srgb(flat, profile) if profile and len(profile) <= MOST_PROFILE_BYTES else _rgb(flat)
    if alpha is None:
        return flat
    white = Image.new("RGB", flat.size, "white")
    white.paste(flat, mask=alpha)
    return white


def _rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")  # which copies even what is RGB


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        is_kept = len(profile) <= KEPT_PROFILE_BYTES
        transform = _kept_transform(profile, image.mode) if is_kept else _transform(profile, image.mode)
        if transform is None:
            return _rgb(image)
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        log.debug("unusable colour profile left out")
        return image.convert("RGB")
    return converted if converted is not None else image.convert("RGB")


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB, or None where the profile is sRGB itself."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
        return None
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


_kept_transform = lru_cache(maxsize=32)(_transform)


def picture_hash(photo: Photo) -> str:
    """Return the perceptual hash of a picture, 64 bits as 16 hex digits: few differ where a picture was only resized.

    By the signs of its lowest frequencies, as ImageHash's `phash`.
    """
    try:
        import imagehash
    except ImportError as error:
        raise BadConfig("pictures that are the same are told by ImageHash; install shoplens[import]") from error
    return str(imagehash.phash(Image.fromarray(photo.pixels)))
