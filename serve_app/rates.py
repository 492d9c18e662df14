"""Exchange rates with their dates, and prices converted by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction

from serve_app.money import LARGEST_PRICE, PriceRange, digits_of, shown_digits

BASE = "EUR"
"""What every rate is counted in; it needs none itself."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Say how many units of a currency one euro was, on a day, by whom."""

    currency: str
    per_eur: Fraction
    day: date
    source: str


@dataclass(frozen=True, slots=True)
class Converted:
    """Hold a converted price in minor units, and the older day of the rates it was converted by."""

    minor: int
    day: date


@dataclass(frozen=True, slots=True)
class _Factor:
    """Turn minor units of one currency into shown units of another: n minor units are n × num / den of them."""

    num: int
    den: int
    unit: int
    """Minor units that one shown unit is."""
    day: date


@dataclass(frozen=True)
class Rates:
    """Convert prices by one rate for each currency; what has none is not converted."""

    by_currency: Mapping[str, Rate]
    _factors: dict[tuple[str, str], _Factor | None] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[Rates], tuple[dict[str, Rate]]]:
        return Rates, (dict(self.by_currency),)

    @property
    def currencies(self) -> frozenset[str]:
        """Return what prices can be converted from and to; none without any rate."""
        return frozenset(self.by_currency) | {BASE} if self.by_currency else frozenset()

    def updated(self, newer: Iterable[Rate]) -> Rates:
        """Return rates with those added that are as new as the known ones, or newer."""
        merged = dict(self.by_currency)
        for rate in newer:
            known = merged.get(rate.currency)
            if known is None or rate.day >= known.day:
                merged[rate.currency] = rate
        return Rates(merged)

    def convert(self, minor: int, currency: str, target: str) -> Converted | None:
        """Return a price in another currency, rounded to what is shown of it; None where a rate is missing.

        Half a unit is rounded up, as Regulation (EC) 1103/97, article 5, does.
        """
        factor = self._factor(currency, target)
        if factor is None:
            return None
        return Converted(_rounded(minor * factor.num, factor.den) * factor.unit, factor.day)

    def comparable(self, minor: int, currency: str) -> Fraction | None:
        """Return a price's worth in euro, exactly, for sorting; None where its rate is missing."""
        if currency == BASE:
            return Fraction(minor, 10 ** digits_of(BASE))
        rate = self.by_currency.get(currency)
        return None if rate is None else Fraction(minor, 10 ** digits_of(currency)) / rate.per_eur

    def bounds(self, low: int, high: int | None, currency: str, stored: str) -> PriceRange | None:
        """Return the stored prices that, converted to `currency`, lie in `low`…`high` (minor units of it).

        Exactly those whose shown price does. None where there are none, or where a rate is missing.
        """
        if stored == currency:
            return PriceRange(currency, low, high)
        factor = self._factor(stored, currency)
        if factor is None:
            return None
        # Rounding half up, n × num / den rounds to u or more from n × num / den ≥ u − 1/2 on.
        first = _ceiling(factor.den * (2 * _ceiling(low, factor.unit) - 1), 2 * factor.num)
        last = None
        if high is not None:
            last = min(LARGEST_PRICE, _ceiling(factor.den * (2 * (high // factor.unit) + 1), 2 * factor.num) - 1)
        if first > LARGEST_PRICE or (last is not None and last < max(first, 0)):
            return None
        return PriceRange(stored, max(first, 0), last)

    def _factor(self, currency: str, target: str) -> _Factor | None:
        try:
            return self._factors[currency, target]
        except KeyError:
            # At most one for each pair of currencies.
            factor = self._factors[currency, target] = self._new_factor(currency, target)
            return factor

    def _new_factor(self, currency: str, target: str) -> _Factor | None:
        rates = [self.by_currency[name] for name in (currency, target) if name in self.by_currency]
        if {currency, target} - {rate.currency for rate in rates} - {BASE} or not rates:
            return None
        per_eur = {BASE: Fraction(1)} | {rate.currency: rate.per_eur for rate in rates}
        shown = shown_digits(target)
        ratio = per_eur[target] / per_eur[currency] * 10**shown / 10 ** digits_of(currency)
        unit = 10 ** (digits_of(target) - shown)
        return _Factor(ratio.numerator, ratio.denominator, unit, min(rate.day for rate in rates))


NO_RATES = Rates({})


def _rounded(num: int, den: int) -> int:
    return (2 * num + den) // (2 * den)


def _ceiling(num: int, den: int) -> int:
    return -(-num // den)
