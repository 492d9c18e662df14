"""The detector's network in PyTorch: what other runtimes are made of and compared with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from serve_app.device import pick, translating_errors
from serve_app.domain import Pixels
from serve_app.runtimes.runtime import Floats
from serve_app.weights.loader import verify


class TorchYolo:
    """Run the detector's network as PyTorch does, one operation after the other."""

    def __init__(self, weights: Path, sha256: str, *, device: str, threads: int) -> None:
        """Load the weights; raises BadWeights unless they have that sha256, BadConfig without the GPU."""
        self._device = pick("detector", device)
        verify(weights, sha256)
        torch.set_num_threads(threads)
        self._model = load_network(weights).to(self._device, memory_format=torch.channels_last)
        self.labels = labels(self._model)

    def run(self, boards: Pixels) -> Floats:
        """Return (n, 300, 6) of (n, height, width, 3): corners in pixels, confidence, label."""
        with translating_errors(), torch.inference_mode():
            batch = torch.from_numpy(boards).to(self._device).permute(0, 3, 1, 2)
            batch = batch.to(torch.float32, memory_format=torch.channels_last).div_(255)
            rows: Floats = _rows(self._model(batch)).float().cpu().numpy()
            return rows


class YoloGraph(nn.Module):
    """Hold the network as other runtimes take it: boards of bytes in, rows out, of any number and size."""

    def __init__(self, weights: Path, sha256: str) -> None:
        """Load the weights; raises BadWeights unless they have that sha256."""
        super().__init__()
        verify(weights, sha256)
        self.network = load_network(weights)
        self.labels = labels(self.network)
        head = self.network.model[-1]
        # Ultralytics' own switches of its exporter: rows alone come out, and anchors are part of the graph.
        head.export, head.dynamic, head.format = True, True, "onnx"

    def forward(self, boards: Tensor) -> Tensor:
        """Return (n, 300, 6) of (n, height, width, 3) uint8."""
        return _rows(self.network(boards.permute(0, 3, 1, 2).to(torch.float32) / 255))


def labels(network: Any) -> tuple[str, ...]:
    """Return the network's labels in the order of their numbers."""
    names: dict[int, str] = network.names
    return tuple(names[number] for number in sorted(names))


def _rows(output: Any) -> Tensor:
    return cast(Tensor, output[0] if isinstance(output, (tuple, list)) else output)


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
