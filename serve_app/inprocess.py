"""The whole query flow in one process, without Ray: for the command line and as the benchmarks' reference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from serve_app.config import Config
from serve_app.milvus.models import ModelSearchers
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.pipeline import Pipeline
from serve_app.rules_file import watch_rules
from serve_app.stages import load_detector, load_embedder
from serve_app.weights.chosen import curve_of, model_of


@dataclass(frozen=True, slots=True)
class Searching:
    """Hold a pipeline that is ready, and what it searches."""

    pipeline: Pipeline
    searcher: MilvusSearcher
    fingerprint: str


@asynccontextmanager
async def searching(config: Config, uri: str) -> AsyncIterator[Searching]:
    """Load the models and search Milvus at `uri` until the block ends; raises BadWeights, BadConfig."""
    model = model_of(config)
    curve = curve_of(config, model)
    async with AsyncExitStack() as stack:
        detector = load_detector(config)
        stack.push_async_callback(detector.close)
        embedder = load_embedder(config)
        stack.push_async_callback(embedder.close)
        searchers = ModelSearchers(
            (uri, *config.milvus.more_uris), config.milvus, config.catalogue, config.searcher.params
        )
        stack.push_async_callback(searchers.close)
        pipeline = Pipeline(
            detector,
            embedder,
            searchers,
            rows_per_product=config.searcher.candidates_per_product,
            price_band=config.ranking.price_band,
            rules=watch_rules(config.rules_file, config.ranking).current,
            curve=curve,
        )
        yield Searching(pipeline, searchers.searcher(model), model)
