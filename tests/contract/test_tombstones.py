"""Deletes are remembered on every engine, as long as they are to be."""

import time
import uuid

import pytest

from serve_app.catalogue.feed_index import Tombstones as Protocol
from serve_app.milvus import notes
from serve_app.milvus.tombstones import PRUNE_EVERY_S, Tombstones


class Clock:
    def __init__(self):
        self.now_ms = int(time.time() * 1000)

    def __call__(self):
        return self.now_ms


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tombstones(engine, clock):
    catalogue = f"stones{uuid.uuid4().hex[:8]}"
    yield Tombstones(engine.client, catalogue, engine.config, keep_s=3600, now_ms=clock)
    engine.client.drop_collection(f"{catalogue}_deleted")


def test_the_newest_delete_of_each_key_is_noted(tombstones: Protocol):
    assert tombstones.noted(["image:a"]) == {}
    tombstones.add({"image:a": 5, "product:7": 9})
    tombstones.add({"image:a": 3, "product:7": 11, 'image:"quoted"': 2})
    noted = tombstones.noted(["image:a", "product:7", 'image:"quoted"', "image:other"])
    assert noted == {"image:a": 5, "product:7": 11, 'image:"quoted"': 2}
    assert tombstones.noted([]) == {}


def test_many_keys_take_several_calls(tombstones, monkeypatch):
    monkeypatch.setattr(notes, "ROWS_A_CALL", 10)
    times = {f"image:{number}": number for number in range(25)}
    tombstones.add(times)
    assert tombstones.noted(times) == times


def test_what_was_noted_long_ago_is_forgotten(tombstones, clock):
    tombstones.add({"image:old": 1})
    clock.now_ms += 3_000_000
    tombstones.add({"image:new": 1})
    assert set(tombstones.noted(["image:old", "image:new"])) == {"image:old", "image:new"}
    clock.now_ms += int(PRUNE_EVERY_S * 1000) + 1
    tombstones.add({"image:newest": 1})
    assert set(tombstones.noted(["image:old", "image:new", "image:newest"])) == {"image:new", "image:newest"}
