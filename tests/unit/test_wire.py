"""A hit becomes what a shopper of a market is shown."""

from dataclasses import replace
from datetime import date
from fractions import Fraction

from serve_app.api.wire import search_answer
from serve_app.domain import WHOLE_BOX, Detection, Hit, Source
from serve_app.languages import Reader
from serve_app.market import Market
from serve_app.objects import ObjectList
from serve_app.pipeline import Answer, ProductList
from serve_app.rates import NO_RATES, Rate
from tests.unit.builders import hit

DAY = date(2026, 10, 30)
SHOPPER = Market(Reader("de"), "USD", NO_RATES.updated([Rate("USD", Fraction("1.25"), DAY, "test")]))


def shown(found: Hit, *market: Market) -> dict[str, object]:
    whole = ObjectList(Detection(WHOLE_BOX), Source.WHOLE, main=True, crops=(0,))
    answer = Answer(1, 1, "model", None, (ProductList(whole, [found]),), (), 0)
    return search_answer(answer, "id", *market).model_dump(mode="json")["objects"][0]["products"][0]


def test_product_is_shown_in_language_and_currency():
    found = replace(
        hit("p", 0.5, title="chair", titles={"de": "Stuhl"}, attributes={"category_de": "Möbel"}),
        price=1990,
        currency="EUR",
        category="Furniture",
    )
    product = shown(found, SHOPPER)
    assert product["title"] == "Stuhl"
    assert product["category"] == "Möbel"
    assert product["price"] == {
        "amount": "24.88",
        "currency": "USD",
        "formatted": "24,88\xa0$",
        "converted": True,
        "rate_date": "2026-10-30",
        "rate_stale": False,
        "original": {"amount": "19.90", "currency": "EUR"},
    }


def test_who_asks_for_nothing_gets_the_shops_own_price():
    price = shown(replace(hit("p", 0.5), price=1990, currency="EUR"))["price"]
    assert (price["formatted"], price["converted"], price["original"]) == ("€19.90", False, None)
    assert shown(hit("p", 0.5))["price"] is None
