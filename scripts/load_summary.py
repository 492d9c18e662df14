"""What a load test's outcomes come to: a row for each part of it, and the goals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.load_goals import growth_goals, overload_goals
from scripts.load_outcome import Answered, answered_rate, between, codes, late_share, latency_s
from scripts.load_schedule import Schedule
from scripts.load_watch import Sample
from scripts.measuring import Goal, Report

OVERLOAD = 2.0
"""From this multiple of the capacity on, a peak is an overload."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Say what is asked of the service."""

    p99_ms: float
    refused: float
    """Part of all searches that may be refused."""
    capacity: float = math.nan
    """Searches per second that it can answer; NaN where nobody knows."""


def sum_up(
    report: Report, schedule: Schedule, answers: Sequence[Answered], samples: Sequence[Sample], asked: Asked
) -> None:
    """Fill in the report's rows and goals."""
    report.rows = _rows(answers, schedule)
    report.goals = _goals(answers, asked) + growth_goals(schedule, samples)
    if schedule.peak_rate > OVERLOAD * asked.capacity:
        report.goals += overload_goals(schedule, answers, samples)


def _rows(answers: Sequence[Answered], schedule: Schedule) -> list[dict[str, Any]]:
    spans = {"all": (0.0, schedule.seconds)}
    peak = schedule.peak()
    if peak:
        spans |= {"before": (0.0, peak[0]), "peak": peak, "after": (peak[1], schedule.seconds)}
    return [{"part": name, **_row(answers, *span)} for name, span in spans.items()]


def _row(answers: Sequence[Answered], start_s: float, stop_s: float) -> dict[str, Any]:
    due = between(answers, start_s, stop_s)
    return {
        "due": len(due),
        "answered/s": answered_rate(answers, start_s, stop_s),
        "refused": sum(answer.is_refused for answer in due),
        "failed": sum(answer.is_failed for answer in due),
        "degraded": sum(bool(set(answer.degraded) - {"no_object", "no_token"}) for answer in due),
        "p50 ms": 1e3 * latency_s(due, 0.5),
        "p99 ms": 1e3 * latency_s(due, 0.99),
        "sent late": late_share(due),
        "codes": ", ".join(f"{code} {count}" for code, count in codes(due).most_common() if code != "ok") or "-",
    }


def _goals(answers: Sequence[Answered], asked: Asked) -> list[Goal]:
    refused = sum(answer.is_refused for answer in answers) / max(1, len(answers))
    return [
        Goal("failed searches", sum(answer.is_failed for answer in answers), 0, "lower"),
        Goal("refused, of all", refused, asked.refused, "lower"),
        Goal("p99 of the accepted, ms", 1e3 * latency_s(answers, 0.99), asked.p99_ms, "lower"),
        Goal("sent late, of all", late_share(answers), 0.01, "lower"),
    ]
