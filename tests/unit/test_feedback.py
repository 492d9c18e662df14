"""What is logged of answers and of what shoppers did, for how long, and what may be made of it."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from serve_app.config import Config
from serve_app.domain import WHOLE_BOX, Box
from serve_app.errors import Forbidden, NotAnImage
from serve_app.feedback.files import CROPS, LOG, Bounds, outdated, read_log, sweep, to_parquet
from serve_app.feedback.log import FeedbackLog, crop_file
from serve_app.feedback.records import Act, Done, Feedback, Shown, asked_of, join, shown_of
from serve_app.folders import File, Folder
from serve_app.keeping import Bounds as StoreBounds
from serve_app.keeping import ShelfStore
from serve_app.keys import Role
from serve_app.photos import Photos
from tests.unit.test_api import ANSWER

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
OWNER = "key:0123456789abcdef"
MANY = Bounds(days=10, max_bytes=10**6, max_files=100)


def shown(products=("a", "b", "c"), asked="r", **changed):
    values = {
        "at_ms": 1, "asked": asked, "object_id": "o0", "source": "whole", "main": True, "further": False, "like": "",
        "model": "m", "collection": "c", "products": products, "images": tuple(f"i{each}" for each in products),
    }  # fmt: skip
    return Shown(**values | changed)


def done(product_id, act=Act.CLICK, position=None, asked="r", object_id="o0", crop=""):
    return Done(2, asked, object_id, act, product_id, position, "search", crop)


def photo(width=100, height=80) -> bytes:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def with_token(token):
    return replace(ANSWER, token=token)


class Shop:
    """A log, with a clock that tests move."""

    def __init__(self, folder, **settings):
        self.now, self.seconds = NOW, 0.0
        self.folder = Folder(str(folder))
        self.store = ShelfStore(StoreBounds(10**6, 10**6, 900), clock=lambda: self.seconds)
        self.photos = Photos(self.store, timeout_s=5, clean=lambda data: data)
        config = Config(feedback={"enabled": True, "folder": str(folder), **settings})
        self.log = FeedbackLog(config, self.photos, now=lambda: self.now, clock=lambda: self.seconds)

    def rows(self):
        parts = list(read_log(self.folder))
        return [each for part in parts for each in part[0]], [each for part in parts for each in part[1]]


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path / "log", keep_crops=True)


async def test_log_holds_ids_and_positions_and_nothing_of_the_caller(shop):
    shop.log.show(OWNER, "request-1", ANSWER)
    await shop.log.take(OWNER, Role.PUBLIC, Feedback("request-1", "o0", Act.CLICK, "p1", 1))
    await shop.log.flush()
    (answer,), (act,) = shop.rows()
    assert (answer.products, answer.images, answer.object_id, answer.main) == (("p1",), ("i1",), "o0", True)
    assert (act.product_id, act.position, act.act, act.role) == ("p1", 1, Act.CLICK, "public")
    assert answer.asked == act.asked == asked_of("request-1")
    (file,) = shop.folder.files(LOG)
    data = shop.folder.read(file.name)
    assert OWNER.encode() not in data
    assert b"request-1" not in data


async def test_lists_without_products_are_not_logged():
    assert [each.object_id for each in shown_of(ANSWER, "r", 0)] == ["o0"]


async def test_crop_is_kept_with_consent_and_is_the_box_without_metadata(shop):
    token = await shop.photos.keep(OWNER, photo())
    shop.log.show(OWNER, "r", with_token(token))
    assert await shop.log.take(OWNER, Role.SEARCH, Feedback("r", "o0", Act.BUY, "p1", 1, consent=True))
    (crop,) = shop.folder.files(CROPS)
    image = Image.open(io.BytesIO(shop.folder.read(crop.name)))
    assert image.size == (20, 16)
    assert not image.getexif()
    await shop.log.flush()
    assert shop.rows()[1][0].crop == crop.name


@pytest.mark.parametrize(
    ("keep_crops", "owner", "object_id", "consent"),
    [
        (True, OWNER, "o0", False),
        (False, OWNER, "o0", True),
        (True, "key:somebody else", "o0", True),
        (True, OWNER, "o7", True),
    ],
)
async def test_no_crop_is_kept_otherwise(tmp_path, keep_crops, owner, object_id, consent):
    shop = Shop(tmp_path / "log", keep_crops=keep_crops)
    shop.log.show(OWNER, "r", with_token(await shop.photos.keep(OWNER, photo())))
    assert not await shop.log.take(owner, Role.SEARCH, Feedback("r", object_id, Act.BUY, "p1", 1, consent=consent))
    assert shop.folder.files(CROPS) == []


async def test_late_feedback_is_logged_without_a_crop(shop):
    shop.log.show(OWNER, "r", with_token(await shop.photos.keep(OWNER, photo())))
    shop.seconds += 901
    assert not await shop.log.take(OWNER, Role.SEARCH, Feedback("r", "o0", Act.BUY, "p1", 1, consent=True))
    await shop.log.flush()
    assert shop.rows()[1][0].crop == ""


async def test_off_nothing_is_logged_and_feedback_is_refused(tmp_path):
    shop = Shop(tmp_path / "log", enabled=False)
    shop.log.show(OWNER, "r", ANSWER)
    with pytest.raises(Forbidden, match=r"feedback\.enabled"):
        await shop.log.take(OWNER, Role.ADMIN, Feedback("r", "o0", Act.CLICK, "p1", 1))
    await shop.log.flush()
    await shop.log.run()
    assert not (tmp_path / "log").exists()


async def test_what_waits_for_a_folder_that_is_away_is_bounded_and_written_later(tmp_path):
    (tmp_path / "log").write_text("in the way")
    shop = Shop(tmp_path / "log", rows_per_file=2)
    for number in range(30):
        shop.log.show(OWNER, f"r{number}", ANSWER)
        await shop.log.flush()
    (tmp_path / "log").unlink()
    await shop.log.flush()
    assert [each.asked for each in shop.rows()[0]] == [asked_of(f"r{number}") for number in range(20, 30)]


def test_a_photo_that_is_none_gives_no_crop():
    with pytest.raises(NotAnImage):
        crop_file(b"\xff\xd8nothing", WHOLE_BOX, 10**6)


def test_crops_are_small():
    image = Image.open(io.BytesIO(crop_file(photo(1500, 1000), Box(0, 0, 1, 1), 10**7)))
    assert image.size == (640, 427)


def names(*days):
    stamps = [(NOW - timedelta(days=day)).strftime("%Y%m%dT%H%M%SZ") for day in days]
    return [File(f"log/{stamp}-0a1b2c3d-0.parquet", 10) for stamp in stamps]


def test_old_files_go_and_those_of_others_stay():
    files = [*names(11, 9, 1), File("log/notes.txt", 10), File("log/20200101T000000Z.csv", 10)]
    assert outdated(files, NOW, MANY) == [files[0].name]


@pytest.mark.parametrize("bounds", [Bounds(99, 25, 100), Bounds(99, 10**6, 2)])
def test_oldest_of_too_many_go_first(bounds):
    files = names(1, 4, 3, 2)
    assert outdated(files, NOW, bounds) == [files[1].name, files[2].name]


def test_sweeping_deletes_from_both_folders(tmp_path):
    folder = Folder(str(tmp_path))
    for name in ("log/20261101T000000Z-0a-0.parquet", "crops/20261124T000000Z-0a-o0.jpg"):
        folder.write(name, b"data")
    assert sweep(folder, NOW, MANY, Bounds(1, 10**6, 10)) == 2
    assert folder.files() == []


def test_parquet_keeps_all_of_it(tmp_path):
    folder = Folder(str(tmp_path))
    rows = [shown(), shown(like="x")], [done("a", crop="crops/1.jpg"), done(None, Act.NONE_FITS)]
    folder.write("log/20261125T000000Z-0a-0.parquet", to_parquet(*rows))
    assert list(read_log(folder)) == [rows]


def test_weightiest_act_counts_and_what_stood_above_was_skipped():
    (judged,) = join([shown()], [done("b", position=2), done("b", Act.BUY), done("b", Act.CART)]).lists
    assert judged.acts == {"b": Act.BUY}
    assert judged.skipped == ("a",)


def test_where_none_fits_all_were_skipped():
    (judged,) = join([shown()], [done(None, Act.NONE_FITS, crop="crops/1.jpg")]).lists
    assert (judged.acts, judged.skipped, judged.crop) == ({}, ("a", "b", "c"), "crops/1.jpg")


@pytest.mark.parametrize(
    "false",
    [
        done("z"),
        done("a", position=2),
        done("a", position=9),
        done("a", asked="another"),
        done("a", object_id="o1"),
        done(None, Act.CLICK),
    ],
)
def test_feedback_about_what_was_not_shown_does_not_count(false):
    joined = join([shown()], [false])
    assert (joined.lists, joined.unmatched) == ((), 1)
