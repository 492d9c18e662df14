"""Whole products become events of a feed, and an index in memory holds what they ask for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.catalogue.products import GivenImages, ProductWriter
from serve_app.catalogue.reading import Bytes
from serve_app.changes import NO_LANGUAGE, GivenImage, Put, Removal, Result
from serve_app.collection import default_image_id
from serve_app.errors import MilvusUnavailable
from tests.unit.feed_fakes import BROKEN, START_MS, Shop

FRONT, BACK = GivenImage(url="https://shop/front.jpg"), GivenImage(url="https://shop/back.jpg")
NOW_MS = START_MS + 1_000


class NoImages:
    def is_web(self, image):
        return image.startswith("https://")

    def read(self, images, known):
        return [Bytes(image.encode(), None) for image in images]


class ProductShop(Shop):
    """Hold an index that products are written to."""

    def __init__(self):
        super().__init__()
        self.images = GivenImages(NoImages())
        self.writer = ProductWriter(self.sink, self.index, self.tombstones, self.images, lambda: NOW_MS)

    def apply(self, *changes):
        return self.writer.apply(changes)

    def results(self, *changes):
        return [changed.result for changed in self.apply(*changes)]

    def refusal(self, change):
        (changed,) = self.apply(change)
        assert changed.result is None
        return changed.refusal

    def stored(self, product_id="7"):
        return sorted(self.index.images_of([product_id])[product_id])

    def one(self, product_id="7"):
        return self.entry(self.stored(product_id)[0])


@pytest.fixture
def shop():
    return ProductShop()


def put(*images, product_id="7", at=0, **values):
    return Put(product_id, images or (FRONT,), at_ms=START_MS + at, **values)


def removal(product_id="7", at=0):
    return Removal(product_id, START_MS + at)


def test_product_is_stored_with_all_that_it_says(shop):
    chair = put(
        FRONT,
        BACK,
        parent_id="chairs",
        titles={"en": "Chair", "de_AT": "Sessel"},
        category="Living / Chairs",
        price=("19.90", "EUR"),
        in_stock=False,
        attributes={"legs": 4, "colours": ["oak", "red"]},
    )
    (changed,) = shop.apply(chair)
    assert (changed.product_id, changed.at_ms, changed.result, changed.refusal) == ("7", START_MS, "stored", None)
    assert shop.stored() == sorted(default_image_id("7", image.url) for image in (FRONT, BACK))
    entry = shop.one()
    assert (entry.parent_id, entry.category, entry.price, entry.currency) == ("chairs", "Living/Chairs", 1990, "EUR")
    assert (entry.title, dict(entry.titles)) == ("Chair", {"en": "Chair", "de-AT": "Sessel"})
    assert (entry.in_stock, dict(entry.attributes)) == (False, {"legs": 4, "colours": ["oak", "red"]})


def test_title_of_no_language_is_the_plain_one(shop):
    shop.apply(put(titles={NO_LANGUAGE: "Chair"}))
    assert (shop.one().title, dict(shop.one().titles)) == ("Chair", {})


def test_image_that_is_sent_is_known_by_its_bytes(shop):
    with shop.images.holding([put(GivenImage(data=b"file"))]):
        (found,) = shop.images.read([GivenImage(data=b"file").place], {})
        assert (found.data, shop.images.is_web(GivenImage(data=b"file").place)) == (b"file", False)
        assert shop.images.is_web(FRONT.url)
    shop.apply(put(GivenImage(data=b"file"), GivenImage(data=b"other", image_id="mine")))
    assert len(shop.stored()) == 2
    assert "mine" in shop.stored()


def test_what_is_left_out_goes(shop):
    shop.apply(put(FRONT, BACK, category="Chairs", price=("1", "EUR")))
    assert shop.results(put(BACK, at=1)) == [Result.STORED]
    assert shop.stored() == [default_image_id("7", BACK.url)]
    assert (shop.one().category, shop.one().price) == ("", -1)


def test_same_product_again_changes_nothing(shop):
    assert shop.results(put(FRONT, BACK), put(FRONT, BACK, at=1)) == [Result.STORED, Result.UNCHANGED]
    assert len(shop.importer.embedded) == 2


def test_removal_takes_all_images(shop):
    shop.apply(put(FRONT, BACK), put(product_id="8"))
    assert shop.results(removal(at=1)) == [Result.DELETED]
    assert (shop.stored(), len(shop.stored("8"))) == ([], 1)
    assert shop.results(removal(at=2)) == [Result.UNCHANGED]


def test_older_change_never_overwrites_a_newer_one(shop):
    shop.apply(put(FRONT, at=5, category="New"))
    assert shop.results(put(FRONT, at=4, category="Old"), removal(at=4)) == [Result.STALE, Result.STALE]
    assert shop.one().category == "New"


def test_older_product_brings_no_image_into_a_newer_one(shop):
    shop.apply(put(FRONT, at=5))
    assert shop.results(put(FRONT, BACK, at=4)) == [Result.STALE]
    assert shop.stored() == [default_image_id("7", FRONT.url)]


def test_older_product_does_not_come_back_after_its_removal(shop):
    shop.apply(put(at=0), removal(at=5))
    assert shop.results(put(at=4)) == [Result.STALE]
    assert shop.stored() == []
    assert shop.results(put(at=5)) == [Result.STORED]


def test_change_without_a_time_is_of_now(shop):
    (changed,) = shop.apply(Put("7", (FRONT,)))
    assert changed.at_ms == NOW_MS


def test_of_one_product_the_last_change_wins(shop):
    results = shop.results(put(category="A"), put(product_id="8"), removal(), put(category="B"), put(category="C"))
    assert results == [Result.STORED, Result.STORED, Result.DELETED, Result.STORED, Result.STORED]
    assert shop.one().category == "C"


def test_product_with_an_image_that_can_not_be_used_is_refused_and_loses_nothing(shop):
    shop.apply(put(FRONT, BACK))
    broken = GivenImage(url=BROKEN)
    refusal = shop.refusal(put(FRONT, broken, at=1))
    assert (refusal.code, refusal.status, refusal.reason) == ("truncated", 422, "image 2 of 2: the image is cut")
    assert set(shop.stored()) >= {default_image_id("7", image.url) for image in (FRONT, BACK)}


def test_others_are_stored_beside_one_that_is_refused(shop):
    refused, stored = shop.apply(put(GivenImage(url=BROKEN)), put(product_id="8"))
    assert (refused.result, refused.refusal.reason, stored.result) == (None, "the image is cut", Result.STORED)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put(price=("1.999", "EUR")), "bad_price"),
        (put(price=("1", "XYZ")), "bad_price"),
        (put(attributes={"price": 3}), "bad_row"),
        (put(attributes={"at": 3}), "bad_row"),
        (put(attributes={"title_de": "Stuhl"}), "bad_row"),
        (put(attributes={"half": "\ud800"}), "bad_row"),
        (put(attributes={"weight": float("nan")}), "bad_event"),
        (put(GivenImage(url="ftp://shop/1.jpg")), "url_unsupported"),
        (put(GivenImage(url="a", image_id="i"), GivenImage(url="b", image_id="i")), "duplicate_image_id"),
        (put(at=10**9), "bad_time"),
        (Put("7", ()), "bad_row"),
        (removal(at=10**9), "bad_time"),
    ],
    ids=str,
)
def test_change_that_says_what_can_not_be_is_refused_whole(shop, change, code):
    refusal = shop.refusal(change)
    assert (refusal.code, refusal.status, refusal.may_pass) == (code, 422, False)
    assert refusal.reason
    assert shop.index.images == {}


def test_index_that_is_away_is_told_and_the_changes_may_come_again(shop):
    def away(image_ids):
        raise MilvusUnavailable("Milvus can't be reached")

    images_of, shop.index.images_of = shop.index.images_of, away
    with pytest.raises(MilvusUnavailable):
        shop.apply(put(FRONT))
    shop.index.images_of = images_of
    assert shop.results(put(FRONT)) == [Result.UNCHANGED]


CHANGES = st.lists(
    st.builds(
        lambda product, at, images, gone: (
            removal(product, at)
            if gone
            else put(*[GivenImage(url=f"{product}{i}") for i in sorted(images)], product_id=product, at=at)
        ),
        st.sampled_from("ab"),
        st.integers(0, 6),
        st.sets(st.integers(0, 2), min_size=1),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda change: (change.product_id, change.at_ms),
)


@given(CHANGES, st.randoms())
def test_order_in_which_changes_come_does_not_matter(changes, draw):
    shop, shuffled = ProductShop(), list(changes)
    draw.shuffle(shuffled)
    while shuffled:
        count = draw.randint(1, len(shuffled))
        shop.apply(*shuffled[:count])
        del shuffled[:count]
    for product in {change.product_id for change in changes}:
        last = max((each for each in changes if each.product_id == product), key=lambda each: each.at_ms)
        images = last.images if isinstance(last, Put) else ()
        assert shop.stored(product) == sorted(default_image_id(product, image.url) for image in images)
