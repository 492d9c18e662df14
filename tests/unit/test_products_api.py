"""Products over HTTP, from a service of canned answers."""

from dataclasses import replace

import numpy as np
import pytest

from serve_app.api.examples import PRODUCT, SIMILAR
from serve_app.api.product_wire import ProductAnswer, SimilarAnswer
from serve_app.domain import StoredView, View
from serve_app.errors import UnknownProduct
from serve_app.filters import Filter
from serve_app.money import PriceRange
from serve_app.pipeline import Query, Stored
from serve_app.ranking import Sort
from tests.unit.builders import hit
from tests.unit.test_api import PRICED, RATES, FakeService, code, request

NO_VECTOR = np.empty((0, 256), np.float32)
CHAIR = replace(
    hit("7", 0.0, "front", image_url="https://shop/front.jpg", titles={"en": "Chair", "de": "Stuhl"}, title="Chair"),
    price=1990,
    currency="EUR",
    category="Living/Chairs",
    parent_id="chairs",
)


def stored(*hits, updated_at=1_795_428_000_000) -> Stored:
    views = [StoredView(each, NO_VECTOR, updated_at + number) for number, each in enumerate(hits)]
    return Stored(tuple(views), 1_795_428_000_000, "products_0123456789ab_20260101T000000Z")


class ProductService(FakeService):
    """Know one product."""

    def __init__(self, outcome=PRICED, known=None, **options) -> None:
        super().__init__(outcome, **options)
        self.known = known or stored(CHAIR)
        self.asked = []

    async def product(self, product_id, *, strong):
        self.asked.append((product_id, strong))
        if product_id != self.known.rows[0].hit.product_id:
            raise UnknownProduct("send it first")
        return self.known

    async def similar(self, owner, product_id, query):
        self.asked.append((product_id, query))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return replace(self.outcome, lists=self.outcome.lists[:1])

    async def similar_page(self, owner, product_id, cursor, top_k, query):
        self.asked.append((product_id, cursor, top_k, query))
        return replace(PRICED, lists=PRICED.lists[:1])


def get(service, path):
    return request(service, "GET", f"/v1/products/{path}")


def test_product_is_answered_as_its_shop_describes_it():
    body = get(ProductService(), "7").json()
    assert body["product"] == {
        "product_id": "7",
        "parent_id": "chairs",
        "images": [{"image_id": "front", "url": "https://shop/front.jpg"}],
        "title": {"en": "Chair", "de": "Stuhl"},
        "category": "Living/Chairs",
        "price": {"amount": "19.90", "currency": "EUR"},
        "in_stock": True,
        "attributes": {},
    }
    assert body["updated_at"] == "2026-11-23T10:00:00.000Z"
    assert body["index"]["watermark"] == "2026-11-23T10:00:00.000Z"
    assert body["request_id"]


def test_product_has_each_image_once_and_the_newest_values():
    older = replace(CHAIR, price=5, row_id="front#object", view=View.OBJECT)
    back = hit("7", 0.0, "back", title="Plain", attributes={"legs": 4})
    product = get(ProductService(known=stored(older, CHAIR, back)), "7").json()["product"]
    assert [image["image_id"] for image in product["images"]] == ["back", "front"]
    assert (product["price"], product["category"], product["attributes"]) == (None, None, {"legs": 4})


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ({"title": "Chair"}, {"und": "Chair"}),
        ({"title": None, "titles": {}}, {}),
        ({"title": "Chair", "titles": {"de": "Stuhl"}}, {"und": "Chair", "de": "Stuhl"}),
    ],
)
def test_title_without_a_language_is_told_as_such(data, title):
    assert get(ProductService(known=stored(hit("7", 0, **data))), "7").json()["product"]["title"] == title


@pytest.mark.parametrize(("path", "product_id"), [("a%2Fb", "a/b"), ("a/b", "a/b"), ("K%C3%BChl%20%231", "Kühl #1")])
def test_id_may_hold_any_text(path, product_id):
    service = ProductService()
    assert code(get(service, path)) == (404, "unknown_product")
    assert service.asked == [(product_id, False)]


def test_product_is_read_after_all_writes_where_that_is_asked_for():
    service = ProductService()
    assert get(service, "7?consistency=strong").is_success
    assert service.asked == [("7", True)]


@pytest.mark.parametrize("query", ["top_k=3", "consistency=weak", "language=de", "colour=red"])
def test_product_takes_no_other_parameter(query):
    assert code(get(ProductService(), f"7?{query}")) == (422, "bad_parameter")


def test_similar_products_are_shown_as_those_of_a_search():
    response = get(ProductService(rates=RATES), "7/similar?language=de&currency=USD")
    (product,) = response.json()["products"]
    assert (product["title"], product["price"]["currency"]) == ("Stuhl", "USD")
    assert (response.json()["product_id"], response.json()["next"]) == ("7", None)
    assert (response.headers["content-language"], response.headers["vary"]) == ("de", "Accept-Language")


def test_similar_products_are_narrowed_grouped_and_sorted_as_asked():
    service = ProductService()
    query = "top_k=3&category=Men&price_max=20&currency=EUR&in_stock=true&attr.colour=red&group_by=parent&min_score=0.5"
    assert get(service, f"a/b/similar?{query}&sort=price_asc&consistency=strong").is_success
    wanted = Filter(("Men",), prices=(PriceRange("EUR", 0, 2000),), in_stock=True, attributes=(("colour", ("red",)),))
    asked = Query(
        3, min_score=0.5, wanted=wanted, strong=True, by_parent=True, sort=Sort.PRICE_ASC, currency="EUR",
        prices=PriceRange("EUR", 0, 2000),
    )  # fmt: skip
    assert service.asked == [("a/b", asked)]


def test_further_similar_products_are_asked_for_by_cursor():
    service = ProductService()
    assert get(service, "7/similar?cursor=c-1&top_k=5").is_success
    assert get(service, "7/similar?cursor=c-1&min_score=0.5").is_success
    assert service.asked == [("7", "c-1", 5, None), ("7", "c-1", 10, Query(min_score=0.5))]


@pytest.mark.parametrize("name", ["token", "objects", "box", "box_source", "images", "min_match", "url"])
def test_similar_products_take_no_parameter_of_a_photo(name):
    assert code(get(ProductService(), f"7/similar?{name}=1")) == (422, "bad_parameter")


def test_unknown_product_has_no_similar_ones():
    assert code(get(ProductService(UnknownProduct("send it first")), "8/similar")) == (404, "unknown_product")


def test_answers_are_counted():
    service = ProductService()
    get(service, "7/similar")
    get(service, "8")
    assert service.counted == ["ok", "unknown_product"]


def test_examples_of_answers_are_some():
    assert ProductAnswer.model_validate(PRODUCT).model_dump(mode="json") == PRODUCT
    assert SimilarAnswer.model_validate(SIMILAR).model_dump(mode="json") == SIMILAR
    paths = request(FakeService(), "GET", "/openapi.json").json()["paths"]
    described = paths["/v1/products/{product_id}/similar"]["get"]
    assert described["responses"]["200"]["content"]["application/json"]["example"] == SIMILAR
    assert {"404", "410", "422"} <= set(described["responses"])
    names = [parameter["name"] for parameter in described["parameters"]]
    assert "cursor" in names
    assert "box" not in names
    product = paths["/v1/products/{product_id}"]["get"]
    assert product["responses"]["200"]["content"]["application/json"]["example"] == PRODUCT
    assert [parameter["name"] for parameter in product["parameters"]] == ["product_id", "consistency"]
