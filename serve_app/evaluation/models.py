"""The models that can be evaluated: the embedder with any head, and what it has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.config import Config
from serve_app.domain import Crops, Embeddings
from serve_app.errors import BadWeights
from serve_app.evaluation.remembering import (
    DetectorModel,
    EmbedderModel,
    Memory,
    RememberedDetector,
    RememberedEmbedder,
)
from serve_app.images import PREPROCESSING_VERSION
from serve_app.runtimes.chosen import runtime_for
from serve_app.runtimes.runtime import TORCH, Runtime
from serve_app.weights.chosen import detector_sha256, head_of
from serve_app.weights.loader import BACKBONE_SHA256, embedder_files, fingerprint
from serve_app.weights.registry import HEAD, NETWORK_ONNX

HSV = "hsv"
IMAGENET = "imagenet"
HSV_BINS = (8, 4, 4)
"""Of hue, saturation and value."""


@dataclass(frozen=True, slots=True)
class Models:
    """Hold a detector and an embedder that remember; `name` is for people."""

    name: str
    detector: RememberedDetector
    embedder: RememberedEmbedder


def models(config: Config, named: str | None, memory: Memory) -> Models:
    """Return the models with the embedder that `named` stands for; nothing is loaded before it is needed.

    `hsv` is a histogram of colours, `imagenet` the last stage of the frozen backbone, anything else the file of a head,
    None that of the settings. Raises BadWeights where there is no such file.
    """
    own = config.detector
    runtime = runtime_for(config, "detector")
    weights = f"{detector_sha256(config)[:12]}/{PREPROCESSING_VERSION}"
    detector = f"{weights}/{own.side_px}/{own.min_confidence}{_suffix(runtime)}"
    name, model, load, suffix = _embedder(config, named)
    return Models(
        name,
        RememberedDetector(lambda: _load_detector(config, runtime), memory, detector),
        RememberedEmbedder(load, memory, model, suffix),
    )


class Histogram:
    """Embed crops by their colours alone: the root of a histogram over hue, saturation and value."""

    def embed(self, crops: Crops) -> Embeddings:
        """Return (n, 128) of unit length; by the root, a cosine is the Bhattacharyya coefficient."""
        import cv2

        rows = []
        for crop in crops:
            hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV)
            counts = cv2.calcHist([hsv], [0, 1, 2], None, list(HSV_BINS), [0, 180, 0, 256, 0, 256]).ravel()
            rows.append(np.sqrt(counts / counts.sum()))
        return np.stack(rows).astype(np.float32)


def _embedder(config: Config, named: str | None) -> tuple[str, str, Callable[[], EmbedderModel], str]:
    """Return a name for people, a fingerprint, how it is loaded, and what else is remembered apart."""
    own = config.embedder
    if named == HSV:
        return "HSV histogram", _short(f"{HSV}/{HSV_BINS}/{PREPROCESSING_VERSION}"), Histogram, ""
    if named == IMAGENET:
        model = _short(f"{IMAGENET}/{BACKBONE_SHA256}/{PREPROCESSING_VERSION}")
        return "ImageNet, 2,048 numbers", model, lambda: _load_frozen(own.device, own.threads), ""
    head = Path(named) if named is not None else head_of(config)
    if head is not None and not head.is_file():
        raise BadWeights(f"there is no head {head}; give a safetensors file, `{IMAGENET}` or `{HSV}`")
    name = "starter" if head is None else head.parent.name if head.name in (HEAD, NETWORK_ONNX) else head.stem
    # Another head than that of the settings was not compiled.
    runtime = runtime_for(config, "embedder") if named is None else TORCH
    model = fingerprint(embedder_files(head))
    return name, model, lambda: _load_embedder(own.device, own.threads, head, runtime), _suffix(runtime)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _suffix(runtime: Runtime) -> str:
    """Keep what another runtime says apart from what PyTorch says: near is not the same."""
    return "" if runtime == TORCH else f"/{runtime.backend}/{runtime.precision}"


def _load_detector(config: Config, runtime: Runtime) -> DetectorModel:
    from serve_app.detector import YoloDetector

    own = config.detector
    return YoloDetector(
        config.detector_weights,
        sha256=detector_sha256(config),
        device=own.device,
        threads=own.threads,
        side_px=own.side_px,
        min_confidence=own.min_confidence,
        runtime=runtime,
    )


def _load_embedder(device: str, threads: int, head: Path | None, runtime: Runtime) -> EmbedderModel:
    from serve_app.embedder import ResNetEmbedder

    return ResNetEmbedder(device=device, threads=threads, head=head, runtime=runtime)


def _load_frozen(device: str, threads: int) -> EmbedderModel:
    from serve_app.backbone import FrozenEmbedder

    return FrozenEmbedder(device=device, threads=threads)
