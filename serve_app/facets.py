"""How many products of a ranking have which category, price and attributes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.domain import Hit
from serve_app.filters import MAX_TEXT_BYTES, Scalar
from serve_app.market import Market
from serve_app.money import minor_units, price_amount

CATEGORY, PRICE, ATTRIBUTE = "category", "price", "attr."
MOST_VALUES = 50
"""Values of one facet that are counted, the most frequent ones."""
PRICE_RANGES = 6


@dataclass(frozen=True, slots=True)
class Count:
    """Say how many products have a value; `shown` is what a reader sees of a category's path."""

    value: Scalar
    count: int
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class PriceCount:
    """Say how many products cost from `low` to `high`, both included, decimal amounts."""

    low: str
    high: str
    count: int


@dataclass(frozen=True, slots=True)
class Facets:
    """Hold the counts that were asked for; None for what was not.

    `currency` is what the prices are in, None where no product has one. `whole` tells whether no product is left out.
    """

    products: int
    whole: bool
    category: tuple[Count, ...] | None = None
    price: tuple[PriceCount, ...] | None = None
    currency: str | None = None
    attributes: tuple[tuple[str, tuple[Count, ...]], ...] = ()


def facets(hits: Sequence[Hit], names: Iterable[str], market: Market, *, whole: bool) -> Facets:
    """Count the products of a ranking by `names`: category, price, attr.NAME."""
    asked = list(dict.fromkeys(names))
    currency, prices = _prices(hits, market) if PRICE in asked else (None, None)
    return Facets(
        products=len(hits),
        whole=whole,
        category=_categories(hits, market) if CATEGORY in asked else None,
        price=prices,
        currency=currency,
        attributes=tuple(
            (name.removeprefix(ATTRIBUTE), _values(hits, name.removeprefix(ATTRIBUTE)))
            for name in asked
            if name.startswith(ATTRIBUTE)
        ),
    )


def _categories(hits: Sequence[Hit], market: Market) -> tuple[Count, ...]:
    """Count each path and all above it, as a filter of that path lets through."""
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for hit in hits:
        parts = hit.category.split("/") if hit.category else []
        seen = (market.category(hit.category, hit.data) or "").split("/")
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            counts[path] += 1
            # A translation of other depth says nothing of the paths above it.
            if len(seen) == len(parts):
                shown.setdefault(path, "/".join(seen[:depth]))
    return tuple(Count(path, count, shown.get(path, path)) for path, count in _most(counts))


def _values(hits: Sequence[Hit], name: str) -> tuple[Count, ...]:
    counts: Counter[tuple[type, Scalar]] = Counter()
    for hit in hits:
        held: Any = (hit.data.get("attributes") or {}).get(name)
        several = held if isinstance(held, list) else [held]
        # True is no 1 to a filter, though 1.0 is.
        counts.update({(bool if isinstance(v, bool) else object, v) for v in several if _is_asked_for(v)})
    return tuple(Count(value, count) for (_, value), count in _most(counts))


def _is_asked_for(value: Any) -> bool:
    """Tell whether a filter can ask for a value."""
    return len(value.encode()) <= MAX_TEXT_BYTES if isinstance(value, str) else isinstance(value, bool | int | float)


def _most(counts: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:MOST_VALUES]


def _prices(hits: Sequence[Hit], market: Market) -> tuple[str | None, tuple[PriceCount, ...]]:
    """Count ranges of the shown prices: in the shopper's currency, else in the most frequent one.

    A range is one that `price_min` and `price_max` can ask for, and no product is in two.
    """
    shown = [price for price in (market.price(hit.price, hit.currency) for hit in hits) if price is not None]
    frequent = Counter(price.currency for price in shown)
    currency = market.currency or min(frequent, key=lambda each: (-frequent[each], each), default=None)
    if currency is None:
        return None, ()
    minors = sorted(minor_units(price.amount, currency) for price in shown if price.currency == currency)
    if not minors:
        return currency, ()
    cuts = sorted({_round(minors[len(minors) * part // PRICE_RANGES]) for part in range(1, PRICE_RANGES)})
    cuts = [cut for cut in cuts if minors[0] < cut <= minors[-1]]
    ranges = zip([minors[0], *cuts], [*(cut - 1 for cut in cuts), minors[-1]], strict=True)
    counted = ((low, high, sum(low <= minor <= high for minor in minors)) for low, high in ranges)
    return currency, tuple(
        PriceCount(price_amount(low, currency) or "", price_amount(high, currency) or "", count)
        for low, high, count in counted
        if count
    )


def _round(minor: int) -> int:
    """Return a price that a reader finds round: halves of its first digit's place."""
    step = max(1, int(f"1{'0' * (len(str(minor)) - 1)}") // 2)
    return (minor + step // 2) // step * step
