"""What an embedding is measured by: products of luma found by their other views, radios by each other's photos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scripts.training_photos import Luma, Names, Places, Radios
from serve_app.evaluation.resampling import Difference, Interval, differences, intervals

CUTS = (1, 5, 10)
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Hold for each query the rank (from 1) of the right product among all products, and what it counts for."""

    ranks: npt.NDArray[np.int64]
    products: Names
    categories: Names

    @property
    def recall_at_1(self) -> float:
        return float((self.ranks == 1).mean())

    def some(self, which: npt.NDArray[np.bool_]) -> Ranks:
        return Ranks(self.ranks[which], self.products[which], self.categories[which])

    def values(self) -> npt.NDArray[np.float64]:
        """Return (n, 4): recall at CUTS, and one over the rank where it is within the last cut."""
        columns = [self.ranks <= cut for cut in CUTS]
        return np.column_stack([*columns, np.where(self.ranks <= CUTS[-1], 1 / self.ranks, 0)]).astype(float)

    def figures(self) -> Mapping[str, Interval]:
        names = [*(f"R@{cut}" for cut in CUTS), f"mAP@{CUTS[-1]}"]
        return dict(zip(names, intervals(self.values(), self.products.tolist()), strict=True))

    def better_than(self, other: Ranks) -> Difference:
        """Return how much higher recall at 1 is, over the same queries."""
        return differences(other.values()[:, 0], self.values()[:, 0], self.products.tolist())[0]


def luma_ranks(luma: Luma, embeddings: Floats, asked: Places) -> Ranks:
    """Ask with some views of the luma set; all main photos are the gallery."""
    products = luma.photos.products
    scores = embeddings[asked] @ embeddings[luma.gallery].T
    return Ranks(
        _ranks(scores, products[asked], products[luma.gallery]), products[asked], luma.photos.categories[asked]
    )


def radio_ranks(radios: Radios, embeddings: Floats) -> Ranks:
    """Ask with each radio; all other photos are the gallery."""
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -2)
    products = radios.photos.products
    return Ranks(_ranks(scores, products, products), products, radios.photos.categories)


def joined(parts: list[Ranks]) -> Ranks:
    """Return the queries of several parts as those of one set."""
    return Ranks(
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.products for part in parts]),
        np.concatenate([part.categories for part in parts]),
    )


def _ranks(scores: Floats, wanted: Names, products: Names) -> npt.NDArray[np.int64]:
    """Rank products, each by its best photo; among equals the right one comes last."""
    names, place = np.unique(products, return_inverse=True)
    best = np.stack([scores[:, place == i].max(1) for i in range(len(names))], axis=1)
    right = best[np.arange(len(wanted)), np.searchsorted(names, wanted)]
    return np.asarray((best >= right[:, None]).sum(1), np.int64)
