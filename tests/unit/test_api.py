"""The HTTP interface over a service of canned answers."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import httpx
import numpy as np
import pytest

from serve_app.api.app import create_app
from serve_app.api.examples import ANSWER as EXAMPLE
from serve_app.api.examples import REQUESTS
from serve_app.api.service import IndexView
from serve_app.api.wire import DEGRADED, SearchAnswer
from serve_app.calibration import Chances
from serve_app.callers import make_access
from serve_app.config import AuthConfig, Config, PageConfig
from serve_app.domain import WHOLE_BOX, Box, Detection, Source
from serve_app.errors import (
    DeadlineExceeded,
    FetchFailed,
    FetchTimeout,
    IndexMissing,
    MilvusUnavailable,
    NotAnImage,
    Overloaded,
    PhotoExpired,
    UrlNotFound,
    UrlRefused,
)
from serve_app.filters import Filter
from serve_app.keeping import Bounds, ShelfStore
from serve_app.limiting import Quotas
from serve_app.market import Markets
from serve_app.money import PriceRange
from serve_app.objects import Focus, ObjectList
from serve_app.pipeline import Answer, Fixed, ProductList, Query
from serve_app.ranking import Sort
from serve_app.rates import NO_RATES, Rate, Rates
from serve_app.rules import NO_RULES, Action, Rule, Rules
from tests.unit.builders import curve, hit

CHAIR = ObjectList(Detection(Box(0.1, 0.2, 0.3, 0.4), "chair", 0.8), Source.DETECTOR, True, (1,))
WHOLE = ObjectList(Detection(WHOLE_BOX), Source.WHOLE, False, (0,))
ANSWER = Answer(
    640,
    480,
    "0123456789ab",
    "products_0123456789ab_20260101T000000Z",
    (ProductList(CHAIR, (hit("p1", 0.7, "i1", title="Oak chair"),)), ProductList(WHOLE, ())),
    (),
    1_795_428_000_000,
    {"decode": 1.0, "detect": 2.0, "embed": 3.0, "search": 4.0, "total": 10.0},
)
PRICED = replace(
    ANSWER,
    lists=(
        ProductList(CHAIR, (replace(hit("p1", 0.7, titles={"de": "Stuhl"}), price=1990, currency="EUR"),)),
        ProductList(WHOLE, ()),
    ),
)
RATES = NO_RATES.updated([Rate("USD", Fraction("1.25"), date(2026, 10, 30), "test")])


class FakeService:
    fingerprint = "0123456789ab"
    detector_sha256 = "0123456789abcdef" * 4
    max_body_bytes = 1000
    takes_feedback = False
    tells_matches = True
    browser_detector = None

    def __init__(
        self,
        outcome: Answer | Exception = ANSWER,
        missing: IndexView | None = None,
        rates: Rates = NO_RATES,
        auth: AuthConfig | None = None,
    ) -> None:
        self.access = make_access(Config(auth=auth or AuthConfig()))
        self.quotas = Quotas(ShelfStore(Bounds(10**6, 10**6, 900), clock=lambda: 0.0), timeout_s=5)
        self.markets = Markets(lambda: rates, today=lambda: date(2026, 11, 1))
        self.page_settings = PageConfig()
        self.outcome = outcome
        self.missing = missing
        self.searches: list[tuple[bytes | str | tuple[bytes, ...], Query]] = []
        self.bulk: list[bool] = []
        self.in_force = NO_RULES
        self.pages: list[tuple[str, int, Query | None]] = []
        self.owners: list[str] = []
        self.counted: list[str] = []
        self.shown: list[tuple[str, str, bool, str]] = []

    async def search_again(self, owner: str, token: str, query: Query, *, bulk: bool = False) -> Answer:
        return await self.search(owner, token, query, bulk=bulk)

    async def search_together(self, owner: str, photos: Sequence[bytes], query: Query, *, bulk: bool = False) -> Answer:
        return await self.search(owner, tuple(photos), query, bulk=bulk)

    async def search_url(self, owner: str, url: str, query: Query, *, bulk: bool = False) -> Answer:
        return await self.search(owner, url, query, bulk=bulk)

    async def page(self, owner: str, cursor: str, top_k: int, query: Query | None, *, bulk: bool = False) -> Answer:
        self.owners.append(owner)
        self.pages.append((cursor, top_k, query))
        return ANSWER

    async def search(
        self, owner: str, photo: bytes | str | tuple[bytes, ...], query: Query, *, bulk: bool = False
    ) -> Answer:
        self.owners.append(owner)
        self.searches.append((photo, query))
        self.bulk.append(bulk)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def rules(self) -> Rules:
        return self.in_force

    def index(self) -> IndexView:
        return IndexView("products_0123456789ab_20260101T000000Z")

    def ready(self) -> IndexView | None:
        return self.missing

    def count(self, code, timings_ms, degraded=()):
        self.counted.append(code)

    def show(self, owner, request_id, answer, *, further=False, like=""):
        self.shown.append((owner, request_id, further, like))

    async def feedback(self, caller, feedback) -> bool:
        return False

    async def metrics(self) -> str:
        return "shoplens_requests_total 1\n"


def request(service: FakeService, method: str, path: str, **options) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


def search(service: FakeService, query: str = "", photo: bytes = b"photo") -> httpx.Response:
    return request(service, "POST", f"/v1/search{query}", files={"photo": ("p.jpg", photo, "image/jpeg")})


def code(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"]
    return response.status_code, problem["code"]


def test_answer_has_every_field_of_version_1():
    body = search(FakeService()).json()
    assert body["photo"] == {"token": None, "width": 640, "height": 480}
    assert body["model"] == "0123456789ab"
    assert body["index"] == {
        "collection": "products_0123456789ab_20260101T000000Z",
        "watermark": "2026-11-23T10:00:00.000Z",
    }
    assert body["degraded"] == []
    assert body["timings_ms"]["total"] == 10.0
    chair, whole = body["objects"]
    assert chair == {
        "object_id": "o0",
        "box": [0.1, 0.2, 0.3, 0.4],
        "label": "chair",
        "confidence": 0.8,
        "main": True,
        "source": "detector",
        "facets": None,
        "next": None,
        "products": [
            {
                "product_id": "p1",
                "image_id": "i1",
                "image_url": None,
                "view": "whole",
                "score": 0.7,
                "match": None,
                "title": "Oak chair",
                "category": None,
                "in_stock": True,
                "price": None,
                "rule": None,
            }
        ],
    }
    assert (whole["source"], whole["label"], whole["products"]) == ("whole", None, [])


def test_parameters_reach_the_search():
    service = FakeService()
    search(service, "?top_k=3&min_score=0.25")
    assert service.searches == [(b"photo", Query(top_k=3, min_score=0.25))]


@pytest.mark.parametrize("query", ["top_k=0", "top_k=101", "top_k=x", "min_score=2", "min_score=nan", "top_k="])
def test_parameter_out_of_range_is_refused(query):
    assert code(search(FakeService(), f"?{query}")) == (422, "bad_parameter")


def test_photos_of_one_thing_are_searched_together():
    service = FakeService()
    body = {"images": ["cGhvdG8=", "data:image/jpeg;base64,YW5vdGhlcg=="], "top_k": 4, "objects": "main"}
    assert request(service, "POST", "/v1/search", json=body).is_success
    ((photos, query),) = service.searches
    assert photos == (b"photo", b"another")
    assert (query.top_k, query.focus.main_only) == (4, True)


def test_each_of_several_photos_may_have_a_box():
    service = FakeService()
    body = {"images": ["cGhvdG8=", "YW5vdGhlcg=="], "boxes": [[0, 0, 1, 0.5], [0.5, 0, 1, 1]]}
    assert request(service, "POST", "/v1/search", json=body).is_success
    assert [box.as_tuple() for box in service.searches[0][1].focus.boxes] == [(0, 0, 1, 0.5), (0.5, 0, 1, 1)]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"images": []}, "2 to 5"),
        ({"images": ["cGhvdG8="]}, "2 to 5"),
        ({"images": ["cGhvdG8="] * 6}, "2 to 5"),
        ({"images": "cGhvdG8="}, "2 to 5"),
        ({"images": [["cGhvdG8="], "cGhvdG8="]}, "images.0"),
        ({"images": ["cGhvdG8=", "not base64"]}, "images.1"),
        ({"images": ["cGhvdG8="] * 2, "image": "cGhvdG8="}, "image and images"),
        ({"images": ["cGhvdG8="] * 2, "token": "abc"}, "images and a token"),
        ({"images": ["cGhvdG8="] * 2, "cursor": "abc"}, "cursor"),
        ({"images": ["cGhvdG8="] * 2, "objects": 2}, "objects=main"),
        ({"images": ["cGhvdG8="] * 2, "boxes": [[0, 0, 1, 1]]}, "boxes"),
    ],
)
def test_what_can_not_be_several_photos_of_one_thing_is_refused(body, word):
    response = request(FakeService(), "POST", "/v1/search", json=body)
    assert code(response) == (422, "bad_parameter")
    assert word in response.json()["detail"]


def test_several_photos_belong_into_a_body():
    response = search(FakeService(), "?images=1")
    assert code(response) == (422, "bad_parameter")
    assert "JSON" in response.json()["detail"]


@pytest.mark.parametrize(("size_bytes", "answered"), [(500, 200), (501, 413)])
def test_several_photos_may_be_as_large_as_one(size_bytes, answered):
    images = [base64.b64encode(b"x" * size_bytes).decode()] * 2
    assert request(FakeService(), "POST", "/v1/search", json={"images": images}).status_code == answered


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("category=Men/Tops&category=Women", Filter(categories=("Men/Tops", "Women"))),
        ("price_min=19.9&currency=EUR", Filter(prices=(PriceRange("EUR", 1990),))),
        ("price_min=0&price_max=1500&currency=JPY", Filter(prices=(PriceRange("JPY", 0, 1500),))),
        ("in_stock=true", Filter(in_stock=True)),
        ("in_stock=false", Filter(in_stock=False)),
        ("attr.colour=red&attr.colour=blue", Filter(attributes=(("colour", ("red", "blue")),))),
        ("attr.size=42", Filter(attributes=(("size", ("42", 42)),))),
        ("attr.weight=1.5&attr.new=true", Filter(attributes=(("weight", ("1.5", 1.5)), ("new", ("true", True))))),
    ],
)
def test_search_is_narrowed(query, wanted):
    service = FakeService()
    assert search(service, f"?{query}").is_success
    assert service.searches[0][1].wanted == wanted


def test_search_is_narrowed_by_json_with_the_types_it_has():
    service = FakeService()
    attributes = {"size": 42, "colour": ["red", "blue"], "new": True}
    body = {"image": "cGhvdG8=", "category": "Men", "price_max": "19.90", "currency": "EUR", "attributes": attributes}
    assert request(service, "POST", "/v1/search", json=body).is_success
    assert service.searches[0][1].wanted == Filter(
        categories=("Men",),
        prices=(PriceRange("EUR", 0, 1990),),
        attributes=(("size", (42,)), ("colour", ("red", "blue")), ("new", (True,))),
    )


def test_products_are_grouped_and_sorted_as_asked():
    service = FakeService()
    assert search(service, "?group_by=parent&sort=price_desc&currency=EUR").is_success
    query = service.searches[0][1]
    assert (query.by_parent, query.sort, query.currency, query.wanted) == (True, Sort.PRICE_DESC, "EUR", Filter())
    assert query.worths == ()


def test_bounds_and_order_of_prices_are_those_of_all_currencies_with_a_rate():
    service = FakeService(rates=RATES)
    assert search(service, "?price_max=25&currency=USD&sort=price_asc").is_success
    query = service.searches[0][1]
    assert query.wanted.prices == (PriceRange("USD", 0, 2500), PriceRange("EUR", 0, 2000))
    assert query.prices == PriceRange("USD", 0, 2500)
    assert query.worths == (("EUR", 0.01), ("USD", 0.008))


def shown(service: FakeService, query: str = "", **headers: str) -> tuple[dict, httpx.Headers]:
    response = request(service, "POST", f"/v1/search?token=t-1{query}", headers=headers)
    return response.json()["objects"][0]["products"][0], response.headers


def test_products_are_shown_in_the_language_and_currency_that_were_asked_for():
    product, headers = shown(FakeService(PRICED, rates=RATES), "&language=de-AT&currency=USD")
    assert (product["title"], product["price"]["amount"], product["price"]["currency"]) == ("Stuhl", "24.88", "USD")
    assert (product["price"]["converted"], product["price"]["rate_date"]) == (True, "2026-10-30")
    assert product["price"]["original"] == {"amount": "19.90", "currency": "EUR"}
    assert headers["content-language"] == "de-AT"


def test_language_is_the_browsers_where_none_is_asked_for():
    product, headers = shown(FakeService(PRICED), **{"Accept-Language": "da, de;q=0.5"})
    assert (product["title"], product["price"]["formatted"]) == ("Stuhl", "19,90\xa0€")
    assert (headers["content-language"], headers["vary"]) == ("de", "Accept-Language")


def test_prices_stay_the_shops_where_a_rate_is_missing():
    product, headers = shown(FakeService(PRICED), "&currency=USD")
    assert (product["price"]["formatted"], product["price"]["converted"]) == ("€19.90", False)
    assert headers["content-language"] == "en"


def test_currency_alone_does_not_change_what_is_searched():
    service = FakeService(rates=RATES)
    assert search(service, "?currency=USD&language=fr").is_success
    assert service.searches == [(b"photo", Query())]


@pytest.mark.parametrize("query", ["language=tlh", "language=", "language=de_", "currency=XXX"])
def test_language_or_currency_that_is_not_known_is_refused_before_the_photo_is_read(query):
    assert code(request(FakeService(), "POST", f"/v1/search?{query}", data={"photo": "x"})) == (422, "bad_parameter")


@pytest.mark.parametrize(
    "query",
    [
        "category=",
        "category=/",
        "category=" + "x" * 600,
        "price_min=5",
        "price_min=5&currency=EURO",
        "price_min=5&currency=XXX1",
        "price_min=5&currency=QQQ",
        "price_min=-1&currency=EUR",
        "price_min=1.999&currency=EUR",
        "price_min=cheap&currency=EUR",
        "price_min=NaN&currency=EUR",
        "price_min=1e400&currency=EUR",
        "price_min=5&price_max=4&currency=EUR",
        "currency=eur",
        "in_stock=perhaps",
        "attr.=red",
        'attr.a"b=red',
        "attr.colour=" + "&attr.colour=".join("x" * 101),
        "group_by=colour",
        "sort=price",
        "attributes=red",
    ],
)
def test_bad_filter_is_refused(query):
    assert code(search(FakeService(), f"?{query}")) == (422, "bad_parameter")


@pytest.mark.parametrize(
    "body", [{"attributes": ["red"]}, {"attributes": {"a": {"b": 1}}}, {"attributes": {"a": []}}, {"category": [5]}]
)
def test_bad_filter_in_json_is_refused(body):
    response = request(FakeService(), "POST", "/v1/search", json={"image": "cGhvdG8=", **body})
    assert code(response) == (422, "bad_parameter")


def test_unknown_parameter_is_refused_and_the_known_are_named():
    response = search(FakeService(), "?topk=3")
    assert code(response) == (422, "bad_parameter")
    assert "top_k" in response.json()["detail"]


def test_repeated_parameter_is_refused():
    assert code(search(FakeService(), "?top_k=3&top_k=4")) == (422, "bad_parameter")


def test_request_without_body_is_refused():
    assert code(request(FakeService(), "POST", "/v1/search")) == (400, "empty_body")


def test_empty_photo_is_refused():
    assert code(search(FakeService(), photo=b"")) == (400, "empty_body")


def test_form_without_photo_is_refused():
    response = request(FakeService(), "POST", "/v1/search", files={"picture": b"x"})
    assert code(response) == (422, "bad_parameter")


def test_photo_is_searched_again_by_its_token():
    service = FakeService()
    assert request(service, "POST", "/v1/search?token=t-1&top_k=3").is_success
    assert request(service, "POST", "/v1/search", json={"token": "t-1", "top_k": 3}).is_success
    assert service.searches == [("t-1", Query(top_k=3))] * 2


def test_photo_is_searched_by_its_url():
    service, url = FakeService(), "https://images.example.com/a.jpg?size=2&name=b"
    assert request(service, "POST", "/v1/search", params={"url": url, "top_k": 3}).is_success
    assert request(service, "POST", "/v1/search", json={"url": url, "top_k": 3}).is_success
    assert service.searches == [(url, Query(top_k=3))] * 2


@pytest.mark.parametrize("beside", [{"image": "cGhvdG8="}, {"token": "t-1"}, {"cursor": "c-1"}])
def test_url_beside_another_photo_is_refused(beside):
    response = request(FakeService(), "POST", "/v1/search", json={"url": "https://a/b.jpg", **beside})
    assert code(response) == (422, "bad_parameter")
    assert "url" in response.json()["detail"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UrlRefused("no"), (422, "url_refused")),
        (UrlNotFound("no"), (422, "not_found")),
        (FetchFailed("no").after(1), (502, "fetch_failed")),
        (FetchTimeout("no").after(1), (504, "fetch_timeout")),
    ],
)
def test_url_that_can_not_be_had_is_a_problem_and_counted(error, expected):
    service = FakeService(error)
    response = request(service, "POST", "/v1/search", json={"url": "https://a/b.jpg"})
    assert (code(response), service.counted) == (expected, [expected[1]])
    assert ("retry-after" in response.headers) == (error.retry_after_s is not None)


def test_answer_tells_in_a_header_how_long_its_stages_took():
    header = search(FakeService()).headers["server-timing"]
    assert header == "decode;dur=1.0, detect;dur=2.0, embed;dur=3.0, search;dur=4.0, total;dur=10.0"


def test_page_is_asked_for_by_its_cursor_alone():
    service = FakeService()
    assert request(service, "POST", "/v1/search?cursor=c-1&top_k=3").is_success
    assert request(service, "POST", "/v1/search", json={"cursor": "c-1"}).is_success
    assert service.pages == [("c-1", 3, None), ("c-1", 10, None)]


def test_parameters_beside_a_cursor_are_held_against_it():
    service = FakeService()
    assert request(service, "POST", "/v1/search?cursor=c-1&objects=main").is_success
    assert service.pages == [("c-1", 10, Query(focus=Focus(10, main_only=True)))]


def test_language_and_currency_beside_a_cursor_only_say_how_its_page_is_shown():
    service = FakeService()
    assert request(service, "POST", "/v1/search?cursor=c-1&language=de&currency=USD").is_success
    assert service.pages == [("c-1", 10, None)]


def test_photo_beside_a_cursor_is_refused():
    assert code(search(FakeService(), "?cursor=c-1")) == (422, "bad_parameter")


def test_cursor_of_the_next_page_is_named_in_the_answer():
    (chair, whole) = ANSWER.lists
    answer = replace(ANSWER, lists=(replace(chair, next="c-2"), whole))
    assert [entry["next"] for entry in search(FakeService(answer)).json()["objects"]] == ["c-2", None]


def test_token_is_named_in_the_answer():
    assert search(FakeService(replace(ANSWER, token="t-1"))).json()["photo"]["token"] == "t-1"


def test_token_that_can_be_none_is_refused():
    assert code(request(FakeService(), "POST", "/v1/search?token=a%20b")) == (422, "bad_parameter")


def test_token_beside_a_photo_is_refused():
    assert code(search(FakeService(), "?token=t-1")) == (422, "bad_parameter")


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_photo_may_be_the_whole_body(kind):
    service = FakeService()
    request(service, "POST", "/v1/search?top_k=3", content=b"photo", headers={"content-type": kind})
    assert service.searches == [(b"photo", Query(top_k=3))]


@pytest.mark.parametrize("image", ["cGhvdG8=", "data:image/jpeg;base64,cGhvdG8="])
def test_photo_may_be_base64_in_json(image):
    service = FakeService()
    body = {"image": image, "top_k": 3, "boxes": [[0, 0, 0.5, 1]], "box_source": "device"}
    request(service, "POST", "/v1/search", json=body)
    assert service.searches == [(b"photo", Query(3, Focus(3, boxes=(Box(0, 0, 0.5, 1),), source=Source.DEVICE)))]


@pytest.mark.parametrize(
    "body",
    ["[1]", "{", '{"image": "not base64!"}', '{"image": 5}', "[" * 100_000, '{"image": "cGhvdG8=", "colour": "red"}'],
    ids=["list", "broken", "no base64", "number", "deep", "unknown name"],
)
def test_bad_json_is_refused(body):
    service = FakeService()
    service.max_body_bytes = 10**6
    response = request(service, "POST", "/v1/search", content=body, headers={"content-type": "application/json"})
    assert code(response) == (422, "bad_parameter")


def test_json_without_a_photo_is_refused():
    assert code(request(FakeService(), "POST", "/v1/search", json={"top_k": 3})) == (400, "empty_body")


@pytest.mark.parametrize("size_bytes", [1001, 40_000])
def test_photo_over_the_limit_is_refused_in_json_and_alone(size_bytes):
    image = base64.b64encode(b"x" * size_bytes).decode()
    assert code(request(FakeService(), "POST", "/v1/search", json={"image": image})) == (413, "photo_too_large")
    raw = {"content": b"x" * size_bytes, "headers": {"content-type": "image/png"}}
    assert code(request(FakeService(), "POST", "/v1/search", **raw)) == (413, "photo_too_large")


def test_name_in_query_string_and_body_is_refused():
    response = request(FakeService(), "POST", "/v1/search?top_k=3", json={"image": "cGhvdG8=", "top_k": 3})
    assert code(response) == (422, "bad_parameter")


@pytest.mark.parametrize(
    ("query", "focus"),
    [
        ("objects=2", Focus(2)),
        ("objects=all", Focus(10)),
        ("objects=main", Focus(10, main_only=True)),
        ("objects=whole", Focus(0)),
        ("box=0,0,1,1&box=0.25,0,0.5,1.0000001", Focus(boxes=(Box(0, 0, 1, 1), Box(0.25, 0, 0.5, 1)))),
        ("box=0,0,1,1&box_source=device", Focus(boxes=(Box(0, 0, 1, 1),), source=Source.DEVICE)),
    ],
)
def test_what_of_the_photo_is_searched(query, focus):
    service = FakeService()
    search(service, f"?{query}")
    assert service.searches[0][1].focus == focus


@pytest.mark.parametrize(
    "query",
    [
        "objects=0",
        "objects=11",
        "objects=most",
        "objects=",
        "objects=1.0",
        "box=0,0,1",
        "box=0,0,0,1",
        "box=0.5,0,0.4,1",
        "box=nan,0,1,1",
        "box=0,0,2,1",
        "box=",
        "boxes=0,0,1,1",
        "box_source=device",
        "box=0,0,1,1&box_source=dog",
        "box=0,0,1,1&objects=whole",
        "&".join(["box=0,0,1,1"] * 11),
    ],
)
def test_bad_choice_of_objects_is_refused(query):
    assert code(search(FakeService(), f"?{query}")) == (422, "bad_parameter")


def test_bad_box_is_refused_with_the_way_to_write_it():
    assert "0.1,0.2,0.6,0.9" in search(FakeService(), "?box=5").json()["detail"]


def test_two_photos_are_refused():
    files = [("photo", b"a"), ("photo", b"b")]
    assert code(request(FakeService(), "POST", "/v1/search", files=files)) == (422, "bad_parameter")


def test_body_of_another_type_is_refused():
    response = request(FakeService(), "POST", "/v1/search", data={"photo": "x"})
    assert code(response) == (415, "unsupported_type")


def test_broken_form_is_refused():
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = request(FakeService(), "POST", "/v1/search", content=b"no boundary", headers=headers)
    assert code(response) == (422, "bad_parameter")


@pytest.mark.parametrize("size_bytes", [1001, 40_000])
def test_photo_over_the_limit_is_refused(size_bytes):
    assert code(search(FakeService(), photo=b"x" * size_bytes)) == (413, "photo_too_large")


def test_body_of_unknown_length_is_cut_off_at_the_limit():
    sent = 0

    async def chunks():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="p"\r\n\r\n'
        for _ in range(1000):
            sent += 10_000
            yield b"x" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = request(FakeService(), "POST", "/v1/search", content=chunks(), headers=headers)
    assert code(response) == (413, "photo_too_large")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotAnImage("no"), (422, "not_an_image")),
        (PhotoExpired("no"), (410, "photo_expired")),
        (IndexMissing("no"), (503, "index_missing")),
        (MilvusUnavailable("no"), (503, "milvus_unavailable")),
        (DeadlineExceeded("no"), (504, "deadline_exceeded")),
    ],
)
def test_error_of_a_stage_becomes_its_problem(error, expected):
    service = FakeService(error)
    assert code(search(service)) == expected
    assert service.counted == [expected[1]]


def test_refusal_says_when_to_come_back():
    response = search(FakeService(Overloaded("full")))
    assert code(response) == (429, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert response.json()["retry_after_ms"] == 1000


def test_unexpected_error_shows_no_inside():
    response = search(FakeService(RuntimeError("secret")))
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert "secret" not in response.text


def test_unknown_path_and_method_are_problems():
    assert code(request(FakeService(), "GET", "/nowhere")) == (404, "not_found")
    assert code(request(FakeService(), "GET", "/v1/search")) == (405, "method_not_allowed")


def test_harmless_request_id_of_the_client_is_kept():
    response = request(FakeService(), "GET", "/v2/health/live", headers={"X-Request-ID": "shop-1.2"})
    assert response.headers["x-request-id"] == "shop-1.2"


def test_harmful_request_id_is_replaced():
    response = request(FakeService(), "GET", "/v2/health/live", headers={"X-Request-ID": "a b{}"})
    assert len(response.headers["x-request-id"]) == 32


def test_ready_says_what_is_missing():
    response = request(FakeService(missing=IndexView(None, "no index")), "GET", "/v2/health/ready")
    assert (response.status_code, response.json()["reason"]) == (503, "no index")
    assert request(FakeService(), "GET", "/v2/health/ready").status_code == 200


def test_metrics_are_text():
    assert request(FakeService(), "GET", "/metrics").text.startswith("shoplens_requests_total")


def test_description_names_photo_parameters_and_problems():
    operation = request(FakeService(), "GET", "/openapi.json").json()["paths"]["/v1/search"]["post"]
    assert "photo" in operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {parameter["name"] for parameter in operation["parameters"]} == {
        "token", "url", "cursor", "top_k", "objects", "box", "box_source", "category", "price_min", "price_max",
        "currency", "language",
        "in_stock", "attr.NAME", "group_by", "sort", "facets", "min_score", "min_match", "consistency",
    }  # fmt: skip
    assert "image" in operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"200", "400", "410", "413", "415", "422", "429", "502", "503", "504"} <= set(operation["responses"])


@pytest.mark.parametrize("name", list(REQUESTS))
def test_example_of_a_request_is_taken(name):
    assert request(FakeService(), "POST", "/v1/search", json=REQUESTS[name]["value"]).is_success


def test_example_of_an_answer_is_one():
    assert SearchAnswer.model_validate(EXAMPLE).model_dump(mode="json") == EXAMPLE
    described = request(FakeService(), "GET", "/openapi.json").json()["paths"]["/v1/search"]["post"]
    assert described["responses"]["200"]["content"]["application/json"]["example"] == EXAMPLE
    assert described["requestBody"]["content"]["application/json"]["examples"] == REQUESTS


def test_every_code_of_what_an_answer_lacks_is_described():
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [code for code in DEGRADED if f"`{code}` (" not in readme] == []


COUNTED = replace(
    PRICED,
    lists=(
        replace(PRICED.lists[0], fixed=Fixed(PRICED.lists[0].products, True, np.zeros((1, 256), np.float32))),
        PRICED.lists[1],
    ),
)


def test_products_are_counted_where_that_is_asked_for():
    service = FakeService(COUNTED)
    body = search(service, "?facets=price&facets=attr.size&top_k=3").json()
    assert service.searches[0][1] == Query(top_k=3, facets=("price", "attr.size"))
    assert body["objects"][0]["facets"] == {
        "products": 1,
        "whole": True,
        "category": None,
        "price": {"currency": "EUR", "ranges": [{"price_min": "19.90", "price_max": "19.90", "count": 1}]},
        "attributes": {"size": []},
    }
    assert body["objects"][1]["facets"] is None
    assert search(FakeService(COUNTED)).json()["objects"][0]["facets"] is None


def test_one_facet_may_stand_alone_in_json():
    service = FakeService(COUNTED)
    assert request(service, "POST", "/v1/search", json={"token": "t-1", "facets": "category"}).is_success
    assert service.searches[0][1].facets == ("category",)


@pytest.mark.parametrize("query", ["facets=", "facets=colour", "facets=attr.", "&".join(["facets=price"] * 11)])
def test_facet_that_is_none_is_refused(query):
    assert code(search(FakeService(), f"?{query}")) == (422, "bad_parameter")


def test_rule_that_moved_a_product_is_named():
    service = FakeService()
    service.in_force = Rules((Rule("autumn", Action.BOOST, frozenset({"p1"})),))
    assert search(service).json()["objects"][0]["products"][0]["rule"] == "autumn"


def test_chances_are_told_where_there_are_any():
    (chair, whole), hits = ANSWER.lists, (hit("p1", 0.7), hit("p2", 0.5))
    chances = Chances.of(curve(), 0.25, hits)
    listed = replace(chair, products=hits, chances=chances)
    body = search(FakeService(replace(ANSWER, lists=(listed, replace(whole, products=hits))))).json()
    told = [[product["match"] for product in entry["products"]] for entry in body["objects"]]
    assert told == [chances.matches(hits), [None, None]]


def test_lowest_chance_is_asked_for():
    service = FakeService()
    assert search(service, "?min_match=0.5").is_success
    assert service.searches == [(b"photo", Query(min_match=0.5))]


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "", "high"])
def test_lowest_chance_that_is_none_is_refused(text):
    assert code(search(FakeService(), f"?min_match={text}")) == (422, "bad_parameter")


@pytest.mark.parametrize("form", ["query", "json"])
def test_lowest_chance_of_a_model_without_a_curve_is_refused_with_what_to_do(form):
    service = FakeService()
    service.tells_matches = False
    body = {"image": "cGhvdG8=", "min_match": 0.5}
    found = search(service, "?min_match=0.5") if form == "query" else request(service, "POST", "/v1/search", json=body)
    assert code(found) == (422, "bad_parameter")
    assert "embedder.calibration" in found.json()["detail"]
    assert service.searches == []
    assert search(service).is_success
