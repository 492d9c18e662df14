"""What counts as failed, short and wrong in a drill."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scripts.measuring import Goal, percentile

SHARED = 0.8
"""An answer that has less than this share of the undisturbed one's ids is wrong."""

LONGEST_GAP_S = 4.0
LONGEST_RECOVERY_S = 15.0
ANSWERED_LATE_S = 0.5
"""How long after its deadline a failure may be told, on a busy machine."""


class Outcome(StrEnum):
    GOOD = "good"
    FLAGGED = "flagged"
    SHORT = "short"
    WRONG = "wrong"
    FAILED = "failed"


USABLE = {Outcome.GOOD, Outcome.FLAGGED}


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold one search: times are seconds since the drill's start, `ids` is None where it failed.

    `wanted` are the ids of the undisturbed answer; `degraded` is what the searcher itself said.
    """

    asked_s: float
    answered_s: float
    wanted: tuple[str, ...]
    ids: tuple[str, ...] | None
    degraded: tuple[str, ...] = ()
    error: str = ""

    @property
    def outcome(self) -> Outcome:
        if self.ids is None:
            return Outcome.FAILED
        if self.degraded:
            return Outcome.FLAGGED
        if len(self.ids) < len(self.wanted):
            return Outcome.SHORT
        if len(set(self.ids) & set(self.wanted)) < SHARED * len(self.wanted):
            return Outcome.WRONG
        return Outcome.GOOD


@dataclass(frozen=True, slots=True)
class Counts:
    """Sum up a drill's searches.

    `gap_s` is the longest time without a usable answer. `last_failure_s` is when the last search that failed was
    asked, after the harm began; `recovery_s` when the last failure was told, after it ended. Both are 0 without one.
    """

    requests: int
    by_outcome: Mapping[Outcome, int]
    p50_ms: float
    p99_ms: float
    gap_s: float
    last_failure_s: float
    slowest_failure_s: float
    recovery_s: float
    errors: tuple[str, ...]


def count(answers: Sequence[Answer], *, harmed_s: float, mended_s: float, ended_s: float) -> Counts:
    """Sum up the searches of a drill; harm was done from `harmed_s` to `mended_s` after its start."""
    if not answers:
        raise ValueError("no search was made")
    by_outcome = dict.fromkeys(Outcome, 0)
    for answer in answers:
        by_outcome[answer.outcome] += 1
    failed = [answer for answer in answers if answer.outcome is Outcome.FAILED]
    latencies_ms = [(answer.answered_s - answer.asked_s) * 1e3 for answer in answers if answer.ids is not None]
    return Counts(
        requests=len(answers),
        by_outcome=by_outcome,
        p50_ms=percentile(latencies_ms, 0.5) if latencies_ms else float("nan"),
        p99_ms=percentile(latencies_ms, 0.99) if latencies_ms else float("nan"),
        gap_s=longest_gap((answer.answered_s for answer in answers if answer.outcome in USABLE), ended_s),
        last_failure_s=max((answer.asked_s - harmed_s for answer in failed), default=0.0),
        slowest_failure_s=max((answer.answered_s - answer.asked_s for answer in failed), default=0.0),
        recovery_s=max(0.0, max((answer.answered_s - mended_s for answer in failed), default=0.0)),
        errors=tuple(sorted({answer.error for answer in failed})),
    )


def longest_gap(times_s: Iterable[float], end_s: float) -> float:
    """Return the longest time between neighbours of `times_s`, from 0 on and up to the end."""
    points = [0.0, *sorted(times_s), end_s]
    return max(after - before for before, after in itertools.pairwise(points))


class Promise(StrEnum):
    """Say what a drill is to show; none ever allows a short or wrong answer, or the loss of a write."""

    NO_FAILURE = "no failure"
    WITHIN_LEASE = "failures only within one lease"
    RECOVERY = "recovery"


def goals(drill: str, promise: Promise, counts: Counts, *, lease_s: float, deadline_s: float) -> list[Goal]:
    """Compare what was counted with what is promised."""
    wanted = [(outcome.value, float(counts.by_outcome[outcome]), 0.0) for outcome in (Outcome.SHORT, Outcome.WRONG)]
    failed = ("failed", float(counts.by_outcome[Outcome.FAILED]), 0.0)
    if promise is Promise.NO_FAILURE:
        wanted += [failed, ("longest gap s", counts.gap_s, LONGEST_GAP_S)]
    elif promise is Promise.RECOVERY:
        wanted.append(("recovery s", counts.recovery_s, LONGEST_RECOVERY_S))
    elif deadline_s > lease_s:
        wanted.append(failed)
    else:
        wanted.append(("last failure s", counts.last_failure_s, lease_s))
        wanted.append(("slowest failure s", counts.slowest_failure_s, deadline_s + ANSWERED_LATE_S))
    return [Goal(f"{drill}: {name}", value, goal, "lower") for name, value, goal in wanted]


class Ledger:
    """Keep what was acknowledged of the writes: each image's price, None once it is deleted.

    A write in doubt, told neither done nor undone, may have happened or not.
    """

    def __init__(self) -> None:
        self._acknowledged: dict[str, int | None] = {}
        self._in_doubt: set[str] = set()

    def begin(self, image_ids: Iterable[str]) -> None:
        self._in_doubt.update(image_ids)

    def acknowledge(self, states: Mapping[str, int | None]) -> None:
        self._acknowledged.update(states)
        self._in_doubt.difference_update(states)

    def image_ids(self) -> list[str]:
        """Return the images whose state is certain."""
        return [image_id for image_id in self._acknowledged if image_id not in self._in_doubt]

    def live(self) -> list[str]:
        """Return the images that are certainly there."""
        return [image_id for image_id in self.image_ids() if self._acknowledged[image_id] is not None]

    def compare(self, stored: Mapping[str, int]) -> tuple[list[str], list[str]]:
        """Return the images that are lost, or older than acknowledged, and those that came back after a delete."""
        lost, back = [], []
        for image_id in self.image_ids():
            price = self._acknowledged[image_id]
            if price is None and image_id in stored:
                back.append(image_id)
            elif price is not None and stored.get(image_id) != price:
                lost.append(image_id)
        return lost, back
