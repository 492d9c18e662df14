"""A feed of events leaves the same in the index on every engine, in whatever order they come."""

import itertools
import json
import random
import time

import numpy as np
import pytest

from serve_app.catalogue.events import Message, parse
from serve_app.catalogue.feed_index import FeedIndex
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import FIELDS
from serve_app.domain import WHOLE_BOX, Detection, View
from serve_app.milvus.tombstones import Tombstones
from tests.contract.engines import settle

LATEST_MS = int(time.time() * 1000)
TESTS = itertools.count()
CHAIR = {"event": "upsert", "image": "1.jpg", "product_id": "7", "image_id": "a", "category": "Home/Chairs"}


class Shop:
    """An index, and what a feed asks for, with a vector that tells what it was made of in place of a model's."""

    def __init__(self, index):
        self.index = index
        self.writer = index.writer()
        # Later than those of the tests before, so that their deletes count for nothing.
        self.start_ms = LATEST_MS - 60_000 + 1_000 * next(TESTS)
        tombstones = Tombstones(index.client, index.catalogue, index.engine.config)
        self.sink = FeedIndex(self.writer, tombstones, self.embed)
        self.embedded = 0

    def embed(self, entries: list[Entry]) -> list[Outcome]:
        rows = []
        for entry in entries:
            assert entry.at_ms is not None
            vector = np.random.default_rng(len(entry.image)).normal(size=256).astype(np.float32)
            view = EmbeddedView(Detection(WHOLE_BOX), vector / np.linalg.norm(vector))
            views = {View.WHOLE: view, View.OBJECT: view}
            rows += Planned(entry, f"{len(entry.image):064d}", "recipe", entry.at_ms).rows(views)
        self.writer.write(rows)
        self.embedded += len(entries)
        return [Outcome(entry.row, entry.image, entry.product_id, Status.EMBEDDED, 2) for entry in entries]

    def apply(self, *events):
        """Apply events as one batch, each with the milliseconds after the start that it is of."""
        messages = [
            Message(row, json.dumps({**event, "at": self.start_ms + at}).encode())
            for row, (at, event) in enumerate(events)
        ]
        return [outcome.status for outcome in self.sink.apply([parse(each, LATEST_MS) for each in messages])]

    def rows(self):
        """Return all rows of the index by key; fails where one is there twice."""
        names = [field.name for field in FIELDS]
        found = self.index.client.query(
            self.index.alias, filter='row_id != ""', output_fields=names, limit=1000, consistency_level="Strong"
        )
        rows = {row["row_id"]: {name: row[name] for name in names} for row in found}
        assert len(rows) == len(found)
        return rows


@pytest.fixture
def shop(index):
    shop = Shop(index)
    yield shop
    shop.writer.delete({row["image_id"] for row in shop.rows().values()})


def test_a_changed_category_leaves_one_row_of_each_view(shop):
    assert shop.apply((0, CHAIR)) == [Status.EMBEDDED]
    assert shop.apply((1, {"event": "update", "product_id": "7", "category": "Garden/Seats"})) == [Status.UPDATED]
    rows = shop.rows().values()
    assert sorted(row["view"] for row in rows) == ["object", "whole"]
    assert {row["category_root"] for row in rows} == {"Garden"}
    assert shop.apply((2, {**CHAIR, "category": "Kitchen/Stools"})) == [Status.EMBEDDED]
    assert {row["category_root"] for row in shop.rows().values()} == {"Kitchen"}
    assert len(shop.rows()) == 2


def test_an_update_runs_no_model_and_an_older_event_changes_nothing(shop):
    shop.apply((10, CHAIR), (20, {"event": "update", "image_id": "a", "price": "5", "currency": "EUR"}))
    before = shop.rows()
    assert shop.apply(
        (15, {"event": "update", "image_id": "a", "price": "9", "currency": "EUR"}),
        (5, CHAIR | {"image": "12.jpg"}),
        (5, {"event": "delete", "product_id": "7"}),
    ) == [Status.STALE, Status.STALE, Status.STALE]  # fmt: skip
    assert (shop.rows(), shop.embedded) == (before, 1)
    assert shop.apply((30, {"event": "delete", "product_id": "7"})) == [Status.UPDATED]
    assert shop.apply((25, CHAIR)) == [Status.STALE]
    assert shop.rows() == {}


def test_the_order_of_events_does_not_matter(shop):
    draw = random.Random(7)
    events = [(at, {**CHAIR, "image_id": f"i{at % 4}", "title": f"of {at}"}) for at in range(0, 40, 3)]
    events += [(at, {"event": "delete", "image_id": f"i{at % 4}"}) for at in (5, 26)]
    shop.apply(*events)
    expected = shop.rows()
    assert expected
    for image in range(4):
        shop.writer.delete([f"i{image}"])
    draw.shuffle(events)
    for some in (events[:1], events[1:5], events[5:], events):
        shop.apply(*some)
    assert shop.rows() == expected


def test_all_images_of_a_product_are_found_also_half_written_ones(shop):
    shop.apply((0, CHAIR), (0, {**CHAIR, "image_id": "b"}), (0, {**CHAIR, "image_id": "c", "product_id": "8"}))
    (name,) = {alias["collection_name"] for alias in [shop.index.client.describe_alias(shop.index.alias)]}
    shop.index.client.delete(name, filter='row_id == "b#whole"')
    settle(shop.index.engine)
    assert shop.writer.images_of(["7", "8", "9"]) == {"7": {"a", "b"}, "8": {"c"}}
    rows = shop.writer.rows(["a", "b", "z"])
    assert {image_id: set(views) for image_id, views in rows.items()} == {
        "a": {View.WHOLE, View.OBJECT},
        "b": {View.OBJECT},
    }
