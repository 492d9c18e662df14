"""The model stages: an adapter behind its batcher, in the shape that the pipeline asks for.

The same stages run in the service's replicas and in one process for the command line; only what
carries the calls differs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np

from serve_app.batching import UNWATCHED, Batcher, Watcher
from serve_app.config import Config, ImportConfig, ModelStageConfig
from serve_app.domain import PATIENT, Crop, Crops, Detection, Embedding, Embeddings, Photo, Terms, View
from serve_app.errors import BadConfig, BadWeights, DeadlineExceeded, Overloaded, StageUnavailable, UnknownModel
from serve_app.images import cut_all, decode, picture_hash
from serve_app.objects import Focus, choose_objects, import_views, query_boxes
from serve_app.pipeline import Embedded, ImageViews, Sighting
from serve_app.runtimes.chosen import runtime_for
from serve_app.weights.chosen import detector_sha256, head_named, head_of

log = logging.getLogger(__name__)


class DetectorModel(Protocol):
    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]: ...


class EmbedderModel(Protocol):
    fingerprint: str

    def embed(self, crops: Crops) -> Embeddings: ...


class Decoder:
    """Decode photos and cut crops in a thread of its own: Pillow works outside the interpreter's lock."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="decode")

    async def decode(self, photo: bytes, terms: Terms) -> tuple[Photo, float]:
        """Return the working photo, and the milliseconds it took; raises what `images.decode` raises.

        Raises DeadlineExceeded where the photo's turn came too late.
        """

        def work() -> tuple[Photo, float]:
            if not terms.left_s():
                raise DeadlineExceeded("the photo waited too long to be decoded; try again")
            started = time.perf_counter()
            return decode(photo, max_pixels=self._max_pixels), (time.perf_counter() - started) * 1e3

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def cut(self, photo: Photo, found: Sequence[Detection], focus: Focus) -> Crops:
        """Return the crops of what is searched."""
        boxes = query_boxes(found, focus)
        return await asyncio.get_running_loop().run_in_executor(self._thread, cut_all, photo, boxes)

    async def views(self, image: Photo, found: Mapping[View, Detection]) -> ImageViews:
        """Return the views of a catalogue's image."""

        def work() -> ImageViews:
            crops = cut_all(image, [view.box for view in found.values()])
            return ImageViews(image.width, image.height, tuple(found.items()), crops, picture_hash(image))

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


class WholePhoto:
    """Stand in for the detector: a photo is one thing, or what the given boxes hold."""

    def __init__(self, max_pixels: int) -> None:
        self._decoder = Decoder(max_pixels)

    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        """Look for nothing; raises what `images.decode` raises and DeadlineExceeded."""
        working, decode_ms = await self._decoder.decode(photo, terms)
        return Sighting(working.width, working.height, (), await self._decoder.cut(working, (), focus), decode_ms)


class BatchedDetector:
    """Decode photos, find their objects and cut their crops."""

    def __init__(
        self,
        model: DetectorModel,
        config: ModelStageConfig,
        *,
        max_pixels: int,
        max_objects: int,
        importing: ImportConfig | None = None,
        watcher: Watcher = UNWATCHED,
    ) -> None:
        """Make the views of catalogue images as `importing` says."""
        self._max_objects = max_objects
        self._importing = importing or ImportConfig()
        self._decoder = Decoder(max_pixels)
        self.batcher: Batcher[Photo, tuple[Detection, ...]] = Batcher(
            model.find, max_batch=config.max_batch, max_queued=config.max_queued_items, watcher=watcher
        )

    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        """Answer one request; raises what `decode` raises, Overloaded, DeadlineExceeded and StageUnavailable."""
        working, decode_ms = await self._decoder.decode(photo, terms)
        found: tuple[Detection, ...] = ()
        if focus.detects:
            (detections,) = await self.batcher.submit([working], terms)
            found = choose_objects(detections, self._max_objects)
        crops = await self._decoder.cut(working, found, focus)
        return Sighting(working.width, working.height, found, crops, decode_ms)

    async def views(self, image: bytes, terms: Terms = PATIENT) -> ImageViews:
        """Return the views that a catalogue's image is indexed by; raises as `detect` does."""
        working, _ = await self._decoder.decode(image, terms)
        found: tuple[Detection, ...] = ()
        if self._importing.views != "whole":
            (found,) = await self.batcher.submit([working], terms)
        views = import_views(found, min_confidence=self._importing.min_confidence)
        return await self._decoder.views(working, views)

    async def close(self) -> None:
        await self.batcher.close()
        self._decoder.close()


class BatchedEmbedder:
    """Turn crops into embeddings."""

    def __init__(
        self,
        model: EmbedderModel,
        config: ModelStageConfig,
        *,
        watcher: Watcher = UNWATCHED,
        another: Callable[[Crops, str], tuple[Embeddings, str]] | None = None,
    ) -> None:
        """`another` embeds by another registered model; raises BadConfig and BadWeights where there is none."""
        self._model = model
        self._another = another
        self._comparing = asyncio.Lock()
        self.batcher: Batcher[Crop, Embedding] = Batcher(
            self._embed_all, max_batch=config.max_batch, max_queued=config.max_queued_items, watcher=watcher
        )

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Answer one request; raises Overloaded, DeadlineExceeded and StageUnavailable."""
        rows = await self.batcher.submit(list(crops), terms)
        embeddings = np.stack(rows) if rows else self._model.embed(crops)
        return Embedded(embeddings, self._model.fingerprint)

    async def embed_as(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Embed with a model of this fingerprint, one request at a time beside the batches; raises UnknownModel."""
        if model == self._model.fingerprint:
            return await self.embed(crops, terms)
        if self._another is None:
            raise UnknownModel(f"there is no model beside {self._model.fingerprint}")
        try:
            async with self._comparing:
                embeddings, made = await asyncio.to_thread(self._another, crops, model)
        except (BadConfig, BadWeights) as error:
            raise UnknownModel(error.message) from error
        return Embedded(embeddings, made)

    def _embed_all(self, crops: list[Crop]) -> Sequence[Embedding]:
        return list(self._model.embed(np.stack(crops)))

    async def close(self) -> None:
        await self.batcher.close()


class TriedEmbedder:
    """Be the embedder of whichever model is tried now.

    One that can't be loaded refuses each call, and is no fault of the service's.
    """

    def __init__(self, load: Callable[[str], BatchedEmbedder]) -> None:
        """`load` raises BadConfig and BadWeights."""
        self._load = load
        self._model: str | None = None
        self._stage: BatchedEmbedder | None = None
        self._refusal = ""
        self._ready_s = time.monotonic()

    async def take(self, model: str | None) -> None:
        """Try this model from now on; None: no model."""
        if model == self._model:
            return
        if self._stage is not None:
            await self._stage.close()
        self._stage, self._refusal, self._model = None, "", model
        if model is None:
            return
        try:
            self._stage = self._load(model)
        except (BadConfig, BadWeights) as error:
            log.warning("model to be tried can't be loaded", extra={"model": model, "cause": error.message})
            self._refusal = error.message
        self._ready_s = time.monotonic()

    async def embed(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Answer one request; raises Overloaded where another model is loaded, and what BatchedEmbedder raises."""
        if model != self._model:
            raise Overloaded("another model is loaded here; try again shortly")
        if self._stage is None:
            raise StageUnavailable(self._refusal)
        return replace(await self._stage.embed(crops, terms), age_s=time.monotonic() - self._ready_s)


def load_detector(config: Config, watcher: Watcher = UNWATCHED) -> BatchedDetector:
    """Load the detector that the settings name and warm it up; raises BadWeights, BadConfig."""
    from serve_app.detector import YoloDetector

    own = config.detector
    model = YoloDetector(
        config.detector_weights,
        sha256=detector_sha256(config),
        device=own.device,
        threads=own.threads,
        side_px=own.side_px,
        min_confidence=own.min_confidence,
        runtime=runtime_for(config, "detector"),
    )
    model.warm_up()
    return BatchedDetector(
        model,
        own,
        max_pixels=config.limits.max_pixels,
        max_objects=config.limits.max_objects,
        importing=config.importing,
        watcher=watcher,
    )


def load_embedder(config: Config, watcher: Watcher = UNWATCHED) -> BatchedEmbedder:
    """Load the embedder that the settings name and warm it up; raises BadWeights, BadConfig."""
    from serve_app.embedder import ResNetEmbedder

    own = config.embedder
    runtime = runtime_for(config, "embedder")
    model = ResNetEmbedder(device=own.device, threads=own.threads, head=head_of(config), runtime=runtime)
    model.warm_up()

    def another(crops: Crops, named: str) -> tuple[Embeddings, str]:
        return model.embed_with(crops, head_named(config, named))

    return BatchedEmbedder(model, own, watcher=watcher, another=another)


def load_tried(config: Config, model: str, watcher: Watcher = UNWATCHED) -> BatchedEmbedder:
    """Load another registered model as the settings' embedder is loaded; raises BadWeights, BadConfig."""
    own = config.embedder.model_copy(update={"model": model, "head": None, "calibration": None})
    return load_embedder(config.model_copy(update={"embedder": own}), watcher)
