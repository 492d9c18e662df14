"""The ResNet adapter: crops in, embeddings out, synchronous and in batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from serve_app.domain import EMBEDDING_DIM, Crops, Embeddings
from serve_app.images import CROP_SIDE_PX
from serve_app.runtimes.compiled import load
from serve_app.runtimes.foreign import ForeignNetwork
from serve_app.runtimes.runtime import TORCH, Runtime
from serve_app.weights.loader import ONNX, EmbedderFiles, embedder_files, fingerprint


class ResNetEmbedder:
    """Embed crops with a frozen ResNet-50 and a trained linear head, or with a network that was trained elsewhere."""

    fingerprint: str
    """Of the model, whatever runs it: what runs it has passed parity."""

    def __init__(
        self, *, device: str = "cpu", threads: int | None = None, head: Path | None = None, runtime: Runtime = TORCH
    ) -> None:
        """Load the weights; raises BadWeights where they are not right, BadConfig without the GPU."""
        files = embedder_files(head)
        self.fingerprint = fingerprint(files)
        self._run = _network(files, device, threads, runtime)
        self._device, self._threads = device, threads
        self._other: Callable[[Crops], Embeddings] | None = None
        self._other_model = ""

    def warm_up(self) -> None:
        """Run once, so that the first shopper does not pay for lazy set-up."""
        self.embed(np.zeros((1, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8))

    def embed(self, crops: Crops) -> Embeddings:
        """Return one embedding per crop; raises ValueError for other sides than the model's."""
        _check(crops)
        return self._run(crops) if len(crops) else np.empty((0, EMBEDDING_DIM), np.float32)

    def embed_with(self, crops: Crops, head: Path | None) -> tuple[Embeddings, str]:
        """Return one embedding per crop by another model, and its fingerprint.

        No compiled network runs it, since that holds its own head. The last such head stays in memory, 4 MB; where it
        is on another backbone, or the network is a compiled one, so does a backbone, some 100 MB, and PyTorch. Raises
        BadWeights.
        """
        from serve_app.backbone import TorchFeatures

        _check(crops)
        files = embedder_files(head)
        model = fingerprint(files)
        if not len(crops):
            return np.empty((0, EMBEDDING_DIM), np.float32), model
        for known in (self._run, self._other):
            if isinstance(known, TorchFeatures) and known.has_backbone(files):
                return known.embed_with(crops, files, model), model
        if self._other is None or self._other_model != model:
            self._other, self._other_model = _network(files, self._device, self._threads, TORCH), model
        return self._other(crops), model


def _check(crops: Crops) -> None:
    if crops.ndim != 4 or crops.shape[1:] != (CROP_SIDE_PX, CROP_SIDE_PX, 3) or crops.dtype != np.uint8:
        raise ValueError(f"crops are (n, {CROP_SIDE_PX}, {CROP_SIDE_PX}, 3) uint8, not {crops.shape} {crops.dtype}")


def _network(files: EmbedderFiles, device: str, threads: int | None, runtime: Runtime) -> Callable[[Crops], Embeddings]:
    if runtime.folder is not None:
        return load(runtime, threads).run
    if files.architecture == ONNX:
        return ForeignNetwork(files.head, device, threads)
    # Not before: a replica that runs a compiled network starts without PyTorch.
    from serve_app.backbone import TorchFeatures

    return TorchFeatures(files, device=device, threads=threads)
