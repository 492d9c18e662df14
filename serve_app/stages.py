"""The model stages: an adapter behind its batcher, in the shape that the pipeline asks for.

The same stages run in the service's replicas and in one process for the command line; only what
carries the calls differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from serve_app.batching import Batcher
from serve_app.config import Config, ModelStageConfig
from serve_app.domain import Crops, Detection, Embeddings, Photo
from serve_app.images import cut_all, decode
from serve_app.objects import choose_objects, query_boxes
from serve_app.pipeline import Sighting

Observe = Callable[[int, Sequence[float]], None]
"""Is told each batch's size and how long its items waited, ms."""


class DetectorModel(Protocol):
    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]: ...


class EmbedderModel(Protocol):
    def embed(self, crops: Crops) -> Embeddings: ...


def _silent(_items: int, _waits_ms: Sequence[float]) -> None:
    """Observe nothing."""


class BatchedDetector:
    """Decode photos, find their objects and cut their crops."""

    def __init__(
        self,
        model: DetectorModel,
        config: ModelStageConfig,
        *,
        max_pixels: int,
        max_objects: int,
        observe: Observe = _silent,
    ) -> None:
        self._max_pixels = max_pixels
        self._max_objects = max_objects
        # Pillow works outside the interpreter's lock; one thread decodes while the model computes.
        self._decoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")
        self._batcher: Batcher[Photo, tuple[Detection, ...]] = Batcher(
            model.find, max_batch=config.max_batch, max_queued=config.max_queued_requests, observe=observe
        )

    async def detect(self, photo: bytes, objects: int) -> Sighting:
        """Answer one request; raises what `decode` raises, Overloaded and StageUnavailable."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        working = await loop.run_in_executor(self._decoding, self._decode, photo)
        decode_ms = (time.perf_counter() - started) * 1e3
        found = choose_objects(await self._batcher.submit(working), self._max_objects)
        crops = await loop.run_in_executor(self._decoding, cut_all, working, query_boxes(found, objects))
        return Sighting(working.width, working.height, found, crops, decode_ms)

    def _decode(self, photo: bytes) -> Photo:
        return decode(photo, max_pixels=self._max_pixels)

    def check_health(self) -> None:
        self._batcher.check_health()

    async def close(self) -> None:
        await self._batcher.close()
        self._decoding.shutdown(wait=False)


class BatchedEmbedder:
    """Turn crops into embeddings."""

    def __init__(self, model: EmbedderModel, config: ModelStageConfig, *, observe: Observe = _silent) -> None:
        self._model = model
        self._batcher: Batcher[Crops, Embeddings] = Batcher(
            self._embed_all,
            max_batch=config.max_batch,
            max_queued=config.max_queued_requests,
            cost=len,
            observe=observe,
        )

    async def embed(self, crops: Crops) -> Embeddings:
        """Answer one request; raises Overloaded and StageUnavailable."""
        return await self._batcher.submit(crops)

    def _embed_all(self, requests: list[Crops]) -> list[Embeddings]:
        together = self._model.embed(np.concatenate(requests))
        return np.split(together, np.cumsum([len(crops) for crops in requests])[:-1])

    def check_health(self) -> None:
        self._batcher.check_health()

    async def close(self) -> None:
        await self._batcher.close()


def load_detector(config: Config, observe: Observe = _silent) -> BatchedDetector:
    """Load the detector that the settings name and warm it up; raises BadWeights, BadConfig."""
    from serve_app.detector import YoloDetector

    own = config.detector
    model = YoloDetector(
        config.detector_weights,
        device=own.device,
        threads=own.threads,
        side_px=own.side_px,
        min_confidence=own.min_confidence,
    )
    model.warm_up()
    return BatchedDetector(
        model, own, max_pixels=config.limits.max_pixels, max_objects=config.limits.max_objects, observe=observe
    )


def load_embedder(config: Config, observe: Observe = _silent) -> BatchedEmbedder:
    """Load the embedder that the settings name and warm it up; raises BadWeights, BadConfig."""
    from serve_app.embedder import ResNetEmbedder

    own = config.embedder
    model = ResNetEmbedder(device=own.device, threads=own.threads, head=own.head)
    model.warm_up()
    return BatchedEmbedder(model, own, observe=observe)
