"""Whole products leave the same in the index on every engine, in whatever order they come."""

import random

import pytest

from serve_app.catalogue.products import GivenImages, ProductWriter
from serve_app.catalogue.reading import Bytes
from serve_app.changes import GivenImage, Put, Removal, Result
from serve_app.collection import default_image_id
from serve_app.milvus.tombstones import Tombstones
from tests.contract.test_feed import LATEST_MS, Shop

FRONT, BACK = GivenImage(url="https://shop/front.jpg"), GivenImage(url="https://shop/behind.jpg")


class NoImages:
    def is_web(self, image):
        return False

    def read(self, images, known):
        return [Bytes(image.encode(), None) for image in images]


class ProductShop(Shop):
    def __init__(self, index):
        super().__init__(index)
        tombstones = Tombstones(index.client, index.catalogue, index.engine.config)
        self.products = ProductWriter(self.sink, self.writer, tombstones, GivenImages(NoImages()), lambda: LATEST_MS)

    def put(self, *images, at=0, product_id="7", **values):
        return Put(product_id, images, at_ms=self.start_ms + at, **values)

    def removal(self, at=0, product_id="7"):
        return Removal(product_id, self.start_ms + at)

    def results(self, *changes):
        return [changed.result for changed in self.products.apply(changes)]

    def images(self, product_id="7"):
        return {row["image_id"] for row in self.rows().values() if row["product_id"] == product_id}


@pytest.fixture
def shop(index):
    shop = ProductShop(index)
    yield shop
    shop.writer.delete({row["image_id"] for row in shop.rows().values()})


def names(*images, product_id="7"):
    return {default_image_id(product_id, image.url) for image in images}


def test_product_is_as_it_was_put_last(shop):
    assert shop.results(shop.put(FRONT, BACK, category="Home/Chairs")) == [Result.STORED]
    assert shop.images() == names(FRONT, BACK)
    assert shop.results(shop.put(BACK, at=1, category="Garden/Seats", price=("5", "EUR"))) == [Result.STORED]
    assert shop.images() == names(BACK)
    assert {(row["category_root"], row["price"], row["view"]) for row in shop.rows().values()} == {
        ("Garden", 500, "whole"),
        ("Garden", 500, "object"),
    }
    assert shop.results(shop.removal(at=2), shop.removal(at=2)) == [Result.DELETED, Result.UNCHANGED]
    assert shop.rows() == {}


def test_older_change_is_stale_also_for_an_image_that_the_product_never_had(shop):
    shop.results(shop.put(FRONT, at=5))
    before = shop.rows()
    assert shop.results(shop.put(FRONT, BACK, at=4), shop.removal(at=3)) == [Result.STALE, Result.STALE]
    assert shop.rows() == before


def test_the_order_of_changes_does_not_matter(shop):
    draw = random.Random(7)
    changes = []
    for at in range(0, 24, 2):
        product_id = "78"[at // 2 % 2]
        images = draw.sample([FRONT, BACK, GivenImage(url="https://shop/top.jpg")], k=draw.randint(1, 3))
        titles = {"en": f"of {at}"}
        changes.append(
            shop.removal(at, product_id)
            if at in (6, 20)
            else shop.put(*images, at=at, product_id=product_id, titles=titles)
        )
    draw.shuffle(changes)
    for some in (changes[:3], changes[3:8], changes[8:]):
        shop.results(*some)
    for product_id in "78":
        last = max((each for each in changes if each.product_id == product_id), key=lambda each: each.at_ms)
        images = last.images if isinstance(last, Put) else ()
        assert shop.images(product_id) == names(*images, product_id=product_id)
        titles = {row["data"]["title"] for row in shop.rows().values() if row["product_id"] == product_id}
        assert titles == ({f"of {last.at_ms - shop.start_ms}"} if images else set())
