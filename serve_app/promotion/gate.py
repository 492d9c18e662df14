"""Whether a model may take the place of another one: decided on the same photos, by what their number can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from serve_app.errors import BadInput
from serve_app.evaluation.figures import ANY, MAIN, Compared

RULE_OF_THREE = 3.0
"""What n products never showed has a rate below 3 / n, with 95 % (Hanley and Lippman-Hand 1983)."""
SCENES = "hit@10"


class Verdict(StrEnum):
    PASSED = "passed"
    TOO_SMALL = "too small"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Demand:
    """Say what loss of which figure is too much: of main lists `metric`, of scenes `hit@10` in any list."""

    max_loss: float
    metric: str = "R@1"


@dataclass(frozen=True, slots=True)
class Line:
    """Hold what one line of photos says.

    `draws` counts its products, of scenes the photos; `smallest` is the least loss that it would show in four of five
    tries.
    """

    line: str
    metric: str
    draws: int
    value: float
    low: float
    high: float
    smallest: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Gate:
    """Hold the lines, and what follows: every one has to be large enough, and to pass."""

    max_loss: float
    lines: tuple[Line, ...]

    @property
    def verdict(self) -> Verdict:
        found = {line.verdict for line in self.lines}
        # A loss that is seen is seen, however small the other sets are.
        return next(each for each in (Verdict.WORSE, Verdict.TOO_SMALL, Verdict.PASSED) if each in found)


def judge(compared: Sequence[Compared], demand: Demand) -> Gate:
    """Judge the second model against the first; raises BadInput where nothing can be judged by that figure.

    It passes where a loss of more than `max_loss` is ruled out with 95 %. A set that could not show such a loss
    passes nothing: that it saw none would say nothing.
    """
    lines = []
    for each in compared:
        is_scene = SCENES in each.differences
        metric = SCENES if is_scene else demand.metric
        if each.rule == (ANY if is_scene else MAIN) and metric in each.differences:
            lines.append(_line(each, metric, each.photos if is_scene else each.products, demand.max_loss))
    if not lines:
        raise BadInput(f"no photos were judged by {demand.metric}; figures are R@1, R@5, R@10, mAP@10 and nDCG@10")
    return Gate(demand.max_loss, tuple(lines))


def _line(compared: Compared, metric: str, draws: int, max_loss: float) -> Line:
    found = compared.differences[metric]
    # The bootstrap knows only what was seen: of few photos that both models answer alike, it says they can't differ.
    smallest = max(found.smallest, RULE_OF_THREE / draws)
    if found.high < 0 and found.significant and found.value < -max_loss:
        verdict = Verdict.WORSE
    elif math.isnan(found.low) or smallest > max_loss:
        verdict = Verdict.TOO_SMALL
    else:
        verdict = Verdict.PASSED if found.low >= -max_loss else Verdict.WORSE
    return Line(
        compared.line,
        metric,
        draws,
        found.value,
        found.low,
        found.high,
        smallest,
        verdict,
    )


def enough(line: Line, max_loss: float) -> int:
    """Return about how many products, or scenes, a set like this one needs to show such a loss."""
    return max(line.draws, math.ceil(line.draws * (line.smallest / max_loss) ** 2), math.ceil(RULE_OF_THREE / max_loss))
