"""Whether a model may be rolled out, by what it made of shoppers' searches while the old one answered them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import httpx
from pydantic import TypeAdapter, ValidationError

from serve_app.errors import Unavailable
from serve_app.promotion.watch import IN_A_ROW, OUTAGE, Decision, Limits, Watched
from serve_app.shadow import OK, Outcome, Shadow, Side

LEAST = 20
"""Searches after which an outage is seen."""
SLOW = 0.9
TIMEOUT_S = 10.0
READS = 4
"""Reads at a time, each by a connection of its own: a replica knows its own searches alone, and another may answer."""
_SHADOW = TypeAdapter(Shadow)


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Sum up searches that both models made: how many failed by code, were empty, and how slow their slowest tenth is.

    All but `failed` is of the searches that the new model answered. `shared` is the mean part of the first ten products
    that both show.
    """

    searches: int = 0
    failed: tuple[tuple[str, int], ...] = ()
    empty_before: int = 0
    empty: int = 0
    slow_before_ms: float = 0.0
    slow_ms: float = 0.0
    shared: float = 0.0
    dropped: int = 0

    @property
    def failures(self) -> int:
        return sum(count for _, count in self.failed)

    @property
    def answered(self) -> int:
        return self.searches - self.failures


def summed_up(outcomes: Sequence[Outcome], dropped: int = 0) -> Shadowed:
    """Return the sum of these searches; `dropped` were not repeated."""
    pairs: list[tuple[Side, Side, float]] = [
        (each.served, each.found, each.shared) for each in outcomes if each.found is not None
    ]
    return Shadowed(
        searches=len(outcomes),
        failed=tuple(sorted(Counter(each.code for each in outcomes if each.code != OK).items())),
        empty_before=sum(before.empty for before, _, _ in pairs),
        empty=sum(after.empty for _, after, _ in pairs),
        slow_before_ms=_slow(before.took_ms for before, _, _ in pairs),
        slow_ms=_slow(after.took_ms for _, after, _ in pairs),
        shared=math.fsum(shared for _, _, shared in pairs) / max(1, len(pairs)),
        dropped=dropped,
    )


def decide(found: Shadowed, wanted: int, limits: Limits) -> Watched:
    """Decide once `wanted` searches were compared, or as soon as so much fails that no more are needed.

    The old model answered all of these searches, so each that the new one failed at is a loss.
    """
    outage = found.searches >= LEAST and found.failures > OUTAGE * found.searches
    if found.searches < wanted and not outage:
        return Watched(Decision.GO_ON)
    for reason in (_failing(found, limits), _empty(found, limits), _slower(found, limits)):
        if reason:
            return Watched(Decision.ROLL_BACK, f"in the shadow of the old model {reason}")
    return Watched(Decision.KEEP)


def _failing(found: Shadowed, limits: Limits) -> str:
    if found.failures < IN_A_ROW or found.failures <= limits.max_failed * found.searches:
        return ""
    codes = ", ".join(f"{code} {count}" for code, count in found.failed)
    return f"{found.failures} of {found.searches} searches failed ({codes})"


def _empty(found: Shadowed, limits: Limits) -> str:
    more = found.empty - found.empty_before
    if more < IN_A_ROW or more <= limits.max_empty * found.answered:
        return ""
    return f"{found.empty} of {found.answered} answers were empty, {found.empty_before} of the old model's"


def _slower(found: Shadowed, limits: Limits) -> str:
    if not found.answered or found.slow_ms <= limits.max_slowdown * found.slow_before_ms:
        return ""
    return f"the slowest tenth of searches takes {found.slow_ms:.0f} ms, {found.slow_before_ms:.0f} ms by the old model"


def _slow(times_ms: Iterable[float]) -> float:
    ordered = sorted(times_ms)
    return ordered[max(0, math.ceil(SLOW * len(ordered)) - 1)] if ordered else 0.0


class ShadowReader:
    """Gather what a service's replicas tell of the model that is tried, at `/admin/shadow`."""

    def __init__(self, client: httpx.Client) -> None:
        """`client` knows the service's address, and an admin's key where it needs one."""
        self._client = client
        self._outcomes: dict[tuple[str, int], Outcome] = {}
        self._dropped: dict[str, int] = {}

    def read(self, model: str) -> Shadowed:
        """Return the sum of all that was heard of this model so far.

        Raises Unavailable where the service refuses to tell. While it does not answer, nothing new is heard.
        """
        for _ in range(READS):
            told = self._told()
            if told is not None and told.model == model:
                numbers = range(told.first, told.first + len(told.outcomes))
                self._outcomes |= {(told.series, each): one for each, one in zip(numbers, told.outcomes, strict=True)}
                self._dropped[told.series] = told.dropped
        return summed_up(list(self._outcomes.values()), sum(self._dropped.values()))

    def _told(self) -> Shadow | None:
        try:
            answer = self._client.get("/admin/shadow", headers={"Connection": "close"}, timeout=TIMEOUT_S)
            if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                raise Unavailable(
                    f"{answer.url} answers {answer.status_code}: it needs an admin's key in SHOPLENS_KEY, and to be "
                    "reached; what is exposed to shoppers leaves /admin out, so give --admin-url"
                )
            return _SHADOW.validate_python(answer.json()["shadow"]) if answer.is_success else None
        except (httpx.HTTPError, ValueError, KeyError, ValidationError):
            return None
