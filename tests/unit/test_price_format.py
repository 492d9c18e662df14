"""Prices are written as CLDR says; tests/web compares all of them with a browser's."""

import re
from decimal import Decimal

import pytest
from babel.numbers import format_currency
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serve_app.languages import LANGUAGES
from serve_app.money import CURRENCIES, digits_of, shown_digits
from serve_app.price_format import GROUPED_FROM_FIVE_DIGITS, price_format


@pytest.mark.parametrize(
    ("locale", "currency", "minor", "text"),
    [
        ("de", "EUR", 1990, "19,90\xa0€"),
        ("en", "EUR", 1990, "€19.90"),
        ("en", "JPY", 1990, "¥1,990"),
        ("en", "CHF", 5, "CHF\xa00.05"),
        ("en", "KWD", 1234567, "KWD\xa01,234.567"),
        ("ar", "KWD", 1, "\u200f0.001\xa0د.ك.\u200f"),
        ("hi", "INR", 123456789, "₹12,34,567.89"),
        ("es", "EUR", 123456, "1234,56\xa0€"),
        ("es", "EUR", 1234567, "12.345,67\xa0€"),
        ("fr_CH", "CHF", 123456, "1\u202f234.56\xa0CHF"),
        ("de", "HUF", 199900, "1.999\xa0HUF"),
        ("de", "HUF", 199990, "1.999,90\xa0HUF"),
        ("de", "EUR", 10**17, "1.000.000.000.000.000,00\xa0€"),
    ],
)
def test_price_is_written_as_its_readers_do(locale, currency, minor, text):
    assert price_format(locale, currency)(minor) == text


LETTER_BEFORE_DIGIT = re.compile(r"(?<=[^\W\d])\xa0(?=\d)")


@settings(deadline=None)
@given(
    st.sampled_from(sorted({*LANGUAGES} - GROUPED_FROM_FIVE_DIGITS)),
    st.sampled_from(CURRENCIES),
    st.integers(0, 10**15),
)
def test_babel_writes_the_same_but_for_the_space_after_letters(locale, currency, minor):
    amount = Decimal(minor).scaleb(-digits_of(currency))
    assume(shown_digits(currency) == digits_of(currency))
    babels = format_currency(amount, currency, locale=locale)
    ours = price_format(locale, currency)(minor)
    assert babels in (ours, LETTER_BEFORE_DIGIT.sub("", ours))
