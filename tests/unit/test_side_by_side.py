"""Two models on one photo: each searches its own index, and the photo is looked at once."""

from datetime import UTC, datetime

import numpy as np
import pytest

from serve_app.collection import IndexInfo
from serve_app.config import EmbedderConfig
from serve_app.domain import Box, Detection
from serve_app.errors import BadConfig, UnknownModel
from serve_app.pipeline import Embedded, Found, Pipeline, Query, Sighting
from serve_app.side_by_side import UNNAMED, SideBySide, candidates
from serve_app.stages import BatchedEmbedder
from tests.unit.builders import curve, hit

OLD, NEW = "0123456789ab", "ba9876543210"
CHAIR = Detection(Box(0.1, 0.1, 0.6, 0.6), "chair", 0.9)
FOUND = {OLD: ("p1", "p2", "p3"), NEW: ("p3", "p4")}
CROPS = np.zeros((2, 1, 1, 3), np.uint8)


class Shop:
    """Be detector, embedder and searcher; an index knows its own model's embeddings alone."""

    looked = 0

    async def detect(self, photo, focus, terms):
        self.looked += 1
        return Sighting(640, 480, (CHAIR,), CROPS, 1.0)

    async def embed_as(self, model, crops, terms):
        if model not in FOUND:
            raise UnknownModel("there is no such model")
        return Embedded(np.zeros((len(crops), 256), np.float32), model)

    async def search(self, embedded, k, wanted, strong, terms):
        hits = [hit(product, 0.9 - place / 10) for place, product in enumerate(FOUND[embedded.model])]
        return Found([hits[:k]] * len(embedded.embeddings), 1, f"products_{embedded.model}")


def compared(shop: Shop) -> SideBySide:
    return SideBySide(shop, shop, Pipeline(shop, shop, shop))


async def test_each_model_searches_its_own_index_for_the_same_objects():
    shop = Shop()
    sides = await compared(shop).compare(b"", (OLD, NEW), Query(top_k=2))
    assert [(side.model, side.collection) for side in sides] == [(OLD, f"products_{OLD}"), (NEW, f"products_{NEW}")]
    labels = [[entry.object.detection.label for entry in side.lists] for side in sides]
    assert labels == [["chair", None]] * 2
    assert [[each.product_id for each in side.lists[0].products] for side in sides] == [["p1", "p2"], ["p3", "p4"]]
    assert shop.looked == 1


async def test_curve_of_one_model_says_nothing_of_another():
    shop = Shop()
    sides = await SideBySide(shop, shop, Pipeline(shop, shop, shop, curve=curve(OLD))).compare(b"", (OLD, NEW), Query())
    assert [[entry.chances is None for entry in side.lists] for side in sides] == [[False] * 2, [True] * 2]


async def test_model_that_there_is_not_is_named():
    with pytest.raises(UnknownModel):
        await compared(Shop()).compare(b"", (OLD, "none"), Query())


def info(fingerprint: str, alias: str | None) -> IndexInfo:
    made = datetime(2026, 11, 25, tzinfo=UTC)
    return IndexInfo(alias, f"products_{fingerprint}_x", fingerprint, 5, True, "FLAT", made)


def test_models_without_an_index_that_is_searched_or_without_a_head_are_left_out():
    indexes = [info(NEW, "products_new"), info(OLD, None), info(OLD, "products_old"), info("c" * 12, "products_c")]
    found = candidates(indexes, {NEW: "spring", "d" * 12: "never filled"}, OLD)
    assert [(each.fingerprint, each.name, each.running) for each in found] == [
        (OLD, UNNAMED, True),
        (NEW, "spring", False),
    ]


class Model:
    fingerprint = OLD

    def embed(self, crops):
        return np.ones((len(crops), 256), np.float32)


def another(crops, model):
    if model != NEW:
        raise BadConfig("the registry has no such model")
    return np.zeros((len(crops), 256), np.float32), NEW


@pytest.mark.parametrize(("model", "value"), [(OLD, 1), (NEW, 0)])
async def test_embedder_stage_answers_for_the_model_that_is_asked_for(model, value):
    stage = BatchedEmbedder(Model(), EmbedderConfig(), another=another)
    embedded = await stage.embed_as(model, CROPS)
    assert (embedded.model, embedded.embeddings.shape, embedded.embeddings.max()) == (model, (2, 256), value)
    await stage.close()


@pytest.mark.parametrize("known", [another, None])
async def test_embedder_stage_never_answers_with_another_model(known):
    stage = BatchedEmbedder(Model(), EmbedderConfig(), another=known)
    with pytest.raises(UnknownModel):
        await stage.embed_as("none", CROPS)
    await stage.close()
