"""The linear head, fitted in closed form: what differs between photos of one product is made small.

Learnt whitening as in Radenović et al. 2018 (https://arxiv.org/abs/1711.02512, section 3.4), here with a ridge: the
directions in which views and copies of one thing differ are scaled down, those in which they don't are kept, and of
what is left the main directions make the embedding. Where training saw no difference, the frozen network's similarities
stay as they were.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scripts.training_cache import POOLED
from scripts.training_photos import Names
from serve_app.backbone import POOLINGS, STAGE_WIDTHS, Head
from serve_app.domain import EMBEDDING_DIM

STAGES = (1, 2, 3, 4)
SCALE = 0.02
"""Root mean square of the projection, far from where half precision ends. Embeddings are normalised anyway."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Say how a head is fitted."""

    stages: tuple[int, ...] = STAGES
    directions: int = 1024
    """Main directions of the training photos' features in which differences are looked at."""
    ridge: float = 1.0
    """What is added to the differences' variance in every direction, in shares of its mean: the larger, the more of the
    frozen network's similarities stays."""
    views: float = 1.0
    copies: float = 1.0
    instances: float = 1.0
    """Weights of differences between views of a product, copies of a photo of a product, copies of single photos."""


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """Hold features (copies, n, d), copy 0 plain, with the product of each photo."""

    features: Tensor
    products: Names

    def between_views(self) -> Tensor:
        """Return the differences (n, d) between plain photos of one product."""
        by_product: dict[str, list[int]] = defaultdict(list)
        for i, product in enumerate(self.products.tolist()):
            by_product[product].append(i)
        pairs = [pair for photos in by_product.values() for pair in itertools.combinations(photos, 2)]
        one, other = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        return self.features[0, one] - self.features[0, other]

    def between_copies(self) -> Tensor:
        """Return the differences (n, d) between photos and their copies."""
        return (self.features[1:] - self.features[0]).flatten(0, 1)


def select(pooled: Tensor, stages: Sequence[int]) -> Tensor:
    """Take from all poolings that are kept (…, WIDTH) those that a head of `stages` looks at."""
    parts, start = [], 0
    for stage, width in STAGE_WIDTHS.items():
        for name in POOLED:
            if stage in stages and name in POOLINGS[stage]:
                parts.append(pooled[..., start : start + width])
            start += width
    return torch.cat(parts, dim=-1)


def unprojected(pooled: Tensor, stages: tuple[int, ...]) -> Head:
    """Return a head that centres each stage's poolings and scales each pooling by its own spread."""
    widths = [STAGE_WIDTHS[stage] for stage in stages for _ in POOLINGS[stage]]
    spread = [torch.full((part.shape[1],), float(part.std(0).norm())) for part in torch.split(pooled, widths, dim=1)]
    return Head(stages, pooled.mean(0), torch.cat(spread), torch.zeros(EMBEDDING_DIM, pooled.shape[1]))


def frozen(head: Head, pooled: Tensor) -> Tensor:
    """Return the features (…, d) of unit norm that are projected."""
    return functional.normalize(head.standardise(pooled.flatten(0, -2))).reshape(pooled.shape)


def projection(luma: Set, clothing: Set, recipe: Recipe) -> Tensor:
    """Fit (256, d) to products of several views and to single photos."""
    plain = torch.cat([luma.features[0], clothing.features[0]])
    seen = torch.cat([luma.features.flatten(0, 1), clothing.features[0]])
    basis = main_directions(seen, recipe.directions)
    whitening = scaled_down(
        [
            (recipe.views, luma.between_views() @ basis),
            (recipe.copies, luma.between_copies() @ basis),
            (recipe.instances, clothing.between_copies() @ basis),
        ],
        recipe.ridge,
    )
    whitened = basis @ whitening
    kept = main_directions(functional.normalize(plain @ whitened), EMBEDDING_DIM)
    projected = (whitened @ kept).T
    return projected * (SCALE / projected.square().mean().sqrt())


def main_directions(rows: Tensor, count: int) -> Tensor:
    """Return (d, count), orthonormal, widest first; not centred, as cosines are not."""
    # By the smaller of the two products, which has the same values other than 0.
    few = len(rows) < rows.shape[1]
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(rows @ rows.T if few else rows.T @ rows)
    values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
    return (rows.T @ vectors) / values.clamp(min=1e-12).sqrt() if few else vectors


def scaled_down(differences: Iterable[tuple[float, Tensor]], ridge: float) -> Tensor:
    """Return (d, d) that divides by the root of the differences' weighted variance and the ridge."""
    variance = sum(weight * rows.T @ rows / max(1, len(rows)) for weight, rows in differences)
    assert isinstance(variance, Tensor)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(variance)
    values = values.clamp(min=0)
    return vectors / (values + ridge * values.mean()).sqrt()
