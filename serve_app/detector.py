"""The YOLO adapter: photos in, boxes out, synchronous and in batches."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from serve_app.device import pick, translating_errors
from serve_app.domain import Box, Detection, Photo, Pixels
from serve_app.weights.loader import DETECTOR_SHA256, verify

STRIDE_PX = 32
PADDING = 114
"""The grey that YOLO was trained with around a photo that is not square."""
MAX_ASPECT = 8
"""Thinner photos are padded to this ratio, so that their short side keeps some pixels."""


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
    ) -> None:
        """Load the weights; raises BadWeights unless they have that sha256, BadConfig without the GPU."""
        self._device = pick("detector", device)
        verify(weights, sha256)
        torch.set_num_threads(threads)
        self._side_px = side_px
        self._min_confidence = min_confidence
        self._model = load_network(weights).to(self._device, memory_format=torch.channels_last)
        self._names: dict[int, str] = dict(self._model.names)

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
            rows = self._forward(np.stack([boards[i] for i in indices]))
            for i, detections in zip(indices, rows, strict=True):
                found[i] = self._detections(detections, photos[i].pixels, boards[i])
        return found

    def _forward(self, boards: Pixels) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return (n, 300, 6): corners in pixels of the padded photo, confidence, class."""
        with translating_errors(), torch.inference_mode():
            batch = torch.from_numpy(boards).to(self._device).permute(0, 3, 1, 2)
            batch = batch.to(torch.float32, memory_format=torch.channels_last).div_(255)
            output = self._model(batch)
            rows = output[0] if isinstance(output, (tuple, list)) else output
            result: np.ndarray[Any, np.dtype[np.float32]] = rows.float().cpu().numpy()
            return result

    def _detections(
        self, rows: np.ndarray[Any, np.dtype[np.float32]], pixels: Pixels, board: Pixels
    ) -> tuple[Detection, ...]:
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
                detections.append(Detection(box, self._names[int(name)], confidence))
        return tuple(detections)


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


def set_switches(weights: Path) -> None:
    """Say to Ultralytics, before it is imported, what it may not do.

    That is: download, install packages, write into the user's home.
    """
    # Whoever keeps the weights in a folder that can't be written to names another for the settings.
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_VERBOSE"] = "false"
    os.environ.setdefault("YOLO_CONFIG_DIR", str(weights.parent / "ultralytics"))


def load_network(weights: Path, *, one_to_one: bool = True) -> Any:
    """Load the network with one of its two heads; what the one-to-many head finds has to be suppressed afterwards.

    It does not verify the file: unpickling runs what it holds.
    """
    set_switches(weights)
    open_image, threads = Image.open, torch.get_num_threads()
    from ultralytics.nn.tasks import load_checkpoint

    # Ultralytics replaces Pillow's open by one that installs a package for every file which is no image
    # (ultralytics/utils/patches.py).
    Image.open = open_image
    model, _ = load_checkpoint(str(weights), device="cpu")  # type: ignore[no-untyped-call]
    model.end2end = one_to_one
    model = model.float().fuse(verbose=False).eval()
    # Ultralytics sets its own number of threads while it is imported.
    torch.set_num_threads(threads)
    return model
