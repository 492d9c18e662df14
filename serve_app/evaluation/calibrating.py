"""Fitting the curve from lists whose right products are known, and checking it on lists that it never saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.calibration import FEATURES, Bin, Check, Curve, Floats, Numbers, features
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Answered, Run

FOLDS = 5
BINS = 10
RIDGE = 1.0
"""Weight of the penalty on the standardised slopes: that of one product, so that few of them give no steep curve."""
STEPS = 100
ENOUGH = 1e-9
FEWEST = 20
"""Right and wrong products, each, below which no curve is fitted."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """Hold products of lists: (n, 4) features, whether each was right, first of its list, and the question's fold."""

    features: Floats
    right: npt.NDArray[np.bool_]
    first: npt.NDArray[np.bool_]
    fold: npt.NDArray[np.int64]

    def some(self, which: npt.NDArray[np.bool_]) -> Observed:
        return Observed(self.features[which], self.right[which], self.first[which], self.fold[which])


def observe(answers: Iterable[Answered]) -> Observed:
    """Take every product of every list; folds go by the question's product, so that its photos stay together."""
    rows, right, first, folds = [np.empty((0, len(FEATURES)))], [], [], []
    for answered in answers:
        fold = int(hashlib.sha256(answered.question.right[0].encode()).hexdigest(), 16) % FOLDS
        for listed in answered.lists:
            rows.append(features([product.score for product in listed.products], listed.box.area))
            right += [product in answered.question.right for product in listed.ids]
            first += [place == 0 for place in range(len(listed.products))]
            folds += [fold] * len(listed.products)
    return Observed(np.concatenate(rows), np.array(right, bool), np.array(first, bool), np.array(folds, np.int64))


def calibrate(run: Run) -> Curve:
    """Fit the curve on all products and check it on each fold by a curve of the others; raises BadInput if too few."""
    seen = observe(run.answers)
    if min(seen.right.sum(), (~seen.right).sum()) < FEWEST:
        raise BadInput(f"a curve needs {FEWEST} right and {FEWEST} wrong products in the lists; evaluate a larger set")
    said = np.empty(len(seen.right))
    for fold in range(FOLDS):
        own = seen.fold == fold
        if own.any():
            said[own] = fit(seen.some(~own), run.model).chances(seen.features[own])
    return fit(seen, run.model).model_copy(
        update={
            "all_products": check(said, seen.right),
            "first_products": check(said[seen.first], seen.right[seen.first]),
        }
    )


def fit(seen: Observed, model: str) -> Curve:
    """Fit a logistic regression by Newton's method, features standardised, slopes kept small by RIDGE."""
    mean = seen.features.mean(0)
    scale = seen.features.std(0)
    scale[scale < ENOUGH] = 1.0
    table = np.column_stack([(seen.features - mean) / scale, np.ones(len(seen.right))])
    penalty = np.array([RIDGE] * len(FEATURES) + [1e-6])
    weights = np.zeros(table.shape[1])
    for _ in range(STEPS):
        chances = 1 / (1 + np.exp(-np.clip(table @ weights, -50, 50)))
        slope = table.T @ (chances - seen.right) + penalty * weights
        bend = (table * (chances * (1 - chances))[:, None]).T @ table + np.diag(penalty)
        step = np.linalg.solve(bend, slope)
        # A full step may overshoot where almost all is certain; a bounded one gets there all the same.
        weights -= step * min(1.0, 2.0 / max(float(np.abs(step).max()), ENOUGH))
        if np.abs(step).max() < ENOUGH:
            break
    slopes = weights[: len(FEATURES)]
    return Curve(
        model=model,
        mean=_numbers(mean),
        scale=_numbers(scale),
        weights=_numbers(slopes),
        intercept=float(weights[-1]),
        fitted_on=len(seen.right),
    )


def check(said: Floats, right: npt.NDArray[np.bool_]) -> Check:
    """Compare chances with what was true; raises BadInput where there is nothing to compare."""
    if not len(said):
        raise BadInput("there are no products to check a curve on")
    place = np.minimum((said * BINS).astype(int), BINS - 1)
    bins = []
    for i in range(BINS):
        own = place == i
        if own.any():
            bins.append(
                Bin(
                    low=i / BINS,
                    high=(i + 1) / BINS,
                    products=int(own.sum()),
                    said=float(said[own].mean()),
                    true=float(right[own].mean()),
                )
            )
    share = float(right.mean())
    return Check(
        products=len(said),
        right=int(right.sum()),
        brier=float(((said - right) ** 2).mean()),
        constant_brier=share * (1 - share),
        error=sum(each.products * abs(each.said - each.true) for each in bins) / len(said),
        bins=tuple(bins),
    )


def check_on(curve: Curve, run: Run) -> tuple[Check, Check]:
    """Check a stored curve on a run that it was not fitted on: all products, and the first of each list.

    Raises BadInput where the curve is of another model, whose scores mean something else.
    """
    if curve.model != run.model:
        raise BadInput(f"the curve is of the model {curve.model or 'unknown'}, but {run.model} was asked")
    seen = observe(run.answers)
    said = curve.chances(seen.features)
    return check(said, seen.right), check(said[seen.first], seen.right[seen.first])


def _numbers(values: Floats) -> Numbers:
    score, lead, behind, size = map(float, values)
    return score, lead, behind, size
