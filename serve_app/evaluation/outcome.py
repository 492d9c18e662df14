"""All that one evaluation found, as a report and a program take it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from serve_app.calibration import Check, Curve
from serve_app.evaluation.answers import Run
from serve_app.evaluation.figures import Compared, Row, category_rows, compared, rows
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.offline import Unusable
from serve_app.evaluation.resampling import Interval


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold a run with its figures."""

    run: Run
    rows: tuple[Row, ...]
    categories: tuple[Row, ...]
    degraded: Mapping[str, int]
    """How many answers were flagged, by what they lacked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold an evaluation: one model, or two with how the second differs from the first.

    `curve` was fitted on the first model's lists; `stored` is how a curve that was given fits them.
    """

    about: str
    when: str
    gallery: Gallery
    judged: tuple[Judged, ...]
    compared: tuple[Compared, ...]
    unanswerable: int
    unusable: tuple[Unusable, ...]
    curve: Curve | None = None
    stored: tuple[Check, Check] | None = None
    overlap: Interval | None = None
    """Of an approximate index: the share of the products of exact lists that its lists hold."""

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON takes them."""
        values: dict[str, Any] = {
            "name": "evaluate",
            "when": self.when,
            "about": self.about,
            "gallery": {"images": len(self.gallery.images), "products": len(self.gallery.products)},
            "unanswerable": self.unanswerable,
            "unusable": [asdict(each) for each in self.unusable],
            "runs": [
                {
                    "name": each.run.name,
                    "model": each.run.model,
                    "degraded": dict(each.degraded),
                    "rows": [asdict(row) for row in each.rows],
                    "categories": [asdict(row) for row in each.categories],
                }
                for each in self.judged
            ],
            "compared": [asdict(each) for each in self.compared],
            "overlap": asdict(self.overlap) if self.overlap else None,
            "curve": self.curve.model_dump() if self.curve else None,
            "stored_curve": [each.model_dump() for each in self.stored] if self.stored else None,
        }
        return {name: _plain(value) for name, value in values.items()}


def judge(run: Run, gallery: Gallery) -> Judged:
    """Count what a run found."""
    flags = Counter(flag for answered in run.answers for flag in answered.degraded)
    return Judged(run, tuple(rows(run, gallery)), tuple(category_rows(run, gallery)), dict(flags))


def compare(runs: Sequence[Run], gallery: Gallery) -> tuple[Compared, ...]:
    """Compare the second run with the first, where there are two."""
    return tuple(compared(runs[0], runs[1], gallery)) if len(runs) > 1 else ()


def _plain(value: Any) -> Any:
    """Return a value without NaN, which JSON lacks: the interval of what only one product tells of."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
