"""One shopper's view of titles, categories and prices."""

from datetime import date
from fractions import Fraction

import pytest

from serve_app.config import load_config
from serve_app.errors import BadParameter
from serve_app.market import Market, Markets, Price, make_markets
from serve_app.money import PriceRange
from serve_app.rates import NO_RATES, Rate
from serve_app.rates_file import write_rates

RATES = NO_RATES.updated(
    Rate(name, Fraction(value), day, "test")
    for name, value, day in (
        ("USD", "1.25", date(2026, 10, 30)),
        ("JPY", "160", date(2026, 10, 30)),
        ("AED", "4", date(2026, 9, 1)),
    )
)
TODAY = date(2026, 11, 2)


def markets(rates=RATES, *stored: str) -> Markets:
    return Markets(lambda: rates, stored=stored, today=lambda: TODAY)


def market(tag: str = "de", currency: str | None = "USD", rates=RATES, stored: tuple[str, ...] = ()) -> Market:
    return markets(rates, *stored).of(tag, currency=currency)


def test_a_converted_price_says_so_with_date_and_original():
    assert market().price(1990, "EUR") == Price(
        amount="24.88",
        currency="USD",
        formatted="24,88\xa0$",
        converted=True,
        rate_date=date(2026, 10, 30),
        original=("19.90", "EUR"),
    )


def test_a_price_of_an_old_rate_is_stale():
    price = market(currency="AED").price(100, "EUR")
    assert price.stale
    assert price.rate_date == date(2026, 9, 1)


def test_a_price_in_the_asked_currency_is_as_stored():
    assert market().price(1990, "USD") == Price("19.90", "USD", "19,90\xa0$")


@pytest.mark.parametrize("asked", [None, "KRW"])
def test_a_price_that_can_not_be_converted_stays_in_its_currency(asked):
    assert market(currency=asked).price(1990, "EUR") == Price("19.90", "EUR", "19,90\xa0€")


def test_no_price_is_no_price():
    assert market().price(-1, "EUR") is None
    assert market().price(-1, "") is None


def test_a_currency_that_is_not_known_is_refused():
    with pytest.raises(BadParameter, match="'usd'; known are AED, AUD"):
        markets().of(currency="usd")


def test_the_shops_language_is_for_who_asks_for_none():
    shop = Markets(lambda: NO_RATES, language="ja")
    assert shop.of().reader.tag == "ja"
    assert shop.of(accept_language="da, de;q=0.5").reader.tag == "de"
    assert shop.of("fr", "de").reader.tag == "fr"


def test_texts_are_in_the_readers_language_or_the_shops_own():
    data = {
        "title": "椅子",
        "titles": {"ja": "椅子", "de": "Stuhl"},
        "attributes": {"category_de": "Möbel/Stühle", "category_id": 7, "colour": "red"},
    }
    assert market("de-AT").title(data) == "Stuhl"
    assert market("fr").title(data) == "椅子"
    assert market("de").category("Furniture/Chairs", data) == "Möbel/Stühle"
    assert market("id").category("Furniture/Chairs", data) == "Furniture/Chairs"
    assert market("fr").category("", {}) is None
    assert market("fr").title({}) is None


def test_bounds_become_one_range_for_each_stored_currency():
    ranges = market(stored=("EUR", "JPY", "KRW", "USD")).prices(1000, 2500)
    assert ranges == (PriceRange("USD", 1000, 2500), PriceRange("EUR", 800, 2000), PriceRange("JPY", 1280, 3200))
    assert market().prices(None, None) == ()
    assert market(stored=("EUR",)).prices(None, 2500) == (PriceRange("USD", 0, 2500), PriceRange("EUR", 0, 2000))
    assert [each.currency for each in market().prices(1000, None)] == ["USD", "AED", "EUR", "JPY"]
    assert market(rates=NO_RATES).prices(1000, None) == (PriceRange("USD", 1000),)


@pytest.mark.parametrize(("low", "high", "currency"), [(1, None, None), (2, 1, "USD")])
def test_bounds_that_make_no_sense_are_refused(low, high, currency):
    with pytest.raises(BadParameter, match="price_min"):
        market(currency=currency).prices(low, high)


def test_every_currency_with_a_rate_says_what_its_minor_unit_is_worth():
    assert market().worths() == (("AED", 0.0025), ("EUR", 0.01), ("JPY", 0.00625), ("USD", 0.008))
    assert market(rates=NO_RATES).worths() == ()


def test_a_shop_may_have_prices_in_a_currency_that_is_not_offered_elsewhere():
    assert markets(RATES, "ISK").of(currency="ISK").price(100, "ISK").amount == "100"
    with pytest.raises(BadParameter, match="'ISK'"):
        markets().of(currency="ISK")


def test_rates_are_those_that_are_loaded_now(tmp_path):
    made = make_markets(load_config(data_dir=tmp_path))
    assert made.of(currency="USD").price(1990, "EUR").converted is False
    write_rates(tmp_path / "rates.csv", RATES)
    assert made.of(currency="USD").price(1990, "EUR").amount == "24.88"


def test_only_currencies_with_a_rate_are_offered():
    assert markets(RATES, "GBP").offered() == ("AED", "EUR", "JPY", "USD")
    assert markets(NO_RATES, "GBP", "EUR").offered() == ("EUR", "GBP")
