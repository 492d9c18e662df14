"""The second stage of an import: find the main objects of images, cut and embed their views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.preparing import Decoded
from serve_app.config import Config
from serve_app.domain import Crops, Detection, Embeddings, Photo, View
from serve_app.errors import BadWeights
from serve_app.images import cut_all
from serve_app.objects import import_views
from serve_app.runtimes.chosen import runtime_for
from serve_app.weights.chosen import detector_sha256, head_of


class DetectorModel(Protocol):
    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]: ...


class EmbedderModel(Protocol):
    def embed(self, crops: Crops) -> Embeddings: ...


@dataclass(frozen=True, slots=True)
class Models:
    """Hold the loaded models; without a detector, only whole images are indexed."""

    detector: DetectorModel | None
    embedder: EmbedderModel


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Hold an image's views with their embeddings, and the views that are stored of it."""

    planned: Planned
    views: dict[View, EmbeddedView]
    stored_views: frozenset[str]


def load_models(config: Config, fingerprint: str) -> Models:
    """Load the models; raises BadWeights, BadConfig."""
    from serve_app.detector import YoloDetector
    from serve_app.embedder import ResNetEmbedder

    options = config.importing
    detector = None
    if options.views != "whole":
        detector = YoloDetector(
            config.detector_weights,
            sha256=detector_sha256(config),
            device=options.device,
            threads=options.threads,
            side_px=config.detector.side_px,
            min_confidence=config.detector.min_confidence,
            runtime=runtime_for(config, "detector", options.device),
        )
    embedder = ResNetEmbedder(
        device=options.device,
        threads=options.threads,
        head=head_of(config),
        runtime=runtime_for(config, "embedder", options.device),
    )
    if embedder.fingerprint != fingerprint:
        raise BadWeights(f"this worker has the model {embedder.fingerprint}, the import is for {fingerprint}")
    return Models(detector, embedder)


def embed(models: Models, images: Sequence[Decoded], config: Config) -> tuple[list[Embedded], dict[str, float]]:
    """Return the images with their embeddings, and the seconds that went into each part of the work."""
    start_s = time.monotonic()
    found: list[tuple[Detection, ...]] = [()] * len(images)
    if models.detector is not None:
        step = config.detector.max_batch
        found = [
            detections
            for start in range(0, len(images), step)
            for detections in models.detector.find([image.photo for image in images[start : start + step]])
        ]
    views = [import_views(each, min_confidence=config.importing.min_confidence) for each in found]
    detected_s = time.monotonic()
    crops = np.concatenate([
        cut_all(image.photo, [view.box for view in some.values()]) for image, some in zip(images, views, strict=True)
    ])  # fmt: skip
    cut_s = time.monotonic()
    step = config.embedder.max_batch
    vectors = iter(
        np.concatenate([models.embedder.embed(crops[start : start + step]) for start in range(0, len(crops), step)])
    )
    embedded = [
        Embedded(
            image.planned,
            {view: EmbeddedView(detection, next(vectors)) for view, detection in some.items()},
            image.stored_views,
        )
        for image, some in zip(images, views, strict=True)
    ]
    seconds = {"detect": detected_s - start_s, "cut": cut_s - detected_s, "embed": time.monotonic() - cut_s}
    return embedded, seconds
