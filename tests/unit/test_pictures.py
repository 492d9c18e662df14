"""Pictures of catalogue images: which files are opened, and how they are served."""

import io
import os

import pytest
from PIL import Image

from serve_app.config import AuthConfig, Config, PageConfig
from serve_app.errors import Overloaded, UnknownImage
from serve_app.image_folders import image_folders, imported, remember
from serve_app.pictures import MOST_WAITING, Picture, Pictures, Width, thumbnail
from tests.unit.test_api import FakeService, code, request

ID = "0123456789abcdef0123456789abcdef"


def photo(width=900, height=600, kind="JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "catalogue").mkdir()
    (tmp_path / "catalogue/1.jpg").write_bytes(photo())
    (tmp_path / "secret.jpg").write_bytes(photo())
    return tmp_path / "catalogue"


def pictures(folder, max_bytes=10**6, max_pixels=10**6) -> Pictures:
    return Pictures(lambda: [folder], max_bytes=max_bytes, max_pixels=max_pixels)


def opened(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.data))


@pytest.mark.parametrize(("width", "size"), [(Width.SMALL, (160, 107)), (Width.LARGE, (640, 427))])
async def test_picture_fits_into_its_square(folder, width, size):
    found = opened(await pictures(folder).picture(str(folder / "1.jpg"), width))
    assert (found.format, found.size) == ("JPEG", size)


async def test_small_image_is_not_made_larger(folder):
    (folder / "2.png").write_bytes(photo(40, 30, "PNG"))
    assert opened(await pictures(folder).picture(str(folder / "2.png"), Width.MEDIUM)).size == (40, 30)


async def test_picture_that_is_known_is_not_made_again(folder):
    made = pictures(folder)
    etag = (await made.picture(str(folder / "1.jpg"), Width.SMALL)).etag
    assert await made.picture(str(folder / "1.jpg"), Width.SMALL, [etag]) == Picture(etag)
    other = await made.picture(str(folder / "1.jpg"), Width.MEDIUM, [etag])
    assert other.etag != etag
    os.utime(folder / "1.jpg", ns=(1, 1))
    assert (await made.picture(str(folder / "1.jpg"), Width.SMALL, [etag])).data


@pytest.mark.parametrize("name", ["../secret.jpg", "link.jpg", "folder/../../secret.jpg", "", "none.jpg", "a\0b"])
async def test_what_lies_elsewhere_is_not_opened(folder, name):
    (folder / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    with pytest.raises(UnknownImage):
        await pictures(folder).picture(f"{folder}/{name}", Width.SMALL)


async def test_folder_that_is_a_link_holds_what_it_leads_to(folder):
    (folder.parent / "current").symlink_to(folder)
    made = pictures(folder.parent / "current")
    assert (await made.picture(str(folder.parent / "current/1.jpg"), Width.SMALL)).data


async def test_what_is_no_photo_or_too_large_has_no_picture(folder):
    (folder / "keys.txt").write_text("secret")
    os.mkfifo(folder / "pipe.jpg")
    for name, bounds in (
        ("keys.txt", {}),
        ("pipe.jpg", {}),
        ("1.jpg", {"max_bytes": 100}),
        ("1.jpg", {"max_pixels": 100}),
    ):
        with pytest.raises(UnknownImage):
            await pictures(folder, **bounds).picture(str(folder / name), Width.SMALL)


async def test_only_so_many_pictures_wait(folder):
    made = pictures(folder)
    made._waiting = MOST_WAITING
    with pytest.raises(Overloaded):
        await made.picture(str(folder / "1.jpg"), Width.SMALL)


def test_picture_is_upright_and_of_srgb():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("CMYK", (60, 30)).save(file, "JPEG", exif=exif)
    made = Image.open(io.BytesIO(thumbnail(file.getvalue(), Width.SMALL, max_pixels=10**6)))
    assert (made.size, made.mode, dict(made.getexif())) == ((30, 60), "RGB", {})


def test_folders_are_those_that_imports_noted_once_each(tmp_path):
    for name in ("/a/photos", "/b", "/a/photos", "/odd\udcff"):
        remember(tmp_path, name)
    assert [str(each) for each in imported(tmp_path)] == ["/a/photos", "/b", "/odd\udcff"]


def test_folders_are_none_unless_the_settings_say_which(tmp_path):
    remember(tmp_path, "/a")
    of = {
        given: [str(each) for each in image_folders(Config(data_dir=tmp_path, page=PageConfig(image_folders=given)))()]
        for given in (None, (), ("/c",), "imported")
    }
    assert of == {None: [], (): [], ("/c",): ["/c"], "imported": ["/a"]}


class WithPictures(FakeService):
    def __init__(self, auth: AuthConfig | None = None) -> None:
        super().__init__(auth=auth)
        self.asked: list[tuple[str, int]] = []

    async def picture(self, image_id, width, known):
        self.asked.append((image_id, width))
        if image_id != ID:
            raise UnknownImage("none")
        return Picture('"tag"', None if '"tag"' in known else b"jpeg")


def test_picture_is_served_with_what_lets_a_browser_keep_it():
    service = WithPictures()
    found = request(service, "GET", f"/v1/images/{ID}?width=640")
    assert (found.status_code, found.content, found.headers["content-type"]) == (200, b"jpeg", "image/jpeg")
    assert found.headers["x-content-type-options"] == "nosniff"
    assert found.headers["cache-control"] == "private, max-age=3600"
    again = request(service, "GET", f"/v1/images/{ID}", headers={"If-None-Match": f"W/{found.headers['etag']}"})
    assert (again.status_code, again.content) == (304, b"")
    assert service.asked == [(ID, 640), (ID, 320)]


@pytest.mark.parametrize("width", ["0", "321", "100000", "x"])
def test_other_widths_are_refused(width):
    service = WithPictures()
    assert code(request(service, "GET", f"/v1/images/{ID}?width={width}")) == (422, "bad_parameter")
    assert not service.asked


def test_unknown_image_is_not_found():
    assert code(request(WithPictures(), "GET", "/v1/images/..%2F..%2Fetc%2Fpasswd")) == (404, "unknown_image")


def test_page_without_a_key_sees_pictures_and_they_are_not_counted():
    service = WithPictures(AuthConfig(public=True, requests_per_minute_per_address=1))
    own = {"Sec-Fetch-Site": "same-origin"}
    answers = [request(service, "GET", f"/v1/images/{ID}", headers=own) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 200]
    assert "ratelimit" not in answers[0].headers
    assert code(request(service, "GET", f"/v1/images/{ID}")) == (403, "origin_refused")
