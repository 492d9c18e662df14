"""Which copies of which photos an embedder is trained with, and what the frozen network says of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scripts.training_augment import VERSION, augmented, plain
from scripts.training_cache import Cache, Copy, Halves
from scripts.training_heads import Features
from scripts.training_photos import Luma, Photos, Radios

LUMA_COPIES, CLOTHING_COPIES, CLOTHING_PHOTOS = 2, 1, 512

Kept = Callable[[Photos, Copy, int], Halves]


def read_features(cache: Cache, luma: Luma, clothing: Photos, radios: Radios, count: int, seed: int) -> Features:
    """Return all poolings of the sets; of clothing, of the first `count` photos."""
    of_luma, of_clothing, of_radios = shown(cache.get, luma, clothing, radios, count, seed)
    return Features(
        luma, clothing.first(count), radios, _stacked(of_luma), _stacked(of_clothing), _stacked(of_radios)[0]
    )


def shown(
    kept: Kept, luma: Luma, clothing: Photos, radios: Radios, count: int, seed: int
) -> tuple[list[Halves], list[Halves], list[Halves]]:
    """Return what is kept of each copy of each set, the plain one first; of radios there is no other."""
    original = Copy("plain", plain, half=False)
    changed = [
        Copy(
            f"augmented {VERSION}, seed {seed}, copy {number}",
            partial(augmented, copy=number, clutter=clothing.files, seed=seed),
        )
        for number in range(1, 1 + max(LUMA_COPIES, CLOTHING_COPIES))
    ]
    return (
        [kept(luma.photos, copy, len(luma.photos)) for copy in (original, *changed[:LUMA_COPIES])],
        [kept(clothing, copy, count) for copy in (Copy("plain", plain), *changed[:CLOTHING_COPIES])],
        [kept(radios.photos, original, len(radios.photos))],
    )


def _stacked(copies: list[Halves]) -> Tensor:
    return torch.from_numpy(np.stack(copies))
