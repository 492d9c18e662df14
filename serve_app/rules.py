"""A shop's own say in the order of products that are about equally similar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from serve_app.domain import Hit
from serve_app.filters import NO_FILTER, Filter, matches

MOST_IN_BAND = 20
"""Products of a band: to put one in order, all of it has to be found, and a search for ten products finds some more."""


class Action(StrEnum):
    PIN = "pin"
    BOOST = "boost"
    BURY = "bury"
    HIDE = "hide"


_PLACES = {Action.PIN: 0, Action.BOOST: 1, Action.BURY: 4}
_OTHERS, _SOLD_OUT = 2, 3


@dataclass(frozen=True, slots=True)
class Rule:
    """Say where products go: those of `products`, or all, that pass `wanted`."""

    name: str
    action: Action
    products: frozenset[str] = frozenset()
    wanted: Filter = NO_FILTER

    def holds(self, hit: Hit) -> bool:
        return (not self.products or hit.product_id in self.products) and matches(self.wanted, hit)


@dataclass(frozen=True, slots=True)
class Rules:
    """Put products in order within bands; of several rules for one product, the first counts.

    A band is what scores at most `band` less than its first product, MOST_IN_BAND products at most. In it come pinned
    products first, then boosted ones, then all others, of these those that are sold out last, then buried ones.
    """

    rules: Sequence[Rule] = ()
    sold_out_last: bool = False
    band: float = 0.0

    @property
    def arranges(self) -> bool:
        """Tell whether the order of products may be another one than that of their scores."""
        return self.sold_out_last or any(rule.action is not Action.HIDE for rule in self.rules)

    @property
    def lifts(self) -> bool:
        """Tell whether some products come before others of a higher score that no rule moves."""
        return self._first_place < _OTHERS

    @property
    def _first_place(self) -> int:
        return min([_OTHERS, *(_PLACES.get(rule.action, _OTHERS) for rule in self.rules)])

    def rule(self, hit: Hit) -> Rule | None:
        return next((rule for rule in self.rules if rule.holds(hit)), None)

    def shows(self, hit: Hit) -> bool:
        found = self.rule(hit)
        return found is None or found.action is not Action.HIDE

    def place(self, hit: Hit) -> int:
        """Return where in its band a product comes, the lowest first."""
        found = self.rule(hit)
        if found is not None and found.action in _PLACES:
            return _PLACES[found.action]
        return _SOLD_OUT if self.sold_out_last and not hit.in_stock else _OTHERS

    def arranged(self, page: Sequence[Hit], *, whole: bool) -> list[Hit]:
        """Return products, best first, in the order of the rules.

        Unless `page` is `whole`, its last band may go on with what scores less. Of it are returned those that none of
        these can come before.
        """
        done: list[Hit] = []
        start, first = 0, self._first_place
        while start < len(page):
            end = start + 1
            floor = page[start].score - self.band
            while end < len(page) and end - start < MOST_IN_BAND and page[end].score >= floor:
                end += 1
            band = sorted(page[start:end], key=self.place)
            if end == len(page) and end - start < MOST_IN_BAND and not whole:
                return done + list(takewhile(lambda hit: self.place(hit) <= first, band))
            done += band
            start = end
        return done


NO_RULES = Rules()
