"""The ResNet adapter: crops in, embeddings out, synchronous and in batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serve_app.domain import EMBEDDING_DIM, Crops, Embeddings
from serve_app.images import CROP_SIDE_PX
from serve_app.runtimes.compiled import load
from serve_app.runtimes.runtime import TORCH, Runtime
from serve_app.weights.loader import EmbedderFiles, embedder_files, fingerprint

if TYPE_CHECKING:
    from serve_app.backbone import TorchFeatures


class ResNetEmbedder:
    """Embed crops with a frozen ResNet-50 and a trained linear head."""

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
        self._torch: TorchFeatures | None = None

    def warm_up(self) -> None:
        """Run once, so that the first shopper does not pay for lazy set-up."""
        self.embed(np.zeros((1, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8))

    def embed(self, crops: Crops) -> Embeddings:
        """Return one embedding per crop; raises ValueError for other sides than the model's."""
        _check(crops)
        return self._run(crops) if len(crops) else np.empty((0, EMBEDDING_DIM), np.float32)

    def embed_with(self, crops: Crops, head: Path | None) -> tuple[Embeddings, str]:
        """Return one embedding per crop by another head on this backbone, and that model's fingerprint.

        It is PyTorch that runs it: a compiled network holds its own head. The last such head stays in memory, 4 MB;
        where the network is a compiled one, so does the backbone, some 100 MB, and PyTorch. Raises BadWeights.
        """
        from serve_app.backbone import TorchFeatures

        _check(crops)
        files = embedder_files(head)
        model = fingerprint(files)
        if not len(crops):
            return np.empty((0, EMBEDDING_DIM), np.float32), model
        if isinstance(self._run, TorchFeatures):
            return self._run.embed_with(crops, files, model), model
        if self._torch is None:
            self._torch = TorchFeatures(files, device=self._device, threads=self._threads)
        return self._torch.embed_with(crops, files, model), model


def _check(crops: Crops) -> None:
    if crops.ndim != 4 or crops.shape[1:] != (CROP_SIDE_PX, CROP_SIDE_PX, 3) or crops.dtype != np.uint8:
        raise ValueError(f"crops are (n, {CROP_SIDE_PX}, {CROP_SIDE_PX}, 3) uint8, not {crops.shape} {crops.dtype}")


def _network(files: EmbedderFiles, device: str, threads: int | None, runtime: Runtime) -> Callable[[Crops], Embeddings]:
    if runtime.folder is not None:
        return load(runtime, threads).run
    # Not before: a replica that runs a compiled network starts without PyTorch.
    from serve_app.backbone import TorchFeatures

    return TorchFeatures(files, device=device, threads=threads)
