"""The curve that turns what a list says of a product into the chance that it is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.errors import BadConfig

Floats = npt.NDArray[np.float64]

FEATURES = ("score", "lead", "behind", "size")
GAP = 0.01
"""Gaps count by how many times larger they are than this: the step from 0 to 0.05 tells more than that to 0.3."""

Numbers = tuple[float, float, float, float]


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
    scale: Numbers
    weights: Numbers
    intercept: float
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


def features(scores: Sequence[float], area: float) -> Floats:
    """Return (n, 4) for a list's scores, best first.

    They are the score, log(1 + gap / GAP) of the first product to the next one, the same of every other product to the
    first one, and the root of the box's share of the photo. Alone in its list, a product leads by nothing.
    """
    rows = np.zeros((len(scores), len(FEATURES)))
    rows[:, 0] = scores
    if len(scores) > 1:
        rows[0, 1] = np.log1p((scores[0] - scores[1]) / GAP)
        rows[1:, 2] = np.log1p((scores[0] - rows[1:, 0]) / GAP)
    rows[:, 3] = area**0.5
    return rows


def read_curve(path: Path) -> Curve:
    """Read a curve that `shoplens evaluate search --fit` wrote; raises BadConfig."""
    try:
        return Curve.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadConfig(f"{path} can't be read as a calibration curve: {error}") from error
