"""How often each choice puts the right product first, and how far it is from what is chosen now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from scripts.objects_choices import Choice
from scripts.objects_seen import SeenSet
from serve_app.domain import WHOLE_BOX, Box
from serve_app.evaluation.resampling import Difference, differences, intervals

MAIN, ANY = "main list", "any list"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Hold what a choice found of a set, photo by photo.

    `firsts` (photos, 2): whether the main list begins with a right product, and which share of the right products begin
    some list. `clusters` names what photos have in common: the product, or the scene.
    """

    firsts: Floats
    clusters: tuple[str, ...]
    crops: float
    """Embedded per photo that is searched with."""
    rows: float
    """Indexed per image."""


class Shelf:
    """Search a set's gallery exactly, with the rows of any choice."""

    def __init__(self, seen: SeenSet) -> None:
        self._seen = seen
        rows = [
            (entry.product_id, entry.image_id, box, vector)
            for entry in seen.gallery.entries
            for box, vector in seen.images[entry.image_id].embeddings.items()
        ]
        # By product, so that the best of each product's rows is one call.
        rows.sort(key=lambda row: row[0])
        products = np.array([row[0] for row in rows])
        self._starts = np.flatnonzero(np.r_[True, products[1:] != products[:-1]])
        self._products = products[self._starts].tolist()
        self._images = np.array([row[1] for row in rows])
        self._boxes: list[tuple[str, Box]] = [(row[1], row[2]) for row in rows]
        vectors = np.stack([row[3] for row in rows])
        self._scores = [
            {box: vectors @ vector for box, vector in photo.embeddings.items()} for _, photo in seen.questions
        ]
        self._gone = [np.isin(self._images, list(question.left_out)) for question, _ in seen.questions]

    def found_by(self, choice: Choice) -> Found:
        """Search with every photo."""
        indexed = {image: choice.indexed(seen.detections) for image, seen in self._seen.images.items()}
        there = np.array([box == WHOLE_BOX or indexed[image] == box for image, box in self._boxes])
        firsts, clusters, crops = [], [], 0
        for (question, photo), scores, gone in zip(self._seen.questions, self._scores, self._gone, strict=True):
            lists, boxes = choice.lists(photo.detections)
            crops += len(boxes)
            usable = there & ~gone
            first = {each.main: set[str]() for each in lists}
            for each in lists:
                if each.crops:
                    best = np.max([scores[boxes[crop]] for crop in each.crops], axis=0)
                    best = np.maximum.reduceat(np.where(usable, best, -np.inf), self._starts)
                    first[each.main].add(self._products[int(best.argmax())])
            right = set(question.right)
            begun = right & set().union(*first.values())
            firsts.append([float(bool(first[True] & right)), len(begun) / len(right)])
            clusters.append(question.image if question.is_scene else question.right[0])
        per_image = float(there.sum()) / len(self._seen.images)
        return Found(np.array(firsts), tuple(clusters), crops / len(firsts), per_image)


def rows_of(found: Mapping[str, Found], now: Mapping[str, Found], choice: Choice) -> list[dict[str, Any]]:
    """Return a choice's figures on each set, and on all of them, each set counting the same.

    Where it is another choice than the present one, with the difference from that.
    """
    rows = [_row(name, found[name], now[name], choice) for name in found]
    return [*rows, _row("all", pooled(found), pooled(now), choice)] if len(found) > 1 else rows


def pooled(found: Mapping[str, Found]) -> Found:
    """Return all sets as one in which each weighs the same; each figure is the mean of those of the sets."""
    every = sum(len(each.firsts) for each in found.values())
    return Found(
        np.concatenate([each.firsts * every / len(found) / len(each.firsts) for each in found.values()]),
        tuple(f"{name}/{cluster}" for name, each in found.items() for cluster in each.clusters),
        float(np.mean([each.crops for each in found.values()])),
        float(np.mean([each.rows for each in found.values()])),
    )


def contradicted(found: Mapping[str, Found], now: Mapping[str, Found]) -> bool:
    """Tell whether a choice puts the right product first more often than the present one does.

    So it does where the difference in the main list is clear of 0 over all sets, above 0 in either half of the
    products, and clearly below 0 on no set.
    """
    every, before = pooled(found), pooled(now)
    gained = _differences(every, before)[0]
    halves = [_half(every, before, half) for half in (0, 1)]
    worse = any(_differences(found[name], now[name])[0].high < 0 for name in found)
    return gained.low > 0 and min(halves) > 0 and not worse


def _row(name: str, found: Found, now: Found, choice: Choice) -> dict[str, Any]:
    row: dict[str, Any] = {"decision": choice.decision, "choice": choice.name, "set": name}
    if not choice.decision:
        main, of_any = intervals(found.firsts, found.clusters)
        row |= {MAIN: str(main), ANY: str(of_any)}
    else:
        main_gain, any_gain = _differences(found, now)
        row |= {MAIN: _told(main_gain), ANY: _told(any_gain)}
        row["halves"] = " ".join(f"{_half(found, now, half):+.3f}" for half in (0, 1))
    return row | {"crops": round(found.crops, 2), "rows": round(found.rows, 2)}


def _differences(found: Found, now: Found) -> Sequence[Difference]:
    return differences(now.firsts, found.firsts, found.clusters)


def _half(found: Found, now: Found, half: int) -> float:
    """Return the gain in the main list of half of the products, which their names alone decide."""
    own = np.array([sha256(each.encode()).digest()[0] % 2 == half for each in found.clusters])
    return float((found.firsts - now.firsts)[own, 0].mean()) if own.any() else 0.0


def _told(gained: Difference) -> str:
    return f"{gained.value:+.3f} [{gained.low:+.3f}, {gained.high:+.3f}]"
