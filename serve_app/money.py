"""Money: decimal amounts as people write them, minor units as the index stores them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

from serve_app.errors import BadInput

UNKNOWN_PRICE = -1
"""The stored price of a product that has none: no field of the index is nullable."""
MAX_MINOR_UNITS = 10**15
"""Far above any price, and far below where INT64 or a float in a client would end."""
LARGEST_PRICE = 2**63 - 1
"""The largest number of minor units that the index can be asked for."""

CURRENCIES = (
    "AED", "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF",
    "IDR", "ILS", "INR", "JPY", "KRW", "KWD", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN",
    "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "USD", "VND", "ZAR",
)  # fmt: skip
"""What a shopper may ask for prices in; a catalogue's prices may be in any currency of ISO 4217."""


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Bound prices of one currency, both ends included, in its minor units; `high` None has no upper end."""

    currency: str
    low: int = 0
    high: int | None = None


def minor_units(amount: Decimal | str, currency: str) -> int:
    """Return a price in the currency's smallest unit: ("19.90", "EUR") is 1990, ("1990", "JPY") is 1990.

    Raises BadInput where the amount is no price or the currency is none of ISO 4217.
    """
    digits = digits_of(currency)
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
    return f"{Decimal(minor).scaleb(-digits_of(currency)):f}"


@lru_cache(maxsize=512)
def digits_of(currency: str) -> int:
    """Return the decimals that stored prices of a currency have: its minor unit by ISO 4217, 0 to 4.

    Not CLDR's, which change: version 48 took the decimals of HUF and IDR away, and a hundredfold of every stored price
    would be shown after an update of Babel. Raises BadInput where the currency is none of ISO 4217.
    """
    if currency not in _currencies():
        raise BadInput(f"{currency!r} is no currency of ISO 4217; write it like EUR")
    return next((digits for digits, currencies in _DIGITS.items() if currency in currencies), 2)


@lru_cache(maxsize=512)
def shown_digits(currency: str) -> int:
    """Return the decimals that a price is rounded to and shown with, by CLDR 48; never more than are stored.

    CLDR's digits for cash do not matter here: shops charge cards.
    """
    # Imported here because Babel reads its data when it is first used.
    from babel.numbers import get_currency_precision

    by_cldr = _SHOWN.get(currency)
    return min(digits_of(currency), int(get_currency_precision(currency)) if by_cldr is None else by_cldr)


_DIGITS = {
    0: frozenset({
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI",
        "VND", "VUV", "XAF", "XOF", "XPF",
    }),
    3: frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"}),
    4: frozenset({"CLF", "UYW"}),
}  # fmt: skip
"""Minor units of ISO 4217, list one of 2024-06-25; all others have two."""
_SHOWN = {"HUF": 0, "IDR": 0}
"""What CLDR 48 changed, as browsers show it; to be removed once Babel has it (2.18 holds CLDR 47)."""


@lru_cache(maxsize=1)
def _currencies() -> frozenset[str]:
    from babel.numbers import list_currencies

    return frozenset(list_currencies())
