"""Money: decimal amounts as people write them, minor units as the index stores them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from functools import lru_cache

from serve_app.errors import BadInput

UNKNOWN_PRICE = -1
"""The stored price of a product that has none: no field of the index is nullable."""
MAX_MINOR_UNITS = 10**15
"""Far above any price, and far below where INT64 or a float in a client would end."""


def minor_units(amount: Decimal | str, currency: str) -> int:
    """Return a price in the currency's smallest unit: ("19.90", "EUR") is 1990, ("1990", "JPY") is 1990.

    Raises BadInput where the amount is no price or the currency is none of ISO 4217.
    """
    digits = _digits(currency)
    try:
        value = Decimal(str(amount).strip())
    except InvalidOperation as error:
        raise BadInput(f"the price {amount!r} is no number; write it like 19.90") from error
    if not value.is_finite() or value < 0:
        raise BadInput(f"the price {amount!r} is no amount of money; write it like 19.90")
    if value.adjusted() > len(str(MAX_MINOR_UNITS)) or value.scaleb(digits) > MAX_MINOR_UNITS:
        raise BadInput(f"the price {amount!r} is too large")
    scaled = value.scaleb(digits)
    if scaled != scaled.to_integral_value():
        raise BadInput(f"the price {amount!r} has more than the {digits} decimals of {currency}")
    return int(scaled)


def price_amount(minor: int, currency: str) -> str | None:
    """Return the decimal amount of a stored price; None where there is no price."""
    if minor == UNKNOWN_PRICE or not currency:
        return None
    return f"{Decimal(minor).scaleb(-_digits(currency)):f}"


def _digits(currency: str) -> int:
    if currency not in _currencies():
        raise BadInput(f"{currency!r} is no currency of ISO 4217; write it like EUR")
    # Imported here because Babel reads its data when it is first used.
    from babel.numbers import get_currency_precision

    return int(get_currency_precision(currency))


@lru_cache(maxsize=1)
def _currencies() -> frozenset[str]:
    from babel.numbers import list_currencies

    return frozenset(list_currencies())
