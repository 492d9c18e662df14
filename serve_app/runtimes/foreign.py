"""A network from elsewhere, as an ONNX file: crops in, embeddings out, on the CPU in fp32.

It takes one input, float32 (n, 3, 224, 224), RGB scaled by ImageNet's mean and deviation, as models of torchvision do,
and gives (n, 256) first; what it gives is scaled to unit norm here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serve_app.domain import EMBEDDING_DIM, Crops, Embeddings
from serve_app.errors import BadConfig, BadWeights
from serve_app.images import CROP_SIDE_PX
from serve_app.runtimes.artefacts import need_package
from serve_app.runtimes.compiled import onnxruntime_options
from serve_app.runtimes.runtime import Floats

# https://pytorch.org/vision/stable/models.html
_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
_DEVIATION = np.array((0.229, 0.224, 0.225), np.float32)
_SCALE, _SHIFT = 1 / (255 * _DEVIATION), -_MEAN / _DEVIATION
FEWEST_NORM = 1e-12

WANTED = (
    f"one float32 input of (n, 3, {CROP_SIDE_PX}, {CROP_SIDE_PX}) with a free n, and (n, {EMBEDDING_DIM}) as output"
)


class ForeignNetwork:
    """Run a network that somebody exported to ONNX; one thread at a time may use it."""

    def __init__(self, path: Path, device: str = "cpu", threads: int | None = None) -> None:
        """Open it and try it on two crops; raises BadWeights where it takes or gives something else.

        Raises BadConfig on a GPU, and where ONNX Runtime is not installed.
        """
        if device != "cpu":
            raise BadConfig(f"{path.name} is run by ONNX Runtime on the CPU; set embedder.device: cpu")
        need_package("onnxruntime")
        self._path = path
        self._session = _open(path, threads)
        given = self._session.get_inputs()
        if len(given) != 1 or given[0].type != "tensor(float)":
            raise BadWeights(f"{path} takes {[f'{each.name}: {each.type}' for each in given]}; it has to have {WANTED}")
        self._input = given[0].name
        # The second try holds another number of crops, which a network with a fixed one does not take.
        for crops in (2, 1):
            rows = self._rows(np.zeros((crops, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8))
            if rows.shape != (crops, EMBEDDING_DIM) or rows.dtype != np.float32:
                raise BadWeights(f"{path} gives {rows.shape} {rows.dtype}; it has to have {WANTED}")

    def __call__(self, crops: Crops) -> Embeddings:
        """Return (n, 256), each row of unit norm, of (n, side, side, 3)."""
        rows = self._rows(crops)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        embeddings: Embeddings = rows / np.maximum(norms, FEWEST_NORM)
        return embeddings

    def _rows(self, crops: Crops) -> Floats:
        pixels = np.ascontiguousarray((crops * _SCALE + _SHIFT).transpose(0, 3, 1, 2), np.float32)
        try:
            rows: Floats = self._session.run(None, {self._input: pixels})[0]
        except _failures() as error:
            raise BadWeights(f"{self._path} can't be run: {error}; it has to have {WANTED}") from error
        return rows


def _open(path: Path, threads: int | None) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), onnxruntime_options(threads), ["CPUExecutionProvider"])
    except _failures() as error:
        raise BadWeights(f"{path} is no network that ONNX Runtime opens: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented", "NoModel")
    return tuple(getattr(states, name) for name in names)
