"""Conversion is exact until its one rounding, and filters ask for exactly what is shown."""

import pickle
from datetime import date
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.money import CURRENCIES, digits_of, shown_digits
from serve_app.rates import NO_RATES, Rate, Rates

DAY = date(2026, 10, 30)
PER_EUR = st.decimals("0.0001", "1000000", places=4).map(Fraction)


@st.composite
def two_currencies(draw: st.DrawFn) -> tuple[Rates, str, str]:
    first, second = draw(st.lists(st.sampled_from(CURRENCIES), min_size=2, max_size=2, unique=True))
    table = {name: Rate(name, draw(PER_EUR), DAY, "drawn") for name in (first, second) if name != "EUR"}
    return Rates(table), first, second


def unit(currency: str) -> int:
    """Return the minor units of one shown unit."""
    return int(10 ** (digits_of(currency) - shown_digits(currency)))


def unit_worth(rates: Rates, currency: str) -> Fraction:
    worth = rates.comparable(unit(currency), currency)
    assert worth is not None
    return worth


def rates(**per_eur: str) -> Rates:
    return NO_RATES.updated(Rate(name, Fraction(value), DAY, "test") for name, value in per_eur.items())


@settings(deadline=None)
@given(two_currencies(), st.integers(0, 10**10))
def test_there_and_back_is_within_half_a_unit_of_the_coarser_currency(drawn, units):
    rates, here, there = drawn
    minor = units * unit(here)
    away = rates.convert(minor, here, there)
    back = rates.convert(away.minor, there, here)
    finer, coarser = sorted((unit_worth(rates, here), unit_worth(rates, there)))
    drift = abs(rates.comparable(away.minor, there) - rates.comparable(minor, here))
    assert drift <= coarser / 2
    # Back on the grid of `here`, the same bound holds to its nearest unit, and a coarser `here` loses nothing.
    if coarser == unit_worth(rates, here):
        assert back.minor == minor
    else:
        assert abs(back.minor - minor) // unit(here) <= (coarser / finer + 1) // 2


@settings(deadline=None)
@given(two_currencies(), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_bound_lets_through_exactly_the_prices_shown_within_it(drawn, minor, low, more):
    rates, stored, shown = drawn
    seen = rates.convert(minor, stored, shown).minor
    for high in (low + more, seen, None):
        lower = min(low, seen) if high == seen else low
        found = rates.bounds(lower, high, shown, stored)
        inside = found is not None and found.low <= minor and (found.high is None or minor <= found.high)
        assert inside == (lower <= seen and (high is None or seen <= high))


@settings(deadline=None)
@given(two_currencies(), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_higher_price_is_never_converted_to_a_lower(drawn, one, other):
    rates, here, there = drawn
    low, high = sorted((one, other))
    assert rates.convert(low, here, there).minor <= rates.convert(high, here, there).minor


def test_half_a_unit_is_rounded_up():
    assert rates(USD="1.5").convert(1, "EUR", "USD").minor == 2
    assert rates(USD="1.25").convert(2, "EUR", "USD").minor == 3


def test_decimals_of_both_currencies_count():
    table = rates(JPY="175.68", KWD="0.3412")
    assert table.convert(1990, "EUR", "JPY").minor == 3496
    assert table.convert(1990, "EUR", "KWD").minor == 6790
    assert table.convert(3496, "JPY", "KWD").minor == 6790


def test_what_is_shown_without_decimals_is_rounded_to_whole_units():
    assert rates(HUF="366.33").convert(1990, "EUR", "HUF").minor == 7290_00


def test_prices_without_a_rate_are_not_converted():
    table = rates(USD="1.1")
    assert table.convert(100, "USD", "JPY") is None
    assert table.convert(100, "JPY", "EUR") is None
    assert table.bounds(0, 100, "USD", "JPY") is None
    assert table.comparable(100, "JPY") is None
    assert NO_RATES.convert(100, "EUR", "USD") is None


def test_the_older_of_two_rates_dates_the_price():
    older = date(2026, 9, 1)
    table = rates(USD="1.1").updated([Rate("JPY", Fraction(170), older, "test")])
    assert table.convert(100, "EUR", "USD").day == DAY
    assert table.convert(100, "USD", "JPY").day == older


def test_an_older_rate_does_not_replace_a_newer():
    table = rates(USD="1.1")
    assert table.updated([Rate("USD", Fraction(2), date(2026, 10, 29), "old")]).by_currency == table.by_currency
    assert table.updated([Rate("USD", Fraction(2), DAY, "again")]).by_currency["USD"].per_eur == 2


def test_a_range_between_two_prices_of_a_coarser_currency_asks_for_nothing():
    # One yen is two fils, so no price in yen is shown as one.
    assert rates(KWD="0.3412", JPY="175.68").bounds(1, 1, "KWD", "JPY") is None


def test_rates_survive_pickling():
    table = rates(USD="1.1")
    table.convert(1, "EUR", "USD")
    assert pickle.loads(pickle.dumps(table)).convert(100, "EUR", "USD").minor == 110


def test_base_currency_is_convertible_as_soon_as_there_is_a_rate():
    assert rates(USD="1.1").currencies == {"EUR", "USD"}
    assert NO_RATES.currencies == frozenset()
