"""What the frozen stages of the network say of photos, kept in a work folder as memory-mapped files.

Written in chunks, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from scripts.training_photos import Photos
from serve_app.backbone import STAGE_WIDTHS, Backbone, load_backbone, pool, to_batch
from serve_app.domain import Pixels
from serve_app.images import CROP_SIDE_PX, PREPROCESSING_VERSION
from serve_app.weights.loader import BACKBONE_SHA256, embedder_files

BATCH = 16
CHUNK = 4
"""Batches between two notes of how far a file is."""
POOLED = ("average", "deviation", "generalised mean")
"""Poolings that are kept of every stage, so that a head can be tried with others than those it looks at now."""
WIDTH = len(POOLED) * sum(STAGE_WIDTHS.values())
MAPS = (STAGE_WIDTHS[3], CROP_SIDE_PX // 16, CROP_SIDE_PX // 16)

Crop = Callable[[Path], Pixels]
Halves = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Copy:
    """Say which crops are made of photos: `recipe` names what decides their pixels beside the photo itself."""

    recipe: str
    crop: Crop
    half: bool = True
    """Computed in bfloat16: twice as fast, and good enough for what is changed at random anyway."""


class Cache:
    """Run the frozen network over photos once."""

    def __init__(self, folder: Path, told: Callable[[str, int, int], None]) -> None:
        self._folder = folder
        self._told = told

    @cached_property
    def backbone(self) -> Backbone:
        """Return the network, loaded when something is missing for the first time."""
        return load_backbone(embedder_files()).to(memory_format=torch.channels_last)

    def get(self, photos: Photos, copy: Copy, count: int) -> Halves:
        """Return all poolings (count, WIDTH) of a copy of the first photos, after computing what is missing."""
        return self._kept("pooled", (WIDTH,), self._pool, photos, copy, count)

    def third_stage(self, photos: Photos, copy: Copy, count: int) -> Halves:
        """Return the maps (count, *MAPS) that the third stage ends with, 400 kB each."""
        return self._kept("maps", MAPS, self._third_stage, photos, copy, count)

    def _kept(
        self,
        kind: str,
        shape: tuple[int, ...],
        of: Callable[[Pixels, bool], Tensor],
        photos: Photos,
        copy: Copy,
        count: int,
    ) -> Halves:
        name = f"{photos.name}-{self._key(photos, copy)}-{kind}"
        state, path = self._folder / f"{name}.json", self._folder / f"{name}.npy"
        done = int(json.loads(state.read_text(encoding="utf-8"))["done"]) if state.exists() else 0
        if done < count:
            self._folder.mkdir(parents=True, exist_ok=True)
            # As long as all photos, so that more of them can be asked for later; what is not written takes no room.
            array = open_memmap(path, "r+") if done else open_memmap(path, "w+", np.float16, (len(photos), *shape))
            for written in self._fill(photos.files[:count], copy, of, array, done):
                array.flush()
                _replace(state, json.dumps({"photos": photos.name, "recipe": copy.recipe, "done": written}))
                self._told(f"{photos.name}, {copy.recipe}, {kind}", written, count)
        read: Halves = np.load(path, mmap_mode="r")[:count]
        return read

    def _fill(
        self, files: Sequence[Path], copy: Copy, of: Callable[[Pixels, bool], Tensor], array: Halves, start: int
    ) -> Iterator[int]:
        """Write the rows from `start` on; yield how many there are, after each chunk."""
        with ThreadPoolExecutor(1) as ahead:
            crops = ahead.submit(_crops, files[start : start + BATCH], copy.crop)
            for i, first in enumerate(range(start, len(files), BATCH), 1):
                batch = crops.result()
                last = first + len(batch)
                if last < len(files):
                    crops = ahead.submit(_crops, files[last : last + BATCH], copy.crop)
                array[first:last] = of(batch, copy.half).numpy()
                if i % CHUNK == 0 or last == len(files):
                    yield last

    def _pool(self, batch: Pixels, half: bool) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            stages = list(self.backbone.maps(to_batch(batch, torch.device("cpu"))))
        with torch.inference_mode():
            return torch.cat([pool(maps.float(), POOLED) for maps in stages], dim=1).half()

    def _third_stage(self, batch: Pixels, half: bool) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            # The stages are run one by one as they are asked for, so that the fourth is not.
            maps = next(itertools.islice(self.backbone.maps(to_batch(batch, torch.device("cpu"))), 2, None))
        return maps.half()

    def _key(self, photos: Photos, copy: Copy) -> str:
        names = [f"{path.name} {path.stat().st_size}" for path in photos.files]
        parts = [BACKBONE_SHA256, str(PREPROCESSING_VERSION), copy.recipe, "224", str(copy.half), *names]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _crops(files: Sequence[Path], crop: Crop) -> Pixels:
    return np.stack([crop(path) for path in files])


def _replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text, encoding="utf-8")
    path.with_suffix(".new").replace(path)
