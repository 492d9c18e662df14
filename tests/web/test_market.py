"""Prices and plural forms, held against a browser's own: what the page writes must not differ from what the API sent.

`price_differences.json` lists and explains each difference that is known; another one fails, and so does one that is
gone.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from babel.numbers import format_currency

from serve_app.languages import LANGUAGES, REGIONAL, Reader
from serve_app.money import CURRENCIES, digits_of, price_amount, shown_digits
from serve_app.price_format import GROUPED_FROM_FIVE_DIGITS, NBSP, price_format
from serve_app.texts import PLURALS, texts
from tests.web.conftest import InBrowser

LISTED = json.loads((Path(__file__).parent / "price_differences.json").read_text(encoding="utf-8"))
MINOR = (0, 5, 1990, 100_000, 123_456, 1_234_560, 123_456_789)
INTL = """({tags, amounts}) => Object.fromEntries(tags.map((tag) => [tag, Object.fromEntries(
  Object.entries(amounts).map(([currency, each]) => [currency, each.map(
    (amount) => new Intl.NumberFormat(tag, {style: "currency", currency}).format(amount))]))]))"""
PLURAL = """({tags, counts}) => Object.fromEntries(tags.map((tag) => {
  const rules = new Intl.PluralRules(tag);
  return [tag, counts.map((count) => rules.select(count))];
}))"""

FOUR_DIGITS = re.compile(r"(?<!\d)(\d)(\d{3})(?!\d)")
LETTER_BEFORE_DIGIT = re.compile(rf"(?<=[^\W\d]){NBSP}(?=\d)")

Differences = dict[str, list[str]]
"""Currencies by tag."""


def intl(in_browser: InBrowser, tags: list[str]) -> dict[str, dict[str, list[str]]]:
    amounts = {currency: [price_amount(minor, currency) for minor in MINOR] for currency in CURRENCIES}
    return in_browser(INTL, {"tags": tags, "amounts": amounts})


def pairs(written: dict[str, dict[str, list[str]]]) -> Iterator[tuple[str, str, int, str]]:
    for tag, currencies in written.items():
        for currency, found in currencies.items():
            for minor, text in zip(MINOR, found, strict=True):
                yield tag, currency, minor, text


def listed(side: str, reason: str) -> Differences:
    return {tag: names.split() for tag, names in LISTED[side][reason]["where"].items()}


def sorted_differences(found: dict[str, set[str]]) -> Differences:
    return {tag: sorted(names) for tag, names in sorted(found.items())}


def test_prices_are_written_as_the_browser_writes_them(in_browser):
    tags = [*LANGUAGES, *REGIONAL]
    written = intl(in_browser, tags)
    fractions: dict[str, set[str]] = defaultdict(set)
    apostrophe: dict[str, set[str]] = defaultdict(set)
    compared = 0
    for tag, currency, minor, text in pairs(written):
        ours = price_format(Reader(tag).babel, currency)(minor)
        compared += 1
        if ours == text:
            continue
        if minor % 10 ** (digits_of(currency) - shown_digits(currency)):
            fractions[tag].add(currency)
        else:
            assert ours.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") == text, (tag, currency, minor, ours, text)
            apostrophe[tag].add(currency)
    assert compared == (20 + len(REGIONAL)) * 35 * len(MINOR)
    assert sorted_differences(fractions) == {tag: ["HUF", "IDR"] for tag in sorted(tags)}
    assert LISTED["ours"]["fractions"]["where"] == {"every": "HUF IDR"}
    assert {tag: sorted(names) for tag, names in apostrophe.items()} == {"de-CH": sorted(CURRENCIES)}
    assert LISTED["ours"]["apostrophe"]["where"] == {"de-CH": "every"}


def test_what_babel_alone_writes_differs_where_it_is_listed(in_browser):
    found: dict[str, dict[str, set[str]]] = {name: defaultdict(set) for name in LISTED["babel"]}
    written = intl(in_browser, list(LANGUAGES))
    assert sum(len(currencies) for currencies in written.values()) == 700
    for tag, currency, minor, text in pairs(written):
        amount = Decimal(minor).scaleb(-digits_of(currency))
        babels = format_currency(amount, currency, locale=tag)
        if babels != text:
            found[reason(tag, currency, babels, text)][tag].add(currency)
    assert {name: sorted_differences(each) for name, each in found.items()} == {
        name: listed("babel", name) for name in LISTED["babel"]
    }


def reason(tag: str, currency: str, babels: str, browsers: str) -> str:
    """Return which listed reason explains a difference."""
    if currency in ("HUF", "IDR"):
        return "digits"
    if tag in GROUPED_FROM_FIVE_DIGITS:
        assert FOUR_DIGITS.sub(rf"\1{price_format(tag, currency).group}\2", browsers) == babels, (
            tag,
            currency,
            browsers,
        )
        return "grouping"
    assert LETTER_BEFORE_DIGIT.sub("", browsers) == babels, (tag, currency, babels, browsers)
    return "space"


def test_plural_forms_are_those_that_the_page_asks_for(in_browser):
    counts = [*range(130), 1_000, 10**6, 10**6 + 1, 3 * 10**6]
    chosen = in_browser(PLURAL, {"tags": list(LANGUAGES), "counts": counts})
    assert set(chosen) == set(LANGUAGES)
    for language, categories in chosen.items():
        assert set(categories) == set(PLURALS[language])
        assert set(texts("page", language)["{count} product"]) == set(PLURALS[language])
