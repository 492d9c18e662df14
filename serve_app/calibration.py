"""The curve that turns what a list says of a product into the chance that it is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.domain import Hit
from serve_app.errors import BadConfig

Floats = npt.NDArray[np.float64]

FEATURES = ("score", "lead", "behind", "size")
GAP = 0.01
"""Gaps count by how many times larger they are than this: the step from 0 to 0.05 tells more than that to 0.3."""

SCORE_DIGITS = 6
"""What answers and rankings keep of a score: chances are made of that, so that they are the same on every page."""
LEADERS = 2
"""Products that chances are measured by: the first one, and the next one, which it leads."""
DIGITS = 4
"""What is said of a chance, and what `min_match` goes by."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Numbers = tuple[Finite, Finite, Finite, Finite]
Spreads = tuple[Positive, Positive, Positive, Positive]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bin(Entry):
    """Compare what was said with what was true, for products that got about the same chance."""

    low: float
    high: float
    products: int
    said: float = Field(description="mean chance")
    true: float = Field(description="share that was right")


class Check(Entry):
    """Say how well chances fit, on products of lists that the curve was not fitted on.

    `brier` is the mean square of what was said less what was true (Brier 1950); `constant_brier` that of saying their
    share to all.
    """

    products: int
    right: int
    brier: float
    constant_brier: float
    error: float = Field(description="expected calibration error: mean distance of said and true, weighted by products")
    bins: tuple[Bin, ...]


class Curve(Entry):
    """Hold a logistic curve over FEATURES, as a model's entry stores it."""

    kind: Literal["logistic/1"] = "logistic/1"
    model: str = Field(description="fingerprint of the embedder whose scores it reads")
    mean: Numbers
    scale: Spreads
    weights: Numbers
    intercept: Finite
    fitted_on: int = Field(0, description="products of lists")
    all_products: Check | None = Field(None, description="cross-checked: each product by a curve that never saw it")
    first_products: Check | None = Field(None, description="the same, of the first product of each list alone")

    def chances(self, features: Floats) -> Floats:
        """Return the chance, 0…1, for each row of FEATURES."""
        z = ((features - np.array(self.mean)) / np.array(self.scale)) @ np.array(self.weights) + self.intercept
        chances: Floats = 1 / (1 + np.exp(-np.clip(z, -50, 50)))
        return chances

    def matches(self, scores: Sequence[float], area: float) -> list[float]:
        """Return the chance of each product of a list; scores come best first, `area` is its box's share."""
        chances: list[float] = self.chances(features(scores, area)).tolist()
        return chances

    def bare(self) -> Curve:
        """Return the curve without what was found when it was checked: all that chances are made of."""
        return self.model_copy(update={"all_products": None, "first_products": None})


@dataclass(frozen=True, slots=True)
class Chances:
    """Turn products of one list into chances, whatever order they are shown in.

    `leader` is the product that is most alike, `best` its score, `second` that of the next product, None where there is
    none: of all products that the filters let through, so that no rule of the shop, no order and no bound changes what
    a product's chance is. `area` is the share of the photo, 0…1, that the list's box covers.
    """

    curve: Curve
    area: float
    leader: str
    best: float
    second: float | None

    @classmethod
    def of(cls, curve: Curve, area: float, page: Sequence[Hit]) -> Chances:
        """Return the chances of a list by its products, best first, of which there may be none."""
        scores = [round(hit.score, SCORE_DIGITS) for hit in page[:2]]
        leader = page[0].product_id if page else ""
        return cls(curve, area, leader, scores[0] if scores else 0.0, scores[1] if len(scores) > 1 else None)

    def matches(self, hits: Sequence[Hit]) -> list[float]:
        """Return the chance of each product, 0…1, in DIGITS decimals."""
        return self._rounded([hit.score for hit in hits], [hit.product_id == self.leader for hit in hits])

    def at_least(self, hits: Sequence[Hit], chance: float) -> list[Hit]:
        """Return those products, in their order, that have this chance or a higher one."""
        return [hit for hit, match in zip(hits, self.matches(hits), strict=True) if match >= chance]

    def highest(self, score: float) -> float:
        """Return the highest chance that any product could have that does not lead, and scores at most this.

        A fitted curve need not rise with the score everywhere: behind the leader it turns once at most, where the
        slopes of the score and of the logarithm of the gap cancel out.
        """
        slope, bend = (self.curve.weights[i] / self.curve.scale[i] for i in (0, 2))
        turn = self.best + GAP - bend / slope if slope else -1.0
        scores = [-1.0, min(max(turn, -1.0), score), min(self.best, score), score]
        return max(self._rounded(scores, [False] * len(scores)))

    def _rounded(self, scores: Sequence[float], leads: Sequence[bool]) -> list[float]:
        rows = _features(np.round(scores, SCORE_DIGITS), np.array(leads, bool), self.best, self.second, self.area)
        return [round(chance, DIGITS) for chance in self.curve.chances(rows).tolist()]


def features(scores: Sequence[float], area: float) -> Floats:
    """Return (n, 4) for a list's scores, best first.

    They are the score, log(1 + gap / GAP) of the first product to the next one, the same of every other product to the
    first one, and the root of the box's share of the photo. Alone in its list, a product leads by nothing.
    """
    best, second = scores[0] if len(scores) else 0.0, scores[1] if len(scores) > 1 else None
    return _features(np.array(scores, float), np.arange(len(scores)) == 0, best, second, area)


def _features(scores: Floats, leads: npt.NDArray[np.bool_], best: float, second: float | None, area: float) -> Floats:
    """Return (n, 4) for products beside those that lead a list; what scores more than the best lies behind it by 0."""
    rows = np.zeros((len(scores), len(FEATURES)))
    rows[:, 0] = scores
    lead = 0.0 if second is None else np.log1p((best - second) / GAP)
    rows[:, 1] = np.where(leads, lead, 0.0)
    rows[:, 2] = np.where(leads, 0.0, np.log1p(np.maximum(best - scores, 0.0) / GAP))
    rows[:, 3] = area**0.5
    return rows


def no_curve(model: str) -> str:
    """Return what to tell who asks for chances of a model without a curve."""
    return (
        f"min_match needs a calibration curve, and the model {model} has none here: fit one with `shoplens evaluate "
        "search … --fit curve.json`, and name it by the setting embedder.calibration or register the model with it; or "
        "leave min_match out"
    )


def read_curve(path: Path) -> Curve:
    """Read a curve that `shoplens evaluate search --fit` wrote; raises BadConfig."""
    try:
        return Curve.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadConfig(f"{path} can't be read as a calibration curve: {error}") from error
