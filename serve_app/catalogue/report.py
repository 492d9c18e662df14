"""What became of an import: counts for its end, a file of the rows that were left out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from serve_app.catalogue.manifest import Problem
from serve_app.collection import STAMP

FOLDER = Path("imports")
"""Where the files lie in the data directory."""


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

    @classmethod
    def of_problem(cls, problem: Problem) -> Self:
        return cls(
            problem.row,
            problem.image,
            problem.product_id,
            Status.PROBLEM,
            code=problem.code,
            reason=problem.reason,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Count an import; `written_rows` and `removed_views` are rows of the index, all else rows of the manifest."""

    rows: int
    unchanged: int
    updated: int
    embedded: int
    stale: int
    written_rows: int
    removed_views: int
    problems: Mapping[str, int]
    problems_file: Path | None
    seconds: float


class Report:
    """Collect outcomes until the block ends; the file of problems is made by the first one."""

    def __init__(self, data_dir: Path, now: datetime) -> None:
        self._path = data_dir / FOLDER / f"{now.astimezone(UTC).strftime(STAMP)}.problems.jsonl"
        self._file: TextIO | None = None
        self._statuses: Counter[Status] = Counter()
        self._problems: Counter[str] = Counter()
        self._written_rows = 0
        self._removed_views = 0
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count outcomes and write the problems among them."""
        for outcome in outcomes:
            self._statuses[outcome.status] += 1
            self._written_rows += outcome.written_rows
            self._removed_views += outcome.removed_views
            if outcome.status is Status.PROBLEM:
                self._problems[outcome.code] += 1
                self._write(outcome)
        if self._file is not None:
            self._file.flush()

    def summary(self) -> Summary:
        return Summary(
            rows=self._statuses.total(),
            unchanged=self._statuses[Status.UNCHANGED],
            updated=self._statuses[Status.UPDATED],
            embedded=self._statuses[Status.EMBEDDED],
            stale=self._statuses[Status.STALE],
            written_rows=self._written_rows,
            removed_views=self._removed_views,
            problems=dict(self._problems.most_common()),
            problems_file=self._path if self._file is not None else None,
            seconds=time.monotonic() - self._start,
        )

    def _write(self, outcome: Outcome) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
        line = {name: getattr(outcome, name) for name in ("row", "image", "product_id", "code", "reason")}
        self._file.write(json.dumps(line) + "\n")
