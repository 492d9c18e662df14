"""Both clients against canned answers, and against the HTTP interface itself."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

from serve_app import client as package
from serve_app.api import change_wire, examples, problems, product_wire, wire
from serve_app.api.app import create_app
from serve_app.api.feedback import read_feedback
from serve_app.client import (
    Answer,
    AsyncClient,
    Change,
    Client,
    Feedback,
    ImageToStore,
    Money,
    NoAnswer,
    Problem,
    ProductAnswer,
    ProductToDelete,
    ProductToStore,
    Retries,
    Similar,
    Told,
)
from serve_app.client.attempts import Attempts
from serve_app.client.calls import Searched
from serve_app.config import AuthConfig
from serve_app.domain import Box, Source
from serve_app.errors import Overloaded
from serve_app.feedback import records as shown
from serve_app.filters import Filter
from serve_app.keys import Role, new_key
from serve_app.money import PriceRange
from serve_app.objects import Focus
from serve_app.pipeline import Query
from serve_app.ranking import Sort
from tests.unit.test_api import ANSWER, RATES, FakeService
from tests.unit.test_writing_api import WritingService

URL = "https://search.example.com"
QUICK = Retries(longest_wait_s=0.001)
Handler = Callable[[httpx.Request], httpx.Response]
CHANGE = {"request_id": "r", "product_id": "7", "status": "stored", "at": "2026-11-24T10:00:00.000Z"}


class Waiting:
    """The client that waits, called as the other one is."""

    def __init__(self, *arguments, **named) -> None:
        self._client = Client(*arguments, **named)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._client.close()

    def __getattr__(self, name):
        async def call(*arguments, **named):
            return getattr(self._client, name)(*arguments, **named)

        return call


@pytest.fixture(params=[Waiting, AsyncClient])
def ask(request):
    """Return what makes a client of either kind talk to a handler, or to several answers in turn."""

    def made(*outcomes: Handler | httpx.Response | Exception, key=None, retries=QUICK):
        seen: list[httpx.Request] = []

        def handle(given: httpx.Request) -> httpx.Response:
            seen.append(given)
            outcome = outcomes[min(len(seen), len(outcomes)) - 1]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome if isinstance(outcome, httpx.Response) else outcome(given)

        client = request.param(URL, key, retries=retries, transport=httpx.MockTransport(handle))
        return client, seen

    return made


def answered(body: object = examples.ANSWER) -> httpx.Response:
    return httpx.Response(200, json=body)


def refused(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"type": "t", "title": "t", "status": status, "detail": "no", "code": code, "request_id": "r"}
    return httpx.Response(status, json=body, headers=headers)


async def test_answer_is_read_with_its_types(ask):
    client, _ = ask(answered())
    answer = await client.search(b"photo")
    (found,) = answer.objects
    (product,) = found.products
    assert (found.label, found.box, found.main) == ("chair", (0.12, 0.2, 0.61, 0.93), True)
    assert (product.product_id, product.price.amount, product.price.original) == (
        "208",
        Decimal("22.49"),
        Money(amount=Decimal("19.90"), currency="EUR"),
    )
    assert answer.index.watermark == datetime(2026, 11, 23, 13, 48, 2, 113_000, UTC)


async def test_what_a_newer_service_adds_is_no_error(ask):
    client, _ = ask(answered({**examples.ANSWER, "facets": []}))
    assert (await client.search(b"photo")).model == "68b4adf81e49"


async def test_key_is_sent_and_none_where_there_is_none(ask):
    for key, sent in (("k-1", "Bearer k-1"), (None, None)):
        client, seen = ask(answered(), key=key)
        await client.search(b"photo")
        assert seen[0].headers.get("Authorization") == sent


async def test_further_products_of_a_list_are_read_page_by_page():
    last = json.loads(json.dumps(examples.ANSWER))
    last["objects"][0]["next"] = None
    answers = [answered(), answered(), answered(last)]
    with Client(URL, transport=httpx.MockTransport(lambda _: answers.pop(0))) as client:
        found = client.search(b"photo").objects[0]
        assert [each.product_id for each in client.further(found, top_k=1)] == ["208", "208"]
    answers = [answered(), answered(last)]
    async with AsyncClient(URL, transport=httpx.MockTransport(lambda _: answers.pop(0))) as other:
        assert [each.product_id async for each in other.further(found)] == ["208", "208"]


async def test_search_takes_a_photo_or_a_token_or_a_url(ask):
    client, seen = ask(answered())
    given = [((), {}), ((b"photo",), {"token": "t"}), ((b"photo",), {"url": "u"}), ((), {"token": "t", "url": "u"})]
    for arguments, named in given:
        with pytest.raises(ValueError, match="or the url"):
            await client.search(*arguments, **named)
    assert seen == []


async def test_url_of_a_photo_stands_in_no_query(ask):
    client, seen = ask(answered())
    await client.search(url="https://a/b.jpg?signature=c", top_k=3)
    assert (seen[0].url.query, json.loads(seen[0].content)) == (b"top_k=3", {"url": "https://a/b.jpg?signature=c"})


async def test_photos_of_one_thing_go_together(ask):
    client, seen = ask(answered())
    await client.search([b"front", b"back"], top_k=3)
    images = [base64.b64decode(each) for each in json.loads(seen[0].content)["images"]]
    assert (seen[0].url.query, images) == (b"top_k=3", [b"front", b"back"])


async def test_busy_service_is_asked_again_when_it_says(ask):
    client, seen = ask(refused(429, "overloaded", **{"Retry-After": "0"}), refused(503, "index_missing"), answered())
    await client.search(b"photo")
    assert [each.content for each in seen] == [b"photo"] * 3


async def test_service_that_stays_busy_is_given_up(ask):
    client, seen = ask(refused(503, "milvus_unavailable", **{"Retry-After": "0"}))
    with pytest.raises(Problem) as problem:
        await client.search(b"photo")
    assert (problem.value.told.code, len(seen)) == ("milvus_unavailable", QUICK.attempts)


async def test_wait_that_is_too_long_is_the_callers_to_make(ask):
    client, seen = ask(refused(429, "quota_exceeded", **{"Retry-After": "30"}))
    with pytest.raises(Problem, match="quota_exceeded"):
        await client.search(b"photo")
    assert len(seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 500, 504])
async def test_other_problems_are_told_at_once(ask, status):
    client, seen = ask(refused(status, "some_code"))
    with pytest.raises(Problem) as problem:
        await client.search(b"photo")
    assert (problem.value.told.status, problem.value.told.detail, len(seen)) == (status, "no", 1)


async def test_words_of_a_proxy_are_told_as_such(ask):
    client, _ = ask(httpx.Response(502, text="Bad Gateway"))
    with pytest.raises(Problem) as problem:
        await client.search(b"photo")
    assert problem.value.told == Told(status=502, code="not_ours", detail="Bad Gateway")


async def test_broken_connection_is_tried_once_more(ask):
    client, seen = ask(httpx.RemoteProtocolError("broke"), answered())
    assert await client.search(b"photo")
    client, seen = ask(httpx.ConnectError("refused"))
    with pytest.raises(NoAnswer, match="ConnectError"):
        await client.search(b"photo")
    assert len(seen) == 2


async def test_slow_answer_is_not_asked_for_again(ask):
    client, seen = ask(httpx.ReadTimeout("slow"))
    with pytest.raises(NoAnswer):
        await client.search(b"photo")
    assert len(seen) == 1


async def test_answer_of_something_else_is_none(ask):
    client, _ = ask(httpx.Response(200, text="<html>"))
    with pytest.raises(NoAnswer, match="no answer of Shoplens"):
        await client.search(b"photo")


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("3", 3, 3),
        (timedelta(seconds=600), 500, 600),
        (timedelta(seconds=-60), 0, 0),
        ("soon", 0.25, 0.5),
        ("-1", 0.25, 0.5),
        ("", 0.25, 0.5),
    ],
)
def test_service_says_when_to_come_back_or_a_little_time_passes(retry_after, least, most):
    if isinstance(retry_after, timedelta):
        retry_after = format_datetime(datetime.now(UTC) + retry_after, usegmt=True)
    attempts = Attempts(Retries(longest_wait_s=1000))
    assert least <= attempts.wait_s(refused(503, "stage_unavailable", **{"Retry-After": retry_after})) <= most


async def test_writes_are_sent_as_the_service_takes_them(ask):
    client, seen = ask(answered(CHANGE))
    at = datetime(2026, 11, 24, 10, tzinfo=UTC)
    product = ProductToStore(
        product_id="shoes/7 ü",
        images=[ImageToStore(url="https://a/1.jpg"), ImageToStore(image=b"\xff\xd8" * 60)],
        price=Money(amount=Decimal("19.90"), currency="EUR"),
        attributes={"size": [41, 42], "new": True},
        at=at,
    )
    assert (await client.put(product)).status == "stored"
    await client.delete("shoes/7 ü", at=at, idempotency_key="mine")
    put, delete = seen
    assert (put.method, put.url.raw_path) == ("PUT", b"/v1/products/shoes%2F7%20%C3%BC")
    assert json.loads(put.content) == {
        "product_id": "shoes/7 ü",
        "images": [{"url": "https://a/1.jpg"}, {"image": base64.b64encode(b"\xff\xd8" * 60).decode()}],
        "price": {"amount": "19.90", "currency": "EUR"},
        "attributes": {"size": [41, 42], "new": True},
        "at": "2026-11-24T10:00:00Z",
    }
    assert len(put.headers["Idempotency-Key"]) == 32
    assert (delete.method, delete.headers["Idempotency-Key"]) == ("DELETE", "mine")
    assert delete.url.params["at"] == "2026-11-24T10:00:00+00:00"


async def test_write_that_is_sent_again_has_the_same_key(ask):
    client, seen = ask(httpx.ReadError("broke"), answered({"request_id": "r", "items": []}))
    await client.batch([ProductToDelete(product_id="8"), ProductToStore(product_id="7", images=[])])
    assert len({each.headers["Idempotency-Key"] for each in seen}) == 1
    assert [each.url.path for each in seen] == ["/v1/products:batch"] * 2
    assert json.loads(seen[1].content) == {
        "items": [{"event": "delete", "product_id": "8"}, {"event": "upsert", "product_id": "7", "images": []}]
    }


async def test_batch_tells_what_became_of_each(ask):
    problem = refused(422, "not_an_image").json()
    items = [{**CHANGE, "problem": None}, {"product_id": "8", "status": None, "at": None, "problem": problem}]
    client, _ = ask(answered({"request_id": "r", "items": items}))
    stored, failed = (await client.batch([])).items
    assert (stored.status, stored.problem) == ("stored", None)
    assert (failed.status, failed.problem.code) == (None, "not_an_image")


async def test_feedback_is_sent_as_the_service_reads_it(ask):
    client, seen = ask(answered({"request_id": "r", "crop": True}))
    given = Feedback(request_id="r-1", object_id="o0", event="buy", product_id="208", position=2, consent=True)
    assert (await client.feedback(given)).crop
    sent = read_feedback(json.loads(seen[0].content)).feedback()
    assert sent == shown.Feedback("r-1", "o0", shown.Act.BUY, "208", 2, consent=True)


async def test_similar_products_and_a_product_are_asked_for(ask):
    similar = {"request_id": "r", "product_id": "7", "model": "m", "index": examples.ANSWER["index"], "products": [],
               "next": None, "degraded": [], "timings_ms": {}}  # fmt: skip
    client, seen = ask(answered(similar))
    assert (await client.similar("7", top_k=3, in_stock=True)).products == []
    await client.similar_page("7", "c-1", language="de")
    assert [each.url.raw_path for each in seen] == [
        b"/v1/products/7/similar?top_k=3&in_stock=true",
        b"/v1/products/7/similar?cursor=c-1&language=de",
    ]
    stored = {"product_id": "7", "parent_id": None, "images": [{"image_id": "i", "url": None}], "title": {"en": "C"},
              "category": None, "price": None, "in_stock": True, "attributes": {"size": 42}}  # fmt: skip
    body = {"request_id": "r", "index": examples.ANSWER["index"], "updated_at": CHANGE["at"], "product": stored}
    client, _ = ask(answered(body))
    assert (await client.product("7")).product.attributes == {"size": 42}


def of_service(service: FakeService, key: str | None = None) -> AsyncClient:
    return AsyncClient("http://127.0.0.1:8000", key, transport=httpx.ASGITransport(create_app(service)), retries=QUICK)


async def test_every_parameter_is_taken_by_the_service():
    service = FakeService(rates=RATES)
    given: Searched = {
        "top_k": 3,
        "objects": "all",
        "boxes": [(0, 0, 0.5, 1), (0.25, 1e-05, 1, 1)],
        "box_source": "device",
        "category": ["Men/Tops", "Women"],
        "price_min": Decimal("1.50"),
        "price_max": "20",
        "currency": "EUR",
        "language": "de",
        "in_stock": False,
        "attributes": {"colour": ["red", "blue"], "new": True},
        "group_by": "parent",
        "sort": "price_asc",
        "facets": ["category", "attr.colour"],
        "min_score": 0.25,
        "min_match": 0.5,
        "consistency": "strong",
    }
    assert Searched.__optional_keys__ - given.keys() == {"token", "url"}
    async with of_service(service) as client:
        await client.search(b"photo", **given)
        await client.search(token="t-1", **given)
        await client.search(url="https://a/b.jpg?signature=c", **given)
        await client.page("c-1", top_k=5)
    (photo, query), (token, again), (url, third) = service.searches
    assert (photo, token, url) == (b"photo", "t-1", "https://a/b.jpg?signature=c")
    assert query == again == third
    assert service.pages == [("c-1", 5, None)]
    assert query.wanted.prices[0] == PriceRange("EUR", 150, 2000)
    assert query == Query(
        top_k=3,
        focus=Focus(10, boxes=(Box(0, 0, 0.5, 1), Box(0.25, 1e-05, 1, 1)), source=Source.DEVICE),
        min_score=0.25,
        min_match=0.5,
        wanted=Filter(
            categories=("Men/Tops", "Women"),
            prices=query.wanted.prices,
            in_stock=False,
            attributes=(("colour", ("red", "blue")), ("new", ("true", True))),
        ),
        strong=True,
        by_parent=True,
        sort=Sort.PRICE_ASC,
        currency="EUR",
        prices=PriceRange("EUR", 150, 2000),
        worths=query.worths,
        facets=query.facets,
    )


async def test_answer_and_problem_of_the_service_are_understood():
    text, key = new_key("app", Role.SEARCH, per_minute=1)
    service = FakeService(replace(ANSWER, token="t-1"), auth=AuthConfig(keys=key.line))
    async with of_service(service, text) as client:
        answer = await client.search(b"photo")
        assert (answer.photo.token, answer.objects[0].products[0].title) == ("t-1", "Oak chair")
        with pytest.raises(Problem) as problem:
            await client.search(b"photo")
    assert (problem.value.told.code, problem.value.told.retry_after_ms) == ("quota_exceeded", 60_000)
    async with of_service(FakeService(Overloaded("full"))) as client:
        with pytest.raises(Problem, match="429 overloaded: full"):
            await client.search(b"photo")


async def test_writes_are_taken_by_the_service():
    service = WritingService()
    service.max_body_bytes = 10**6
    product = ProductToStore(product_id="a/7", images=[ImageToStore(image=b"\xff\xd8 a file")], title={"en": "Chair"})
    async with of_service(service) as client:
        assert (await client.put(product)).status == "stored"
        assert (await client.delete("a/7")).status == "stored"
        both = await client.batch([product, ProductToDelete(product_id="8")])
    assert [each.status for each in both.items] == ["stored", "stored"]
    put, delete, *batch = service.written
    assert (put.product_id, delete.product_id, len(batch)) == ("a/7", "a/7", 2)
    assert (put.titles, put.images[0].data) == ({"en": "Chair"}, b"\xff\xd8 a file")


def fields(model: type[BaseModel]) -> dict[str, object]:
    """Return the names of a model's fields, with those of the models in them."""
    inside = {name: _model_in(each.annotation) for name, each in model.model_fields.items()}
    return {name: None if each is None else fields(each) for name, each in inside.items()}


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, getattr(annotation, "__args__", ()))), None)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Answer, wire.SearchAnswer),
        (Similar, product_wire.SimilarAnswer),
        (ProductAnswer, product_wire.ProductAnswer),
    ],
)
def test_client_knows_every_field_that_the_service_answers(ours, theirs):
    assert fields(ours) == fields(theirs)


def test_client_knows_every_field_of_writes():
    assert Change.model_fields.keys() == change_wire.ItemWire.model_fields.keys()
    assert ProductToStore.model_fields.keys() == change_wire.ProductBody.model_fields.keys()
    assert ImageToStore.model_fields.keys() == change_wire.ImageBody.model_fields.keys()
    assert ProductToDelete.model_fields.keys() == change_wire.DeleteItem.model_fields.keys() - {"event"}
    assert Told.model_fields.keys() == problems.Problem.model_fields.keys() - {"type", "title"}


def test_every_file_of_the_client_has_its_licence():
    folder = Path(package.__file__).parent
    files = sorted(folder.glob("*.py"))
    assert len(files) >= 5
    for file in files:
        assert "SPDX-License-Identifier: Apache-2.0" in file.read_text(encoding="utf-8"), file
    licence = (folder.parents[1] / "LICENSES" / "Apache-2.0.txt").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "TERMS AND CONDITIONS" in licence


def test_client_loads_httpx_and_pydantic_alone():
    code = (
        "import sys, httpx, pydantic; before = set(sys.modules); import serve_app.client;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name for name in loaded if not name.startswith(("pydantic", "annotated_types", "_"))} == {"serve_app"}


def test_key_is_not_shown():
    assert "hush" not in repr(Client(URL, "hush"))


def test_clients_have_the_same_calls():
    def calls(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert calls(Client) == calls(AsyncClient)


def test_one_client_is_used_by_many_tasks():
    async def all_of_them() -> list[Answer]:
        async with of_service(FakeService()) as client:
            return await asyncio.gather(*(client.search(b"photo") for _ in range(20)))

    assert len({answer.request_id for answer in asyncio.run(all_of_them())}) == 20
