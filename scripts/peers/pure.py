"""The models and the search of Shoplens, without anything that serves them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serve_app.config import Config, load_config
from serve_app.domain import Box, Crops, Detection, Embeddings
from serve_app.images import cut_all, decode
from serve_app.objects import THE_BEST, choose_objects, query_boxes, query_lists
from serve_app.pipeline import Embedded, Query
from serve_app.weights.chosen import detector_sha256, model_of

if TYPE_CHECKING:
    from serve_app.detector import YoloDetector
    from serve_app.embedder import ResNetEmbedder


@dataclass(frozen=True)
class Seen:
    """Hold the objects of a photo, and the crops to search by, (n, side, side, 3)."""

    detections: tuple[Detection, ...]
    crops: Crops


def detections(found: Iterable[Mapping[str, Any]]) -> tuple[Detection, ...]:
    """Return detections of which the way between two processes has made dictionaries."""
    return tuple(Detection(Box(**each["box"]), each["label"], each["confidence"]) for each in found)


def settings() -> Config:
    """Read the settings that all sides have: PEER_DATA_DIR and the variables of Shoplens."""
    return load_config(data_dir=Path(os.environ["PEER_DATA_DIR"]))


def load_detector(config: Config) -> YoloDetector:
    """Return the detector of the service, warm."""
    from serve_app.detector import YoloDetector

    own = config.detector
    detector = YoloDetector(
        config.detector_weights,
        sha256=detector_sha256(config),
        threads=own.threads,
        side_px=own.side_px,
        min_confidence=own.min_confidence,
    )
    detector.warm_up()
    return detector


def load_embedder(config: Config) -> ResNetEmbedder:
    """Return the embedder of the service, warm."""
    from serve_app.embedder import ResNetEmbedder

    embedder = ResNetEmbedder(threads=config.embedder.threads)
    embedder.warm_up()
    return embedder


def see(detector: YoloDetector, photos: Sequence[bytes], config: Config) -> list[Seen]:
    """Decode photos, find the objects of all in one batch, and cut what a search with default settings searches by."""
    working = [decode(photo, max_pixels=config.limits.max_pixels) for photo in photos]
    found = [choose_objects(each, config.limits.max_objects) for each in detector.find(working)]
    return [
        Seen(objects, cut_all(photo, query_boxes(objects, THE_BEST)))
        for photo, objects in zip(working, found, strict=True)
    ]


def embed(embedder: ResNetEmbedder, crops: Sequence[Crops]) -> list[Embeddings]:
    """Embed the crops of several photos in one batch."""
    ends = np.cumsum([len(each) for each in crops])[:-1]
    return np.split(embedder.embed(np.concatenate(crops)), ends)


class Search:
    """Search as the service does; use it in one event loop."""

    def __init__(self, config: Config) -> None:
        from serve_app.milvus.models import ModelSearchers
        from serve_app.pipeline import Pipeline

        assert config.milvus.uri
        self._model = model_of(config)
        searchers = ModelSearchers((config.milvus.uri,), config.milvus, config.catalogue, config.searcher.params)
        absent: Any = None  # ranking asks neither of the model stages
        self._pipeline = Pipeline(absent, absent, searchers, rows_per_product=config.searcher.candidates_per_product)

    async def products(self, detections: tuple[Detection, ...], embeddings: Embeddings) -> dict[str, Any]:
        """Return one list of products per object, as JSON."""
        lists, query = query_lists(detections, THE_BEST), Query()
        embedded = Embedded(embeddings, self._model)
        ranked, _ = await self._pipeline.rank(lists, embedded, query, query.top_k)
        return {
            "objects": [
                {
                    "label": each.detection.label,
                    "confidence": each.detection.confidence,
                    "box": each.detection.box.as_tuple(),
                    "products": None
                    if fixed is None
                    else [
                        {"product_id": hit.product_id, "image_id": hit.image_id, "score": hit.score}
                        for hit in fixed.hits[: query.top_k]
                    ],
                }
                for each, fixed in zip(lists, ranked, strict=True)
            ]
        }


class SearchInThread:
    """Search from code that does not await: an event loop in a thread of its own does."""

    def __init__(self, config: Config) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._search = asyncio.run_coroutine_threadsafe(self._make(config), self._loop).result()

    async def _make(self, config: Config) -> Search:
        return Search(config)

    def products(self, seen: Sequence[Seen], embeddings: Sequence[Embeddings]) -> list[dict[str, Any]]:
        """Return what Search does, for several photos at once."""
        wanted = [
            asyncio.run_coroutine_threadsafe(self._search.products(each.detections, own), self._loop)
            for each, own in zip(seen, embeddings, strict=True)
        ]
        return [each.result() for each in wanted]
