"""Whether a model that was rolled out stays: decided from rounds of a labelled canary set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

RIGHT, WRONG, NO_ANSWER, EMPTY = "1", "0", "x", "e"
WINDOW = 3
"""Rounds that errors, empty answers and times are counted over."""
IN_A_ROW = 2
"""Rounds in a row that relevance has to be lost in."""
OUTAGE = 0.5
"""A single round of which so much fails is enough."""
SURE = 0.05


class Decision(StrEnum):
    GO_ON = "go on"
    KEEP = "keep"
    ROLL_BACK = "roll back"


@dataclass(frozen=True, slots=True)
class Round:
    """Hold what came of asking all photos of the canary set once, in one order.

    `marks` has a character for each photo: RIGHT or WRONG by the first product of the main list, EMPTY where it holds
    none, NO_ANSWER. `others` counts answers of another model than the one that is watched; `slow_ms` is the
    90th percentile of the answers' times.
    """

    at_s: float
    marks: str
    slow_ms: float
    others: int = 0

    @property
    def failed(self) -> int:
        return self.marks.count(NO_ANSWER)

    @property
    def empty(self) -> int:
        return self.marks.count(EMPTY)

    @property
    def answered(self) -> int:
        return len(self.marks) - self.failed


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much worse than before the roll-out is too much, and for how many rounds it is watched."""

    rounds: int = 30
    max_failed: float = 0.01
    max_empty: float = 0.02
    max_loss: float = 0.02
    max_slowdown: float = 2.0
    shadow_searches: int = 0
    """How many of the shoppers' searches it repeats before it is rolled out."""


@dataclass(frozen=True, slots=True)
class Watched:
    decision: Decision
    reason: str = ""


def decide(before: Round, rounds: Sequence[Round], limits: Limits) -> Watched:
    """Decide after each round; `before` is the old model's round, with the same photos in the same order."""
    if not rounds:
        return Watched(Decision.GO_ON)
    last = rounds[-1]
    for reason in (
        _outage(last),
        _failing(before, rounds[-WINDOW:], limits),
        _empty(before, rounds[-WINDOW:], limits),
        _slow(before, rounds[-WINDOW:], limits),
        _lost(before, rounds[-IN_A_ROW:], limits),
        _another(rounds[-WINDOW:]),
    ):
        if reason:
            return Watched(Decision.ROLL_BACK, reason)
    return Watched(Decision.KEEP if len(rounds) >= limits.rounds else Decision.GO_ON)


def _outage(last: Round) -> str:
    return f"{last.failed} of {len(last.marks)} searches failed" if last.failed > OUTAGE * len(last.marks) else ""


def _failing(before: Round, some: Sequence[Round], limits: Limits) -> str:
    failed, asked = sum(each.failed for each in some), sum(len(each.marks) for each in some)
    allowed = before.failed / len(before.marks) + limits.max_failed
    # One failure in small sets is above any ratio.
    return f"{failed} of {asked} searches failed" if failed >= IN_A_ROW and failed > allowed * asked else ""


def _empty(before: Round, some: Sequence[Round], limits: Limits) -> str:
    empty, answered = sum(each.empty for each in some), sum(each.answered for each in some)
    allowed = before.empty / max(1, before.answered) + limits.max_empty
    return f"{empty} of {answered} answers were empty" if empty >= IN_A_ROW and empty > allowed * answered else ""


def _slow(before: Round, some: Sequence[Round], limits: Limits) -> str:
    if len(some) < WINDOW:
        return ""
    middle = sorted(each.slow_ms for each in some)[WINDOW // 2]
    if middle <= limits.max_slowdown * before.slow_ms:
        return ""
    return f"the slowest tenth of searches takes {middle:.0f} ms, {before.slow_ms:.0f} ms before"


def _lost(before: Round, some: Sequence[Round], limits: Limits) -> str:
    """Compare photo by photo: what failed, then or now, tells nothing of relevance."""
    if len(some) < IN_A_ROW:
        return ""
    reason = ""
    for each in some:
        pairs = [pair for pair in zip(before.marks, each.marks, strict=True) if NO_ANSWER not in pair]
        lost = sum(then == RIGHT != now for then, now in pairs)
        gained = sum(now == RIGHT != then for then, now in pairs)
        if not pairs or lost - gained <= limits.max_loss * len(pairs) or chance(lost, gained) >= SURE:
            return ""
        reason = f"{lost} of {len(pairs)} photos lost their right product, {gained} found theirs"
    return reason


def _another(some: Sequence[Round]) -> str:
    if len(some) < WINDOW or not all(each.answered and each.others == each.answered for each in some):
        return ""
    return "the service answers with another model"


def chance(lost: int, gained: int) -> float:
    """Return how often so many of the changes are losses where either is as likely: a one-sided sign test."""
    changed = lost + gained
    return float(sum(math.comb(changed, k) for k in range(lost, changed + 1)) / 2**changed)
