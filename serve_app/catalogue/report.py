"""What became of an import: counts, the rows that were left out, a sample of both kinds."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self

from serve_app.catalogue.manifest import Problem


class Status(StrEnum):
    UNCHANGED = "unchanged"
    UPDATED = "updated"
    """Written anew with the stored embeddings."""
    EMBEDDED = "embedded"
    STALE = "stale"
    """Left as it is: a newer event has written it already."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say what became of one row of the manifest; `code` and `reason` are those of a problem."""

    row: int
    image: str
    product_id: str
    status: Status
    written_rows: int = 0
    removed_views: int = 0
    code: str = ""
    reason: str = ""
    duplicate_of: str = ""
    box: tuple[float, float, float, float] | None = None
    """The main object, where it is indexed too."""
    label: str = ""
    columns: Mapping[str, Any] = dataclass_field(default_factory=dict)
    """Those of a problem's row, so that it can be tried again."""

    @classmethod
    def of_problem(cls, problem: Problem) -> Self:
        return cls(
            problem.row,
            problem.image,
            problem.product_id,
            Status.PROBLEM,
            code=problem.code,
            reason=problem.reason,
            columns=problem.columns,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Count an import; `written_rows` and `removed_views` are rows of the index, all else rows of the manifest.

    `busy` is the part of the time that each kind of worker worked, by its name.
    """

    rows: int
    unchanged: int
    updated: int
    embedded: int
    stale: int
    duplicates: int
    written_rows: int
    removed_views: int
    problems: Mapping[str, int]
    quarantine: Path | None
    seconds: float
    busy: Mapping[str, float]

    @property
    def error_ratio(self) -> float:
        """Return the part of the rows that was left out."""
        return sum(self.problems.values()) / max(1, self.rows)


class Quarantine(Protocol):
    """What a report asks of the place for problems."""

    @property
    def folder(self) -> Path: ...

    def add(self, outcome: Outcome) -> None: ...


PARTS: Mapping[str, tuple[str, ...]] = {
    "readers": ("compare", "read", "update", "decode"),
    "models": ("detect", "cut", "embed"),
    "writers": ("duplicates", "write"),
}
"""The parts of the work that each kind of worker does."""
SAMPLE = 24
"""Images of each kind that are kept for the page."""


class Report:
    """Collect what becomes certain; problems go into `quarantine` as they come, and a few images into a sample.

    `calls` says how many pieces of work each kind of worker can have under way.
    """

    def __init__(self, quarantine: Quarantine, calls: Mapping[str, int]) -> None:
        self._quarantine = quarantine
        self._calls = calls
        self._statuses: Counter[Status] = Counter()
        self._problems: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._duplicates = 0
        self._written_rows = 0
        self._removed_views = 0
        self._start_s = time.monotonic()
        self._draw = random.Random(0)  # noqa: S311 - a sample to look at
        self.accepted: list[Outcome] = []
        self.refused: list[Outcome] = []
        self._sampled: Counter[str] = Counter()

    def add(self, outcomes: Iterable[Outcome], seconds: Mapping[str, float] = MappingProxyType({})) -> None:
        """Count outcomes and the seconds that went into them, and keep the problems among them."""
        self._seconds.update(seconds)
        for outcome in outcomes:
            self._statuses[outcome.status] += 1
            self._written_rows += outcome.written_rows
            self._removed_views += outcome.removed_views
            self._duplicates += bool(outcome.duplicate_of)
            if outcome.status is Status.PROBLEM:
                self._problems[outcome.code] += 1
                self._quarantine.add(outcome)
                self._sample(self.refused, "refused", outcome)
            elif outcome.status is Status.EMBEDDED:
                self._sample(self.accepted, "accepted", outcome)

    def summary(self) -> Summary:
        """Return the counts so far."""
        seconds = time.monotonic() - self._start_s
        busy = {
            name: sum(self._seconds[part] for part in parts) / seconds / self._calls.get(name, 1)
            for name, parts in PARTS.items()
        }
        return Summary(
            rows=self._statuses.total(),
            unchanged=self._statuses[Status.UNCHANGED],
            updated=self._statuses[Status.UPDATED],
            embedded=self._statuses[Status.EMBEDDED],
            stale=self._statuses[Status.STALE],
            duplicates=self._duplicates,
            written_rows=self._written_rows,
            removed_views=self._removed_views,
            problems=dict(self._problems.most_common()),
            quarantine=self._quarantine.folder if self._problems else None,
            seconds=seconds,
            busy=busy,
        )

    def _sample(self, kept: list[Outcome], name: str, outcome: Outcome) -> None:
        """Keep each of all outcomes with the same chance (Vitter's algorithm R, https://doi.org/10.1145/3147.3165)."""
        self._sampled[name] += 1
        if len(kept) < SAMPLE:
            kept.append(outcome)
        elif (place := self._draw.randrange(self._sampled[name])) < SAMPLE:
            kept[place] = outcome
