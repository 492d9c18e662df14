"""The figures of a run: what the frozen network finds, what the heads find, and the gate between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scripts.measuring import Goal
from scripts.training_cache import POOLED
from scripts.training_heads import Features, Heads, Part, categories, embed, everything, folds
from scripts.training_protocol import Floats, Ranks, joined, luma_ranks, radio_ranks
from serve_app.backbone import STAGE_WIDTHS

LAST, THIRD, HEAD = "last stage, average, 2048", "third stage, average + GeM, 2048", "head, 256"
UNSEEN_STYLES, UNSEEN_CATEGORIES = "luma, unseen styles", "luma, unseen categories"
RADIOS, CHOOSING, REPORTED = "radios, all", "radios, chosen by", "radios, reported"

GOALS = {UNSEEN_STYLES: 0.75, RADIOS: 0.56}
"""Recall@1 that is aimed at."""


def found_by_heads(features: Features, heads: Heads) -> dict[str, Ranks]:
    """Return the ranks by set: luma by heads that never saw what they are asked with, radios by the head of all."""
    ranks = {}
    for name, parts in _parts(features).items():
        ranks[name] = joined(
            [luma_ranks(features.luma, embed(heads.get(part), features.luma_copies[0]), part.asked) for part in parts]
        )
    head = heads.get(everything(features.luma, features.clothing))
    return ranks | _radios(features, embed(head, features.radio_photos))


def found_by_the_frozen(features: Features) -> dict[str, dict[str, Ranks]]:
    """Return the same of the backbone's own numbers."""
    own: dict[str, Callable[[Tensor], Tensor]] = {
        LAST: lambda pooled: _stage(pooled, 4, ("average",)),
        THIRD: lambda pooled: _stage(pooled, 3, ("average", "generalised mean")),
    }
    found = {}
    for name, of in own.items():
        embeddings, radios = (
            functional.normalize(of(pooled.float())).numpy()
            for pooled in (features.luma_copies[0], features.radio_photos)
        )
        luma = {
            photos: joined([luma_ranks(features.luma, embeddings, part.asked) for part in parts])
            for photos, parts in _parts(features).items()
        }
        found[name] = luma | _radios(features, radios)
    return found


def rows(found: Mapping[str, Mapping[str, Ranks]]) -> list[dict[str, Any]]:
    """Return a row for each embedding and set."""
    return [
        {"photos": photos, "embedding": name, "queries": len(ranks.ranks)}
        | {figure: str(interval) for figure, interval in ranks.figures().items()}
        for name, sets in found.items()
        for photos, ranks in sets.items()
    ]


def gate(found: Mapping[str, Mapping[str, Ranks]]) -> list[Goal]:
    """Demand of the head what the numbers of the frozen last stage find, on everything: else it is not written."""
    return [
        Goal(f"{photos}, R@1, against the last stage", ranks.recall_at_1, found[LAST][photos].recall_at_1, "higher")
        for photos, ranks in found[HEAD].items()
    ]


def goals(found: Mapping[str, Mapping[str, Ranks]]) -> list[Goal]:
    """Hold the head against the third stage, and against what is aimed at."""
    return [
        Goal(f"{photos}, R@1, against the third stage", ranks.recall_at_1, found[THIRD][photos].recall_at_1, "higher")
        for photos, ranks in found[HEAD].items()
    ] + [Goal(f"{photos}, R@1", found[HEAD][photos].recall_at_1, aim, "higher") for photos, aim in GOALS.items()]


def compared(found: Mapping[str, Mapping[str, Ranks]]) -> list[dict[str, Any]]:
    """Return how much more the head finds than the third stage, on the same queries."""
    return gained(found[HEAD], found[THIRD], "the third stage")


def gained(sets: Mapping[str, Ranks], over: Mapping[str, Ranks], name: str) -> list[dict[str, Any]]:
    """Return how much more one embedding finds than another called `name`, on the same queries."""
    table = []
    for photos, ranks in sets.items():
        more = ranks.better_than(over[photos])
        table.append(
            {
                "photos": photos,
                f"R@1 gained over {name}": f"{more.value:+.3f} [{more.low:+.3f}, {more.high:+.3f}]",
                "p": more.chance,
            }
        )
    return table


def _parts(features: Features) -> dict[str, list[Part]]:
    return {
        UNSEEN_STYLES: folds(features.luma, features.clothing),
        UNSEEN_CATEGORIES: categories(features.luma, features.clothing),
    }


def _radios(features: Features, embeddings: Floats) -> dict[str, Ranks]:
    ranks = radio_ranks(features.radios, embeddings)
    choosing = features.radios.choosing
    return {RADIOS: ranks, CHOOSING: ranks.some(choosing), REPORTED: ranks.some(~choosing)}


def _stage(pooled: Tensor, stage: int, names: Sequence[str]) -> Tensor:
    start = len(POOLED) * sum(width for other, width in STAGE_WIDTHS.items() if other < stage)
    width = STAGE_WIDTHS[stage]
    places = [start + POOLED.index(name) * width for name in names]
    return torch.cat([pooled[:, place : place + width] for place in places], dim=1)
