"""How near a compiled network comes to PyTorch's, and how near it has to come."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from serve_app.config import Precision
from serve_app.domain import Box, Detection, Embeddings

SURE = 0.4
"""Confidence from which a box needs a partner."""
SAME_IOU = 0.95
MATCHED = 0.97
"""Part of the sure boxes that needs a partner at SAME_IOU, of either side."""
COSINE = 0.999
"""What every embedding needs with its reference."""
INT8_COSINE = 0.99
"""What the median embedding of int8 needs."""
INT8_SHARED = 0.95
"""Part of the ten nearest that int8 has to share with float32, on average."""
NEIGHBOURS = 10
LEAST_BOXES = 30
LEAST_EMBEDDINGS = 50
"""Fewer say nothing."""

Figures = dict[str, float]


def pairs(ones: Sequence[tuple[Box, object]], others: Sequence[tuple[Box, object]]) -> list[tuple[float, int, int]]:
    """Match boxes of one label one to one, the closest first; return IoU and both indices of each pair."""
    near = [
        (one.iou(other), i, j)
        for (i, (one, label)), (j, (other, same)) in product(enumerate(ones), enumerate(others))
        if label == same
    ]
    matched, taken, gone = [], set(), set()
    for iou, i, j in sorted(near, reverse=True):
        if iou > 0 and i not in taken and j not in gone:
            taken.add(i)
            gone.add(j)
            matched.append((iou, i, j))
    return matched


def compare_boxes(reference: Sequence[Sequence[Detection]], found: Sequence[Sequence[Detection]]) -> Figures:
    """Return how many sure boxes the reference has, and which part of either side's has a partner at SAME_IOU.

    A partner may be less sure, so that a box at the threshold is no difference.
    """
    sure, same = [0, 0], [0, 0]
    for ones, others in zip(reference, found, strict=True):
        near = [pair for pair in pairs(_labelled(ones), _labelled(others)) if pair[0] >= SAME_IOU]
        for side, (boxes, place) in enumerate(((ones, 1), (others, 2))):
            wanted = {i for i, box in enumerate(boxes) if (box.confidence or 0) >= SURE}
            sure[side] += len(wanted)
            same[side] += len(wanted & {int(pair[place]) for pair in near})
    shares = [part / whole if whole else 1.0 for part, whole in zip(same, sure, strict=True)]
    return {"boxes": float(sure[0]), "matched": min(shares)}


def compare_embeddings(reference: Embeddings, found: Embeddings) -> Figures:
    """Return the least and the median cosine, and which part of the ten nearest of each is the same.

    Nearest among the others: searched with `found` among `found`, and among the reference's, since an index may have
    been made by another runtime than the one that asks; the lower share counts.
    """
    cosines = (reference * found).sum(axis=1)
    nearest = _nearest(reference, reference)
    shared = min(_shared(nearest, _nearest(found, gallery)) for gallery in (found, reference))
    return {
        "embeddings": float(len(found)),
        "least cosine": float(cosines.min(initial=1.0)),
        "median cosine": float(np.median(cosines)) if len(cosines) else 1.0,
        "shared of 10": shared,
    }


def problem_of(figures: Figures, precision: Precision) -> str | None:
    """Return why figures of either stage do not suffice; None where they do."""
    if "boxes" in figures:
        if figures["boxes"] < LEAST_BOXES:
            return f"{figures['boxes']:.0f} sure boxes in the photos, fewer than {LEAST_BOXES}: name more photos"
        return _below(figures, {"matched": MATCHED})
    if figures["embeddings"] < LEAST_EMBEDDINGS:
        return f"{figures['embeddings']:.0f} crops of the photos, fewer than {LEAST_EMBEDDINGS}: name more photos"
    if precision == "int8":
        return _below(figures, {"median cosine": INT8_COSINE, "shared of 10": INT8_SHARED})
    return _below(figures, {"least cosine": COSINE})


def _below(figures: Figures, goals: Figures) -> str | None:
    missed = [f"{name} {figures[name]:.4f}, not {goal:g}" for name, goal in goals.items() if figures[name] < goal]
    return "; ".join(missed) or None


def _labelled(detections: Sequence[Detection]) -> list[tuple[Box, object]]:
    return [(each.box, each.label) for each in detections]


def _nearest(queries: Embeddings, gallery: Embeddings) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    scores = queries @ gallery.T
    np.fill_diagonal(scores, -2)
    return np.argsort(-scores, axis=1)[:, : min(NEIGHBOURS, len(gallery) - 1)]


def _shared(
    ones: np.ndarray[tuple[int, int], np.dtype[np.intp]], others: np.ndarray[tuple[int, int], np.dtype[np.intp]]
) -> float:
    if not ones.size:
        return 1.0
    shares = [len(set(one) & set(other)) / len(one) for one, other in zip(ones.tolist(), others.tolist(), strict=True)]
    return float(np.mean(shares))
