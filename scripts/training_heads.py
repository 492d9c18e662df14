"""The heads of one run: what each is trained with, and each of them kept once it is trained."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import numpy as safetensors
from torch import Tensor

from scripts.training_head import Recipe, Set, frozen, projection, select, unprojected
from scripts.training_photos import FOLDS, Luma, Photos, Radios
from serve_app.backbone import Head, load_head
from serve_app.weights.loader import ARCHITECTURE, EmbedderFiles, embedder_files

Mask = npt.NDArray[np.bool_]

TOPS = frozenset({"t-shirt", "longsleeve", "shirt", "outwear", "dress"})
BOTTOMS = frozenset({"pants", "shorts", "skirt"})
"""Categories of the clothing photos; those of luma end with `Tops` and `Bottoms`."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Hold all poolings: (copies, n, WIDTH) of the sets to train with, (n, WIDTH) of the radios."""

    luma: Luma
    clothing: Photos
    radios: Radios
    luma_copies: Tensor
    clothing_copies: Tensor
    radio_photos: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Say which photos a head is trained with, and which views of luma it is then asked with."""

    name: str
    luma: Mask
    clothing: Mask
    asked: npt.NDArray[np.int64]


def folds(luma: Luma, clothing: Photos) -> list[Part]:
    """Leave out a fifth of the styles, five times."""
    every = np.ones(len(clothing), bool)
    return [
        Part(f"fold {fold}", luma.folds != fold, every, luma.queries[luma.folds[luma.queries] == fold])
        for fold in range(FOLDS)
    ]


def categories(luma: Luma, clothing: Photos) -> list[Part]:
    """Leave out all that is worn above, and all that is worn below."""
    found = []
    for name, own in (("Tops", TOPS), ("Bottoms", BOTTOMS)):
        among = np.char.endswith(luma.photos.categories, name)
        others = ~np.isin(clothing.categories, sorted(own))
        found.append(Part(f"without {name.lower()}", ~among, others, luma.queries[among[luma.queries]]))
    return found


def everything(luma: Luma, clothing: Photos) -> Part:
    """Leave nothing out, so that no view of luma is left to be asked with."""
    return Part("everything", np.ones(len(luma.photos), bool), np.ones(len(clothing), bool), luma.queries[:0])


class Heads:
    """Fit heads by one recipe, or read them where they were fitted before."""

    def __init__(self, folder: Path, features: Features, recipe: Recipe, told: Callable[[str], None]) -> None:
        self._folder = folder
        self._features = features
        self._recipe = recipe
        self._told = told

    def get(self, part: Part) -> Head:
        """Return the head of a part, as it would be shipped: in half precision."""
        path = self._folder / f"{part.name.replace(' ', '-')}-{self._key(part)}.safetensors"
        if not path.exists():
            started = time.monotonic()
            head = self._fitted(part)
            self._folder.mkdir(parents=True, exist_ok=True)
            save(head, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
            self._told(f"{part.name}: fitted in {time.monotonic() - started:.0f} s")
        return load_head(EmbedderFiles(embedder_files().backbone, path))

    def _fitted(self, part: Part) -> Head:
        stages = self._recipe.stages
        chosen = select(self._features.luma_copies[:, part.luma].float(), stages)
        others = select(self._features.clothing_copies[:, part.clothing].float(), stages)
        head = unprojected(torch.cat([chosen[0], others[0]]), stages)
        luma = Set(frozen(head, chosen), self._features.luma.photos.products[part.luma])
        clothing = Set(frozen(head, others), self._features.clothing.products[part.clothing])
        head.projection.data = projection(luma, clothing, self._recipe)
        return head

    def _key(self, part: Part) -> str:
        digest = hashlib.sha256(f"{ARCHITECTURE} {asdict(self._recipe)}".encode())
        for array in (part.luma, part.clothing, self._features.luma_copies, self._features.clothing_copies):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


def embed(head: Head, pooled: Tensor) -> npt.NDArray[np.float32]:
    """Return the embeddings of photos by all their poolings."""
    with torch.inference_mode():
        embeddings: npt.NDArray[np.float32] = head(select(pooled.float(), head.stages)).numpy()
        return embeddings


def save(head: Head, path: Path) -> None:
    """Write the head as the embedder reads it, in half precision."""
    named = dict(head.named_buffers()) | dict(head.named_parameters())
    # Contiguous, because safetensors writes a transposed array as if it were none.
    arrays = {name: named[name].detach().half().contiguous().numpy() for name in ("mean", "deviation", "projection")}
    metadata = {"stages": ",".join(map(str, head.stages)), "architecture": ARCHITECTURE}
    # safetensors' own save_file makes a file that nobody else may read.
    path.write_bytes(safetensors.save(arrays, metadata=metadata))
