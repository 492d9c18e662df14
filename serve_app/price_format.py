"""Prices written as readers of a language write them, by CLDR's patterns.

Babel holds the patterns, but its own formatting lacks three of CLDR's rules that browsers follow: a space between
letters and digits, digits that are grouped from five on in some languages, and decimal signs of their own for money.
It also takes several times longer.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from serve_app.money import digits_of, shown_digits

NBSP = "\N{NO-BREAK SPACE}"
MARKS = "\N{LEFT-TO-RIGHT MARK}\N{RIGHT-TO-LEFT MARK}"
"""Part of a pattern, not of a currency's sign."""
GROUPED_FROM_FIVE_DIGITS = frozenset({"es", "it", "pl", "pt_PT"})
"""Of our languages, those whose `minimumGroupingDigits` is 2 in CLDR 48, which Babel does not hold."""


@dataclass(frozen=True, slots=True)
class PriceFormat:
    """Write prices of one currency in one language."""

    before: str
    after: str
    decimal: str
    group: str
    first_group: int
    """Digits of the last group; all before it have `other_groups`."""
    other_groups: int
    least_digits: int
    """A whole part with fewer digits is not grouped."""
    digits: int
    shown: int

    def __call__(self, minor: int) -> str:
        """Return a price of at least 0 minor units; decimals beyond those shown of the currency stand only if not 0."""
        text = str(minor).rjust(self.digits + 1, "0")
        whole, part = (text[: -self.digits], text[-self.digits :]) if self.digits else (text, "")
        if not part[self.shown :].strip("0"):
            part = part[: self.shown]
        return f"{self.before}{self._grouped(whole)}{self.decimal + part if part else ''}{self.after}"

    def _grouped(self, whole: str) -> str:
        if len(whole) < self.least_digits:
            return whole
        rest, groups = whole[: -self.first_group], [whole[-self.first_group :]]
        while rest:
            groups.append(rest[-self.other_groups :])
            rest = rest[: -self.other_groups]
        return self.group.join(reversed(groups))


@lru_cache(maxsize=2048)
def price_format(locale: str, currency: str) -> PriceFormat:
    """Return how a locale of Babel's (`de`, `pt_PT`) writes a currency."""
    # Imported here because Babel reads its data when it is first used.
    from babel import Locale

    known = Locale.parse(locale)
    pattern = known.currency_formats["standard"]
    symbols = known.number_symbols["latn"]
    symbol = known.currency_symbols.get(currency, currency)
    first, other = pattern.grouping
    return PriceFormat(
        before=_spaced(pattern.prefix[0].replace("¤", symbol), -1),
        after=_spaced(pattern.suffix[0].replace("¤", symbol), 0),
        decimal=symbols.get("currencyDecimal", symbols["decimal"]),
        group=symbols.get("currencyGroup", symbols["group"]),
        first_group=first,
        other_groups=other,
        least_digits=first + (2 if locale in GROUPED_FROM_FIVE_DIGITS else 1),
        digits=digits_of(currency),
        shown=shown_digits(currency),
    )


def _spaced(affix: str, nearest: int) -> str:
    """Put a space between letters and digits: CLDR's currencySpacing, which is the same in all languages.

    Its currencyMatch is [[:^S:]&[:^Z:]]: what is neither a symbol nor a space.
    """
    if not affix or unicodedata.category(affix[nearest])[0] in "SZ" or affix[nearest] in MARKS:
        return affix
    return affix + NBSP if nearest else NBSP + affix
