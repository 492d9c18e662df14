"""The index of a model that is to be promoted, on Milvus Lite: begun, gone on with, and found when it stands."""

import random
from collections.abc import Iterator
from datetime import timedelta

import pytest

from serve_app.collection import alias
from serve_app.config import SearchParams
from serve_app.milvus import indexing, lifecycle, targets
from serve_app.milvus.targets import State
from serve_app.milvus.verify import Demands, verify
from serve_app.milvus.writer import MilvusWriter
from serve_app.promotion.filling import Filling, collection_for
from tests.contract.engines import FINGERPRINT, NOW, Engine
from tests.contract.rows import row

NEW = "ba9876543210"


@pytest.fixture
def catalogue(request: pytest.FixtureRequest, lite: Engine) -> Iterator[str]:
    """A catalogue that one model searches."""
    name = f"promote{random.Random(request.node.nodeid).randrange(10**9)}"
    indexing.ensure(lite.client, lite.config, name, FINGERPRINT, NOW)
    writer(lite, name, FINGERPRINT).write([row("a"), row("b")])
    yield name
    for target in targets.read_all(lite.client, name):
        searched = alias(name, target.fingerprint)
        if indexing.resolve(lite.client, searched) == target.collection:
            lite.client.drop_alias(searched)
        lite.client.drop_collection(target.collection)


def writer(lite: Engine, catalogue: str, model: str) -> MilvusWriter:
    return MilvusWriter(lite.client, alias(catalogue, model), lite.config)


def found(lite: Engine, catalogue: str, minutes: int = 1) -> Filling:
    now = NOW + timedelta(minutes=minutes)
    return collection_for(lite.client, lite.config, catalogue, NEW, now, {})


def fill(lite: Engine, catalogue: str, name: str, *images: str) -> None:
    lite.client.upsert(name, [row(image).values() for image in images])
    targets.remember(lite.client, name, state=State.MIRRORED)


def test_index_that_was_begun_is_gone_on_with(lite: Engine, catalogue: str) -> None:
    begun = found(lite, catalogue)
    assert (begun.stands, begun.filled) == (False, False)
    assert found(lite, catalogue, minutes=2) == begun
    fill(lite, catalogue, begun.collection, "a", "b")
    assert found(lite, catalogue, minutes=3) == Filling(begun.collection, stands=False, filled=True)


def test_both_models_are_searched_side_by_side_and_what_stands_is_found(lite: Engine, catalogue: str) -> None:
    name = found(lite, catalogue).collection
    fill(lite, catalogue, name, "a", "b")
    verify(lite.client, lite.config, catalogue, name, SearchParams(), Demands(queries=2))
    lifecycle.switch(lite.client, catalogue, name)
    assert found(lite, catalogue) == Filling(name, stands=True, filled=True)
    old = indexing.resolve(lite.client, alias(catalogue, FINGERPRINT))
    assert old is not None
    assert indexing.count(lite.client, old) == indexing.count(lite.client, name)


def test_standing_index_that_lacks_images_is_not_taken_for_whole(lite: Engine, catalogue: str) -> None:
    name = indexing.ensure(lite.client, lite.config, catalogue, NEW, NOW)
    lacking = found(lite, catalogue)
    assert (lacking.collection, lacking.stands, lacking.filled) == (name, True, False)
    assert "lacks 2 images" in lacking.amiss
    fill(lite, catalogue, name, "a", "b")
    assert found(lite, catalogue).amiss == ""
    writer(lite, catalogue, FINGERPRINT).write([row("a")])
    assert "1 images were changed" in found(lite, catalogue).amiss
