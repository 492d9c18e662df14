"""While a model is rolled out, each embedding meets the index of its own model only."""

from collections.abc import AsyncIterator

import pytest

from serve_app.collection import alias
from serve_app.config import SearchParams
from serve_app.errors import IndexMissing
from serve_app.milvus import indexing
from serve_app.milvus.models import MODELS_AT_ONCE, ModelSearchers
from serve_app.milvus.writer import MilvusWriter
from serve_app.pipeline import Embedded
from tests.contract.engines import NOW, Engine
from tests.contract.rows import embedding, row

CATALOGUE = "rolled"
OLD, NEW = "0123456789ab", "ba9876543210"
SAME = embedding("the same numbers, made by two models")


@pytest.fixture
async def searchers(lite: Engine) -> AsyncIterator[ModelSearchers]:
    for model in (OLD, NEW):
        indexing.ensure(lite.client, lite.config, CATALOGUE, model, NOW)
        writer = MilvusWriter(lite.client, alias(CATALOGUE, model), lite.config)
        writer.write([row(f"of {model}", vector=SAME)])
    found = ModelSearchers([lite.uri], lite.config, CATALOGUE, SearchParams())
    yield found
    await found.close()


async def test_embeddings_of_two_models_are_searched_side_by_side(searchers: ModelSearchers) -> None:
    for model in (OLD, NEW, OLD):
        found = await searchers.search(Embedded(SAME[None], model), 5)
        assert [hit.image_id for hit in found.hits[0]] == [f"of {model}"]
        assert (found.collection or "").startswith(f"{CATALOGUE}_{model}_")


async def test_a_model_without_an_index_is_refused_and_the_others_searched(searchers: ModelSearchers) -> None:
    with pytest.raises(IndexMissing):
        await searchers.search(Embedded(SAME[None], "ffffffffffff"), 5)
    assert (await searchers.search(Embedded(SAME[None], NEW), 5)).hits[0]


async def test_connections_of_models_that_are_gone_are_closed(searchers: ModelSearchers) -> None:
    first = searchers.searcher(OLD)
    for number in range(MODELS_AT_ONCE):
        searchers.searcher(f"{number:012x}")
    assert searchers.searcher(OLD) is not first
    assert (await searchers.search(Embedded(SAME[None], OLD), 5)).hits[0]


async def test_parameters_reach_all_models(searchers: ModelSearchers) -> None:
    old = searchers.searcher(OLD)
    searchers.params = SearchParams(ef=999)
    assert old.params.ef == searchers.searcher(NEW).params.ef == 999
