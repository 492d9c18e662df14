"""What a load test asks of a service, beyond that no search fails: that it grows in time, and outlives an overload."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scripts.load_outcome import Answered, between, latency_s
from scripts.load_schedule import Schedule
from scripts.load_watch import Sample
from scripts.measuring import Goal

WANTED_S = 10.0
"""How soon after a step the replicas that it needs are to be wanted."""
OVERLOAD_P99 = 2.0
"""How much slower the accepted may be in an overload than at capacity."""
RECOVERY_S = 10.0
"""How soon after an overload nothing is to be refused any more."""
GROWTH = 1.1
"""Memory at the end of an overload, of that at its beginning."""
MEMORY_SPAN_S = 20.0


def growth_goals(schedule: Schedule, samples: Sequence[Sample]) -> list[Goal]:
    """Return how long after a step each stage that needs more replicas wanted them all, or had them, in seconds."""
    peak = schedule.peak()
    if peak is None:
        return []
    goals = []
    for stage in sorted({stage for sample in samples for stage in sample.wanted}):
        before = max((sample.wanted[stage] for sample in samples if sample.at_s < peak[0]), default=math.nan)
        during = [sample for sample in samples if peak[0] <= sample.at_s < peak[1]]
        most = max((sample.wanted[stage] for sample in during), default=before)
        if most > before:
            first_s = next(sample.at_s for sample in during if sample.wanted[stage] == most)
            goals.append(
                Goal(f"{stage}: seconds until {most:.0f} replicas were wanted", first_s - peak[0], WANTED_S, "lower")
            )
    return goals


def overload_goals(schedule: Schedule, answers: Sequence[Answered], samples: Sequence[Sample]) -> list[Goal]:
    """Return what an overload cost those who were taken on, the machine, and those who came after it."""
    peak = schedule.peak()
    if peak is None:
        return []
    before = latency_s(between(answers, 0, peak[0]), 0.99)
    during = latency_s(between(answers, *peak), 0.99)
    refused_s = max((each.due_s for each in answers if each.is_refused), default=0.0)
    goals = [
        Goal("p99 of the accepted, overload to before", during / before, OVERLOAD_P99, "lower"),
        Goal(
            "seconds until nothing was refused after the overload", max(0.0, refused_s - peak[1]), RECOVERY_S, "lower"
        ),
    ]
    first, last = _memory(samples, peak[0]), _memory(samples, peak[1] - MEMORY_SPAN_S)
    if first and last:
        goals.append(Goal("memory, end of the overload to its beginning", last / first, GROWTH, "lower"))
    return goals


def _memory(samples: Sequence[Sample], from_s: float) -> float:
    """Return the mean of some seconds; 0 where the processes can't be seen from here."""
    seen = [each.memory_mib for each in samples if from_s <= each.at_s < from_s + MEMORY_SPAN_S and each.memory_mib]
    return sum(seen) / len(seen) if seen else 0.0
