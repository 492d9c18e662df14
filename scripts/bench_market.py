"""Measure what it costs to show a page of products in a shopper's language and currency, in CPU time of one core.

The rates are made up, each page has prices that no page before it had, and nothing else runs in the process: what a
search does with languages and currencies, alone. Reading CLDR's data of a language, which happens once in a process, is
measured beside it and is no part of a page.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, median_and_spread
from serve_app.languages import LANGUAGES, Reader
from serve_app.market import Market, Price
from serve_app.money import CURRENCIES
from serve_app.rates import Rate, Rates

PRODUCTS = 30
GOAL_MS = 1.0
TODAY = date(2026, 11, 25)
STORED = ("EUR", "USD", "JPY", "KWD", "HUF")
SHOPPERS = (("en", None), ("de", "EUR"), ("fr-CH", "CHF"), ("ar", "KWD"), ("hi", "INR"), ("ja", "JPY"), ("id", "IDR"))
"""Tags and currencies; None leaves each price in its own."""
FIRST_USE = """
import time
from serve_app.price_format import price_format
started = time.process_time()
price_format("{locale}", "EUR")
print((time.process_time() - started) * 1e3)
"""


def main() -> int:
    arguments = _arguments()
    console = Console()
    pages = 300 if arguments.quick else 2_000
    report = Report("bench_market", {"products": PRODUCTS, "pages": pages, "rounds": arguments.rounds})
    try:
        measured = [_shopper(tag, currency, pages, arguments.rounds) for tag, currency in SHOPPERS]
        report.rows += measured
        report.rows += [_bounds(pages), *(_first_use(tag) for tag in ("en", "ar"))]
    except subprocess.SubprocessError as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    slowest = max(float(row["ms"]) for row in measured)
    report.goals.append(Goal(f"ms CPU per {PRODUCTS} products, slowest shopper", slowest, GOAL_MS, "lower"))
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="300 pages a round instead of 2,000")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of whose times the median counts (default: 5)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def rates() -> Rates:
    """Return a rate for every currency that is offered, none of them real."""
    table = {
        name: Rate(name, Fraction(10_007 + 7_919 * n, 10_000), TODAY, "made up") for n, name in enumerate(CURRENCIES)
    }
    del table["EUR"]
    return Rates(table)


def _shopper(tag: str, currency: str | None, pages: int, rounds: int) -> dict[str, Any]:
    market = Market(Reader(tag), currency, rates(), TODAY)
    products = _products()
    show(market, [next(products) for _ in range(PRODUCTS)])  # reads the language's data
    times = []
    for _ in range(rounds):
        made = [[next(products) for _ in range(PRODUCTS)] for _ in range(pages)]
        started = time.process_time()
        for page in made:
            show(market, page)
        times.append((time.process_time() - started) / pages * 1e3)
    median, spread = median_and_spread(times)
    return {"shopper": f"{tag}, {currency or 'own currencies'}", "ms": median, "spread": spread}


def show(market: Market, page: list[dict[str, Any]]) -> list[tuple[str | None, str | None, Price | None]]:
    """Do for a page what a search's answer needs: titles, categories, prices."""
    return [
        (
            market.title(each["data"]),
            market.category(each["category"], each["data"]),
            market.price(each["price"], each["currency"]),
        )
        for each in page
    ]


def _products() -> Iterator[dict[str, Any]]:
    """Yield products with titles in 20 languages and categories in 3, no price twice."""
    titles = {language: f"chair in {language}" for language in LANGUAGES}
    attributes = {
        "category_de": "Möbel/Stühle",
        "category_ar": "أثاث/كراسي",
        "category_ja": "家具/椅子",
        "colour": "red",
    }
    number = 0
    while True:
        number += 1
        yield {
            "category": "Furniture/Chairs",
            "price": 1_000 + 37 * number,
            "currency": STORED[number % len(STORED)],
            "data": {"title": "chair", "titles": titles, "attributes": attributes},
        }


def _bounds(searches: int) -> dict[str, Any]:
    market = Market(Reader("en"), "USD", rates(), TODAY, CURRENCIES)
    market.prices(1, 2)
    started = time.process_time()
    for number in range(searches):
        market.prices(1_000 + number, 5_000 + number)
    each = (time.process_time() - started) / searches * 1e3
    return {"shopper": f"price filter over {len(CURRENCIES)} stored currencies", "ms": each, "spread": 0.0}


def _first_use(tag: str) -> dict[str, Any]:
    code = FIRST_USE.format(locale=Reader(tag).babel)
    times = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    spread = max(times) - min(times)
    return {"shopper": f"{tag}, first use in a process", "ms": statistics.median(times), "spread": spread}


if __name__ == "__main__":
    raise SystemExit(main())
