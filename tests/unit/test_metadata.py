import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from pillow_heif import register_heif_opener

from serve_app.images import decode
from serve_app.metadata import without_metadata

register_heif_opener()
KINDS = ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"]
SECRET = "52 Somewhere Street"


def picture(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def photo(kind: str, orientation: int = 1, mode: str = "RGB", **options: object) -> bytes:
    """Return a photo as a phone makes it: EXIF with a place, a comment, XMP, and a profile."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = SECRET
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = SECRET.encode()
    given = {"exif": exif, "xmp": f"<x>{SECRET}</x>".encode(), **options}
    if mode == "RGB":
        given["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if kind == "JPEG":
        given["comment"] = SECRET
    if kind == "PNG":
        given["pnginfo"] = PngImagePlugin.PngInfo()
        given["pnginfo"].add_text("Author", SECRET)
        given.pop("xmp")
    buffer = io.BytesIO()
    picture(mode).save(buffer, kind, **given)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode(data).pixels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_looks_the_same_and_tells_nothing(kind, orientation):
    before = photo(kind, orientation)
    after = without_metadata(before)
    assert SECRET.encode() in before
    assert SECRET.encode() not in after
    np.testing.assert_array_equal(pixels(after), pixels(before))
    assert Image.open(io.BytesIO(after)).info["icc_profile"] == Image.open(io.BytesIO(before)).info["icc_profile"]
    assert set(Image.open(io.BytesIO(after)).getexif()) <= {ExifTags.Base.Orientation}


@pytest.mark.parametrize("kind", [b"free", b"skip", b"uuid"])
def test_boxes_beside_a_boxed_photo_are_blanked(kind):
    before = photo("AVIF") + (8 + len(SECRET)).to_bytes(4, "big") + kind + SECRET.encode()
    assert SECRET.encode() not in without_metadata(before)
    np.testing.assert_array_equal(pixels(without_metadata(before)), pixels(before))


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}], ids=str)
def test_every_kind_of_jpeg_looks_the_same(options):
    before = photo("JPEG", 6, **options)
    np.testing.assert_array_equal(pixels(without_metadata(before)), pixels(before))


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_colours_of_other_modes_stay(mode):
    before = photo("JPEG", mode=mode)
    np.testing.assert_array_equal(pixels(without_metadata(before)), pixels(before))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_what_follows_the_picture_is_left_out(kind):
    assert b"a video" not in without_metadata(photo(kind) + b"a video, or another picture")


def test_photo_without_metadata_stays_as_it_is():
    buffer = io.BytesIO()
    picture().save(buffer, "PNG")
    assert without_metadata(buffer.getvalue()) == buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_file_raises_nothing(kind):
    whole = photo(kind)
    for size_bytes in range(0, len(whole), 97):
        without_metadata(whole[:size_bytes])


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"RIFF\x00\x00\x00\x00WAVE", b"\xff\xd8\xff\xe1"])
def test_what_is_no_photo_of_a_known_kind_is_not_kept(data):
    assert without_metadata(data) is None
