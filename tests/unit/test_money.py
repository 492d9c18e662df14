from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import BadInput
from serve_app.money import (
    CURRENCIES,
    MAX_MINOR_UNITS,
    UNKNOWN_PRICE,
    digits_of,
    minor_units,
    price_amount,
    shown_digits,
)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("19.90", "EUR", 1990), ("19.9", "EUR", 1990), (" 5 ", "USD", 500), ("1990", "JPY", 1990), ("1.234", "KWD", 1234)],
)
def test_amount_is_stored_in_minor_units(amount, currency, minor):
    assert minor_units(amount, currency) == minor


@pytest.mark.parametrize("amount", ["", "free", "-1", "nan", "inf", "1.999", "1e30", "1e999999", "1e-999999", "1,50"])
def test_what_is_no_price_is_refused(amount):
    with pytest.raises(BadInput, match="price"):
        minor_units(amount, "EUR")


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "€", "XXX1"])
def test_unknown_currency_is_refused(currency):
    with pytest.raises(BadInput, match="currency"):
        minor_units("1", currency)


@given(st.integers(0, MAX_MINOR_UNITS), st.sampled_from(["EUR", "JPY", "KWD", "CLP"]))
def test_price_survives_the_round_trip(minor, currency):
    amount = price_amount(minor, currency)
    assert amount is not None
    assert minor_units(Decimal(amount), currency) == minor


def test_product_without_price_has_no_amount():
    assert price_amount(UNKNOWN_PRICE, "EUR") is None
    assert price_amount(100, "") is None


def test_trailing_zeros_are_kept():
    assert price_amount(1990, "EUR") == "19.90"


def test_digits_of_stored_prices_are_those_of_iso_4217():
    assert len(CURRENCIES) == 35
    assert {name: digits_of(name) for name in CURRENCIES if digits_of(name) != 2} == {
        "JPY": 0,
        "KRW": 0,
        "KWD": 3,
        "VND": 0,
    }
    assert digits_of("CLF") == 4


def test_shown_digits_follow_cldr_and_never_exceed_the_stored():
    assert {name: shown_digits(name) for name in ("HUF", "IDR", "TWD", "EUR", "KWD", "IQD")} == {
        "HUF": 0,
        "IDR": 0,
        "TWD": 2,
        "EUR": 2,
        "KWD": 3,
        "IQD": 0,
    }
