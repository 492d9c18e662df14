"""What a shopper sees of a product: its texts in a language, its price in a currency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from serve_app.config import Config
from serve_app.errors import BadParameter
from serve_app.languages import DEFAULT, Reader, reader, translated
from serve_app.money import CURRENCIES, PriceRange, price_amount
from serve_app.price_format import price_format
from serve_app.rates import NO_RATES, Rates
from serve_app.rates_file import watch_rates

CATEGORY_IN = "category_"
"""Begins the names of attributes that hold a category's path in a language, as a manifest's columns do."""


@dataclass(frozen=True, slots=True)
class Price:
    """Hold a price as a shopper sees it.

    A converted one says by rates of which day, whether that is too long ago, and what it was converted from: that is
    what the shop charges.
    """

    amount: str
    currency: str
    formatted: str
    converted: bool = False
    rate_date: date | None = None
    stale: bool = False
    original: tuple[str, str] | None = None
    """Amount and currency before the conversion."""


@dataclass(frozen=True, slots=True)
class Market:
    """Show products to one shopper.

    Prices stay in their own currency where `currency` is None, or where a rate is missing. Rates older than
    `fresh_since` are stale. `stored` are the currencies of the catalogue's prices, () all that have a rate.
    """

    reader: Reader
    currency: str | None = None
    rates: Rates = NO_RATES
    fresh_since: date = date.min
    stored: tuple[str, ...] = ()

    def price(self, minor: int, currency: str) -> Price | None:
        """Return what a stored price is shown as; None where there is no price."""
        amount = price_amount(minor, currency)
        if amount is None:
            return None
        if self.currency is not None and currency != self.currency:
            converted = self.rates.convert(minor, currency, self.currency)
            if converted is not None:
                return Price(
                    amount=price_amount(converted.minor, self.currency) or "",
                    currency=self.currency,
                    formatted=self._formatted(converted.minor, self.currency),
                    converted=True,
                    rate_date=converted.day,
                    stale=converted.day < self.fresh_since,
                    original=(amount, currency),
                )
        return Price(amount, currency, self._formatted(minor, currency))

    def title(self, data: Mapping[str, Any]) -> str | None:
        """Return a product's title by what its row holds: in a language of the reader's chain, else the shop's own."""
        titles = data.get("titles")
        return (translated(titles, self.reader.chain) if titles else None) or data.get("title")

    def category(self, path: str, data: Mapping[str, Any]) -> str | None:
        """Return a category's path to show, by the attributes `category_LANG`; None where there is none.

        What a filter asks for stays the stored path.
        """
        attributes = data.get("attributes") or {}
        paths = {
            name.removeprefix(CATEGORY_IN): text
            for name, text in attributes.items()
            if name.startswith(CATEGORY_IN) and isinstance(text, str)
        }
        return (translated(paths, self.reader.chain) if paths else None) or path or None

    def worths(self) -> tuple[tuple[str, float], ...]:
        """Return what one minor unit is worth in euro, for sorting, of each currency that has a rate.

        As floats, because these are kept and multiplied with every price of a list.
        """
        found = {each: self.rates.comparable(1, each) for each in sorted(self.rates.currencies)}
        return tuple((currency, float(worth)) for currency, worth in found.items() if worth is not None)

    def prices(self, low: int | None, high: int | None) -> tuple[PriceRange, ...]:
        """Return the stored prices that are shown from `low` to `high`, both in minor units of the shopper's currency.

        One range for each stored currency that can be compared. () asks for nothing. Raises BadParameter where a bound
        has no currency, or the bounds are no range.
        """
        if low is None and high is None:
            return ()
        if self.currency is None:
            raise BadParameter("price_min and price_max need a currency, like EUR")
        if high is not None and high < (low or 0):
            raise BadParameter("price_min is above price_max")
        stored = dict.fromkeys((self.currency, *(self.stored or sorted(self.rates.currencies))))
        found = (self.rates.bounds(low or 0, high, self.currency, each) for each in stored)
        return tuple(each for each in found if each is not None)

    def _formatted(self, minor: int, currency: str) -> str:
        return price_format(self.reader.babel, currency)(minor)


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True, slots=True)
class Markets:
    """Tell which market a request is for, by the shop's settings.

    `rates` returns those that are loaded now, `language` is that of who asks for none of the known ones.
    """

    rates: Callable[[], Rates]
    language: str = DEFAULT
    rates_max_age_days: int = 7
    stored: tuple[str, ...] = ()
    today: Callable[[], date] = _today

    def of(
        self, language: str | None = None, accept_language: str | None = None, currency: str | None = None
    ) -> Market:
        """Return a shopper's market; raises BadParameter where the language or the currency is none of the known."""
        if currency is not None and currency not in CURRENCIES and currency not in self.stored:
            known = ", ".join(dict.fromkeys((*CURRENCIES, *self.stored)))
            raise BadParameter(f"prices can't be shown in {currency[:40]!r}; known are {known}")
        return Market(
            reader(language, accept_language, default=self.language),
            currency,
            self.rates(),
            self.today() - timedelta(days=self.rates_max_age_days),
            self.stored,
        )

    def offered(self) -> tuple[str, ...]:
        """Return the currencies that a shopper may choose: those with a rate, or where none is, the stored ones."""
        there = self.rates().currencies or frozenset(self.stored)
        return tuple(currency for currency in CURRENCIES if currency in there)


def make_markets(config: Config) -> Markets:
    """Return the markets of a shop's settings, with the rates that are loaded at each time."""
    rates, settings = watch_rates(config.rates_file), config.market
    return Markets(rates.current, settings.language, settings.rates_max_age_days, settings.stored_currencies)
