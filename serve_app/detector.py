"""The YOLO adapter: photos in, boxes out, synchronous and in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from serve_app.domain import Box, Detection, Photo, Pixels
from serve_app.runtimes.compiled import load
from serve_app.runtimes.runtime import TORCH, Floats, Runtime
from serve_app.weights.loader import DETECTOR_SHA256

STRIDE_PX = 32
PADDING = 114
"""The grey that YOLO was trained with around a photo that is not square."""
MAX_ASPECT = 8
"""Thinner photos are padded to this ratio, so that their short side keeps some pixels."""


class Network(Protocol):
    @property
    def labels(self) -> Sequence[str]: ...

    def run(self, boards: Pixels) -> Floats:
        """Return (n, 300, 6) of (n, height, width, 3): corners in pixels of the boards, confidence, label."""
        ...


class YoloDetector:
    """Find things in photos with YOLO26's own end-to-end head, which needs no suppression afterwards."""

    def __init__(
        self,
        weights: Path,
        *,
        sha256: str = DETECTOR_SHA256,
        device: str = "cpu",
        threads: int = 1,
        side_px: int = 640,
        min_confidence: float = 0.25,
        runtime: Runtime = TORCH,
    ) -> None:
        """Load the weights; raises BadWeights unless they have that sha256, BadConfig without the GPU."""
        self._side_px = side_px
        self._min_confidence = min_confidence
        self._network = _network(weights, sha256, device, threads, runtime)

    def warm_up(self) -> None:
        """Run once, so that the first shopper does not pay for lazy set-up."""
        self.find([Photo(np.zeros((480, 640, 3), np.uint8), 640, 480)])

    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]:
        """Return what each photo shows, surest first.

        A photo's boxes do not depend on its neighbours: only photos of one padded shape share a batch.
        """
        boards = [letterbox(photo.pixels, self._side_px) for photo in photos]
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, board in enumerate(boards):
            by_shape[board.shape].append(i)
        found: list[tuple[Detection, ...]] = [()] * len(photos)
        for indices in by_shape.values():
            rows = self._network.run(np.stack([boards[i] for i in indices]))
            for i, detections in zip(indices, rows, strict=True):
                found[i] = self._detections(detections, photos[i].pixels, boards[i])
        return found

    def _detections(self, rows: Floats, pixels: Pixels, board: Pixels) -> tuple[Detection, ...]:
        height, width = pixels.shape[:2]
        scale, left, top = _fit(height, width, board.shape[0], board.shape[1])
        detections = []
        for x0, y0, x1, y1, confidence, name in rows[rows[:, 4] >= self._min_confidence].tolist():
            box = Box(
                _share((x0 - left) / scale, width),
                _share((y0 - top) / scale, height),
                _share((x1 - left) / scale, width),
                _share((y1 - top) / scale, height),
            )
            if box.area > 0:
                detections.append(Detection(box, self._network.labels[int(name)], confidence))
        return tuple(detections)


def _network(weights: Path, sha256: str, device: str, threads: int, runtime: Runtime) -> Network:
    if runtime.folder is not None:
        return load(runtime, threads)
    # Not before: a replica that runs a compiled network starts without PyTorch.
    from serve_app.yolo import TorchYolo

    return TorchYolo(weights, sha256, device=device, threads=threads)


def letterbox(pixels: Pixels, side_px: int) -> Pixels:
    """Fit a photo into the smallest board of whole strides whose long side is `side_px`."""
    height, width = pixels.shape[:2]
    scale = side_px / max(height, width)
    shortest = side_px // MAX_ASPECT
    board_height = _strides(max(height * scale, shortest))
    board_width = _strides(max(width * scale, shortest))
    scale, left, top = _fit(height, width, board_height, board_width)
    fitted = cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_LINEAR
    )
    board = np.full((board_height, board_width, 3), PADDING, np.uint8)
    board[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return board


def _fit(height: int, width: int, board_height: int, board_width: int) -> tuple[float, int, int]:
    """Return scale, left and top of a photo that is centred on its board."""
    scale = max(board_height, board_width) / max(height, width)
    return scale, int((board_width - round(width * scale)) / 2), int((board_height - round(height * scale)) / 2)


def _strides(pixels: float) -> int:
    return int(-(-round(pixels, 3) // STRIDE_PX) * STRIDE_PX)


def _share(pixels: float, whole: int) -> float:
    return min(1.0, max(0.0, pixels / whole))
