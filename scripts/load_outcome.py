"""What became of the searches of a load test."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.measuring import percentile

LATE_S = 0.1
"""A search that is sent later than that after it was due tells that the load generator did not keep up."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold one search: when it was due, sent and answered, in seconds since the start."""

    due_s: float
    sent_s: float
    ended_s: float
    status: int
    code: str
    degraded: tuple[str, ...] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)
    retry_after: str | None = None

    @property
    def latency_s(self) -> float:
        """Return the seconds from the moment the search was due."""
        return self.ended_s - self.due_s

    @property
    def is_refused(self) -> bool:
        """Tell a refusal, which says when to come again, from a failure."""
        return self.status == 429

    @property
    def is_failed(self) -> bool:
        return self.status != 200 and not self.is_refused


def read(path: Path) -> list[Answered]:
    """Return what Locust noted, by due time."""
    return by_due(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def by_due(notes: Iterable[Mapping[str, Any]]) -> list[Answered]:
    """Return what was noted, by due time."""
    found = [Answered(**{**note, "degraded": tuple(note.get("degraded", ()))}) for note in notes]
    return sorted(found, key=lambda answer: answer.due_s)


def between(answers: Iterable[Answered], start_s: float, stop_s: float) -> list[Answered]:
    """Return the searches that were due then."""
    return [answer for answer in answers if start_s <= answer.due_s < stop_s]


def latency_s(answers: Iterable[Answered], share: float) -> float:
    """Return a percentile of the accepted searches' latencies; NaN where there were none."""
    accepted = [answer.latency_s for answer in answers if answer.status == 200]
    return percentile(accepted, share) if accepted else math.nan


def codes(answers: Iterable[Answered]) -> Counter[str]:
    return Counter(answer.code for answer in answers)


def late_share(answers: Sequence[Answered]) -> float:
    """Return the part of the searches that were sent late."""
    return sum(answer.sent_s - answer.due_s > LATE_S for answer in answers) / max(1, len(answers))


def answered_rate(answers: Iterable[Answered], start_s: float, stop_s: float) -> float:
    """Return the searches per second that were answered then."""
    done = sum(answer.status == 200 and start_s <= answer.ended_s < stop_s for answer in answers)
    return done / (stop_s - start_s)
