"""The steps of a promotion, each of which can be killed and run again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from serve_app.errors import BadConfig, GateClosed, RolledBack, Unavailable
from serve_app.promotion import shadowed
from serve_app.promotion.gate import Gate, Verdict
from serve_app.promotion.record import Promotion, Records, Step
from serve_app.promotion.shadowed import Shadowed
from serve_app.promotion.watch import Decision, Limits, Round, decide

IN_A_ROW = 5
"""Answers in a row that have to come from a model before it counts as rolled out."""
POLL_S = 2.0


class Work(Protocol):
    """What the steps ask of the world; every call may be made again."""

    canary_sha256: str

    def gate(self) -> Gate:
        """Compare both models on the query sets."""
        ...

    def fill(self, after: str) -> str:
        """Let a verified index of the new model stand under its alias; return its collection."""
        ...

    def shadow(self, model: str | None) -> None:
        """Ask for a service that tries this model on shoppers' searches beside the one that answers; None: no model."""
        ...

    def shadowed(self, model: str) -> Shadowed:
        """Return what is known of how this model does beside the one that answers."""
        ...

    def roll_out(self, model: str) -> None:
        """Ask for a service with this model; what answers meanwhile goes on."""
        ...

    def model(self) -> str | None:
        """Return which model answers a search now; None where nothing does."""
        ...

    def canary(self, model: str, at_s: float) -> Round:
        """Ask all photos of the canary set."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Say how often is looked, and how long a roll-out, and a number of searches beside the old model, may take."""

    round_s: float = 60.0
    roll_out_s: float = 1800.0
    shadow_s: float = 3600.0


class Promoter:
    """Take a promotion from step to step."""

    def __init__(
        self,
        records: Records,
        work: Work,
        limits: Limits,
        patience: Patience,
        *,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._records = records
        self._work = work
        self._limits = limits
        self._patience = patience
        self._tell = tell
        self._clock = clock
        self._sleep = sleep

    def run(self, promotion: Promotion) -> Promotion:
        """Do all steps that are left; raises GateClosed, RolledBack, and Unavailable where a roll-out does not end."""
        steps = {
            Step.GATE: self._gate,
            Step.FILL: self._fill,
            Step.SHADOW: self._shadow,
            Step.BASELINE: self._baseline,
            Step.ROLL_OUT: self._roll_out,
            Step.WATCH: self._watch,
            Step.ROLL_BACK: self._roll_back,
        }
        while promotion.step.is_under_way:
            self._tell(f"{promotion.step}: {promotion.after} in place of {promotion.before}")
            promotion = self._records.save(steps[promotion.step](promotion))
        if promotion.step is Step.REFUSED:
            raise GateClosed(promotion.reason)
        if promotion.step is Step.ROLLED_BACK:
            raise RolledBack(f"{promotion.before} is back: {promotion.reason}")
        return promotion

    def roll_back(self, promotion: Promotion, reason: str) -> Promotion:
        """Bring the model back that was there before; raises BadConfig where nothing was rolled out."""
        if promotion.step is Step.SHADOW:
            self._work.shadow(None)
        if promotion.step in (Step.GATE, Step.FILL, Step.SHADOW, Step.BASELINE, Step.REFUSED):
            return self._records.save(promotion.with_(step=Step.REFUSED, reason=promotion.reason or reason))
        if promotion.step is Step.ROLLED_BACK:
            raise BadConfig(f"{promotion.before} was brought back before: {promotion.reason}")
        begun = self._records.save(promotion.with_(step=Step.ROLL_BACK, reason=promotion.reason or reason))
        return self._records.save(self._roll_back(begun))

    def _gate(self, promotion: Promotion) -> Promotion:
        gate = self._work.gate()
        said = asdict(gate) | {"verdict": gate.verdict}
        if gate.verdict is not Verdict.PASSED:
            words = {
                Verdict.TOO_SMALL: "the query sets are too small to show the stated loss",
                Verdict.WORSE: "it finds less",
            }
            return promotion.with_(step=Step.REFUSED, gate=said, reason=f"{promotion.after}: {words[gate.verdict]}")
        return promotion.with_(step=Step.FILL, gate=said)

    def _fill(self, promotion: Promotion) -> Promotion:
        collection = self._work.fill(promotion.after)
        step = Step.SHADOW if self._limits.shadow_searches else Step.BASELINE
        return promotion.with_(step=step, collection=collection)

    def _shadow(self, promotion: Promotion) -> Promotion:
        wanted = self._limits.shadow_searches
        self._work.shadow(promotion.after)
        deadline_s = self._clock() + self._patience.shadow_s
        told_s = -math.inf
        while True:
            found = self._work.shadowed(promotion.after)
            watched = shadowed.decide(found, wanted, self._limits)
            if watched.decision is not Decision.GO_ON or self._clock() - told_s >= self._patience.round_s:
                self._tell(f"beside {promotion.before}: {_compared(found, wanted)}")
                told_s = self._clock()
            if watched.decision is not Decision.GO_ON:
                break
            if self._clock() > deadline_s:
                minutes = self._patience.shadow_s / 60
                raise Unavailable(
                    f"{found.searches} of {wanted} searches were compared in {minutes:.0f} minutes; run the same "
                    "command again to go on, with fewer --shadow-searches or a larger shadow.share, or "
                    "`shoplens model rollback`"
                )
            self._sleep(POLL_S)
        self._work.shadow(None)
        if watched.decision is Decision.ROLL_BACK:
            return promotion.with_(step=Step.REFUSED, shadow=found, reason=f"{promotion.after}: {watched.reason}")
        return promotion.with_(step=Step.BASELINE, shadow=found)

    def _baseline(self, promotion: Promotion) -> Promotion:
        found = self._work.canary(promotion.before, self._clock())
        if found.others or not found.answered:
            raise Unavailable(
                f"{promotion.before} has to answer the canary set before another model can be compared with it; "
                f"{found.failed} of {len(found.marks)} searches failed, {found.others} were another model's"
            )
        self._tell(f"before: {_words(found)}")
        return promotion.with_(step=Step.ROLL_OUT, baseline=found, rounds=(), canary=self._work.canary_sha256)

    def _roll_out(self, promotion: Promotion) -> Promotion:
        self._wait_for(promotion.after)
        return promotion.with_(step=Step.WATCH)

    def _watch(self, promotion: Promotion) -> Promotion:
        before = promotion.baseline
        if before is None or promotion.canary != self._work.canary_sha256:
            raise BadConfig("this canary set is not the one that the old model was asked; give the same one")
        while True:
            watched = decide(before, promotion.rounds, self._limits)
            if watched.decision is Decision.KEEP:
                return promotion.with_(step=Step.DONE)
            if watched.decision is Decision.ROLL_BACK:
                self._tell(f"rolling back: {watched.reason}")
                return promotion.with_(step=Step.ROLL_BACK, reason=watched.reason)
            if promotion.rounds:
                # From the last one's begin, also where this process was killed in between.
                due_s = promotion.rounds[-1].at_s + self._patience.round_s
                self._sleep(min(self._patience.round_s, max(0.0, due_s - self._clock())))
            found = self._work.canary(promotion.after, self._clock())
            promotion = self._records.save(promotion.with_(rounds=(*promotion.rounds, found)))
            self._tell(f"round {len(promotion.rounds)} of {self._limits.rounds}: {_words(found)}")

    def _roll_back(self, promotion: Promotion) -> Promotion:
        self._wait_for(promotion.before)
        before = promotion.baseline
        if before is not None and promotion.canary == self._work.canary_sha256:
            found = self._work.canary(promotion.before, self._clock())
            same = sum(then == now for then, now in zip(before.marks, found.marks, strict=True))
            self._tell(f"back: {_words(found)}; {same} of {len(found.marks)} photos as before the roll-out")
        return promotion.with_(step=Step.ROLLED_BACK)

    def _wait_for(self, model: str) -> None:
        if self._answers(model):
            return
        self._work.roll_out(model)
        deadline_s = self._clock() + self._patience.roll_out_s
        while not self._answers(model):
            if self._clock() > deadline_s:
                raise Unavailable(
                    f"{model} does not answer after {self._patience.roll_out_s:.0f} s; mend the roll-out and run the "
                    "same command again, or `shoplens model rollback`"
                )
            self._sleep(POLL_S)

    def _answers(self, model: str) -> bool:
        return all(self._work.model() == model for _ in range(IN_A_ROW))


def _words(found: Round) -> str:
    right = found.marks.count("1")
    return (
        f"{right} of {len(found.marks)} right, {found.failed} failed, {found.empty} empty, "
        f"slowest tenth {found.slow_ms:.0f} ms" + (f", {found.others} by another model" if found.others else "")
    )


def _compared(found: Shadowed, wanted: int) -> str:
    return (
        f"{found.searches} of {wanted} searches, {found.failures} failed, "
        f"{found.empty} empty (before: {found.empty_before}), "
        f"slowest tenth {found.slow_ms:.0f} ms (before: {found.slow_before_ms:.0f} ms), "
        f"{found.shared:.0%} of the first ten products the same, {found.dropped} not repeated"
    )
