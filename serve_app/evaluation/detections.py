"""How well boxes that were found fit boxes that are known, as COCO counts it.

A box that was found is right where it overlaps a known one, which no surer box has taken, by at least a given IoU. The
average precision is the mean of the best precision at or beyond each of 101 recalls. What is found inside the box of a
crowd is neither right nor wrong. https://cocodataset.org/#detection-eval
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve_app.domain import Box, Detection

IOUS = tuple(0.5 + step * 0.05 for step in range(10))
"""mAP is the mean over these; at the first alone it is mAP@.5."""
RECALLS = np.linspace(0, 1, 101)
MOST_FOUND = 100
"""Boxes of a photo that count, the surest ones."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Thing:
    """Hold a known box with its label; a crowd's box holds many things that nobody counted."""

    box: Box
    label: str
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """Hold what a photo shows, and what was found in it."""

    things: tuple[Thing, ...]
    found: tuple[Detection, ...]

    def of(self, label: str) -> Examined:
        """Return the part with one label."""
        return Examined(
            tuple(each for each in self.things if each.label == label),
            tuple(each for each in self.found if each.label == label),
        )


def average_precisions(photos: Iterable[Examined], ious: Sequence[float] = IOUS) -> Floats:
    """Return the average precision at each IoU, whatever the labels; NaN where the photos show nothing."""
    confidences: list[float] = []
    right: list[Floats] = []
    known = 0
    for photo in photos:
        found = _surest(photo.found)
        known += sum(not thing.crowd for thing in photo.things)
        confidences += [each.confidence or 0.0 for each in found]
        right.append(_right(found, photo.things, ious))
    if not known:
        return np.full(len(ious), np.nan)
    if not confidences:
        return np.zeros(len(ious))
    order = np.argsort(-np.array(confidences), kind="stable")
    table = np.concatenate(right, axis=1)[:, order]
    return np.array([_average(row[~np.isnan(row)], known) for row in table])


def taken(found: Sequence[Detection], things: Sequence[Thing], iou: float) -> list[int | None]:
    """Return the place of the thing that each found box, the surest first, is of; None where it is of none."""
    overlaps = _overlaps(found, things)
    free = [not thing.crowd for thing in things]
    places: list[int | None] = []
    for row in overlaps:
        best = max((place for place in range(len(things)) if free[place]), key=lambda place: row[place], default=None)
        if best is None or row[best] < iou:
            places.append(None)
        else:
            free[best] = False
            places.append(best)
    return places


def _right(found: Sequence[Detection], things: Sequence[Thing], ious: Sequence[float]) -> Floats:
    """Return (IoUs, boxes): 1 where right, 0 where wrong, NaN where it counts as neither."""
    crowds = [thing.box for thing in things if thing.crowd]
    inside = np.array([max((_share_inside(each.box, crowd) for crowd in crowds), default=0.0) for each in found])
    rows = []
    for iou in ious:
        right = np.array([float(place is not None) for place in taken(found, things, iou)])
        rows.append(np.where((right == 0) & (inside >= iou), np.nan, right))
    return np.array(rows).reshape(len(ious), len(found))


def _average(right: Floats, known: int) -> float:
    """Return the average precision of boxes in the order of their confidence."""
    hits = np.cumsum(right)
    precisions = hits / np.arange(1, len(right) + 1)
    # The best precision at this recall or beyond.
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    places = np.searchsorted(hits / known, RECALLS, side="left")
    return float(np.append(best, 0.0)[places].mean())


def _surest(found: Iterable[Detection]) -> list[Detection]:
    return sorted(found, key=lambda each: -(each.confidence or 0.0))[:MOST_FOUND]


def _overlaps(found: Sequence[Detection], things: Sequence[Thing]) -> Floats:
    """Return (boxes, things) IoU."""
    theirs = _corners([thing.box for thing in things])
    own = _corners([each.box for each in found])
    low = np.maximum(own[:, None, :2], theirs[None, :, :2])
    high = np.minimum(own[:, None, 2:], theirs[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(each[:, 2:] - each[:, :2]).prod(-1) for each in (own, theirs)]
    together = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, together, out=np.zeros_like(shared), where=together > 0))


def _corners(boxes: Sequence[Box]) -> Floats:
    return np.array([box.as_tuple() for box in boxes], float).reshape(-1, 4)


def _share_inside(box: Box, crowd: Box) -> float:
    width = min(box.x1, crowd.x1) - max(box.x0, crowd.x0)
    height = min(box.y1, crowd.y1) - max(box.y0, crowd.y0)
    return max(0.0, width) * max(0.0, height) / box.area if box.area else 0.0
