"""The fourth stage, trained on what the third one says of photos, with a head that stays as it is.

Its normalisations are folded into the convolutions, so that their statistics are frozen. What views and copies of one
product say is drawn together (supervised contrast, https://arxiv.org/abs/2004.11362), and how alike the batch's photos
are to the frozen network is kept, so that what training never saw is not lost.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn
from torch.nn import functional

from scripts.training_cache import POOLED, Halves
from scripts.training_head import select
from scripts.training_heads import Features, Part
from serve_app.backbone import POOLINGS, STAGE_WIDTHS, Head, pool

STAGE = 4
BATCH = 32
TOLD_EACH = 10


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """Say how the stage is trained."""

    steps: int = 120
    products: int = 24
    photos_of_each: int = 4
    singles: int = 16
    """Photos of clothing in a step, each with a copy, beside the products of luma."""
    rate: float = 2e-5
    temperature: float = 0.1
    keep: float = 3.0
    """Weight of the frozen similarities against the contrast."""


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """Hold what the third stage says of each copy (copies of (n, 1024, 14, 14)); of radios there is one."""

    luma: Sequence[Halves]
    clothing: Sequence[Halves]
    radios: Halves


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Hold one step's photos: maps, poolings of the first three stages, and who is who."""

    maps: Tensor
    early: Tensor
    labels: Tensor


def trained(
    stage: nn.Module,
    head: Head,
    part: Part,
    features: Features,
    maps: Maps,
    recipe: StageRecipe,
    seed: int,
    told: Callable[[str], None],
) -> nn.Module:
    """Return a copy of the stage that was trained with a part of the photos."""
    learning, frozen = copy.deepcopy(stage).train().requires_grad_(True), stage.eval()
    draw, contrast = np.random.default_rng(seed), SupConLoss(temperature=recipe.temperature)
    optimiser = torch.optim.AdamW(learning.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.steps)
    batches = Batches(part, features, maps, recipe)
    for step in range(1, recipe.steps + 1):
        batch = batches.draw(draw)
        with torch.autocast("cpu", torch.bfloat16):
            after = learning(batch.maps)
            with torch.inference_mode():
                before = frozen(batch.maps)
        pooled = torch.cat([batch.early, pool(after.float(), POOLINGS[STAGE])], dim=1)
        told_apart = contrast(head(pooled), batch.labels)
        kept = functional.mse_loss(_alike(after), _alike(before).clone())
        optimiser.zero_grad()
        (told_apart + recipe.keep * kept).backward()
        optimiser.step()
        schedule.step()
        if step % TOLD_EACH == 0:
            told(f"{part.name}, step {step} of {recipe.steps}: contrast {told_apart:.3f}, kept {kept:.5f}")
    return learning.eval()


def averaged(one: nn.Module, other: nn.Module, share: float) -> nn.Module:
    """Return the mean of two stages' weights, of which the second counts for `share` (0…1): arXiv:2109.01903."""
    mean, weights = copy.deepcopy(one), other.state_dict()
    mean.load_state_dict({name: torch.lerp(value, weights[name], share) for name, value in one.state_dict().items()})
    return mean.eval()


def seen_by(stage: nn.Module, features: Features, maps: Maps) -> Features:
    """Return the features with another fourth stage's numbers; copies are computed in bfloat16, as at first."""

    def anew(pooled: Tensor, copies: Sequence[Halves]) -> Tensor:
        before = pooled[..., : -len(POOLED) * STAGE_WIDTHS[STAGE]]
        numbers = [_pooled(stage, rows, half=number > 0) for number, rows in enumerate(copies)]
        return torch.cat([before, torch.stack(numbers).reshape(*pooled.shape[:-1], -1)], dim=-1)

    return replace(
        features,
        luma_copies=anew(features.luma_copies, maps.luma),
        clothing_copies=anew(features.clothing_copies, maps.clothing),
        radio_photos=anew(features.radio_photos, [maps.radios]),
    )


class Batches:
    """Draw steps: half luma's products, by views and copies, half single photos of clothing with a copy."""

    def __init__(self, part: Part, features: Features, maps: Maps, recipe: StageRecipe) -> None:
        self._features, self._maps, self._recipe = features, maps, recipe
        views: dict[str, list[int]] = defaultdict(list)
        for i in np.flatnonzero(part.luma).tolist():
            views[str(features.luma.photos.products[i])].append(i)
        self._views = [views[name] for name in sorted(views)]
        self._singles = np.flatnonzero(part.clothing)

    def draw(self, draw: np.random.Generator) -> Drawn:
        recipe, places = self._recipe, []
        products = draw.choice(len(self._views), recipe.products, replace=False)
        for label, product in enumerate(products.tolist()):
            photos = self._some(self._views[product], len(self._maps.luma), recipe.photos_of_each, draw)
            places += [(0, copy_of, photo, label) for copy_of, photo in photos]
        for label, photo in enumerate(draw.choice(self._singles, recipe.singles, replace=False), recipe.products):
            places += [(1, copy_of, int(photo), label) for copy_of in range(len(self._maps.clothing))]
        sets = ((self._maps.luma, self._features.luma_copies), (self._maps.clothing, self._features.clothing_copies))
        maps = np.stack([sets[which][0][copy_of][photo] for which, copy_of, photo, _ in places])
        pooled = torch.stack([sets[which][1][copy_of, photo] for which, copy_of, photo, _ in places])
        early = select(pooled.float(), tuple(stage for stage in STAGE_WIDTHS if stage != STAGE))
        return Drawn(_input(maps), early, torch.tensor([label for *_, label in places]))

    @staticmethod
    def _some(views: list[int], copies: int, count: int, draw: np.random.Generator) -> list[tuple[int, int]]:
        """Choose copies of a product's photos, as many different photos as it has."""
        order = [(int(draw.integers(copies)), photo) for photo in draw.permutation(views).tolist()]
        rest = [(copy_of, photo) for photo in views for copy_of in range(copies) if (copy_of, photo) not in order]
        return (order + [rest[i] for i in draw.permutation(len(rest)).tolist()])[:count]


def _pooled(stage: nn.Module, rows: Halves, *, half: bool) -> Tensor:
    numbers = []
    for first in range(0, len(rows), BATCH):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            said = stage(_input(rows[first : first + BATCH]))
        with torch.inference_mode():
            numbers.append(pool(said.float(), POOLED).half())
    return torch.cat(numbers).clone()


def _input(rows: npt.NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(np.asarray(rows, np.float32)).to(memory_format=torch.channels_last)


def _alike(maps: Tensor) -> Tensor:
    """Return the cosines (n, n) of the maps' averages."""
    unit = functional.normalize(maps.float().mean((2, 3)))
    return unit @ unit.T
