"""Changes of products over HTTP, to a service that remembers them."""

import base64

import pytest

from serve_app.api.change_wire import MOST_IMAGES, MOST_ITEMS, BatchAnswer, ChangeAnswer
from serve_app.api.examples import BATCH, BATCHES, CHANGED, PRODUCTS
from serve_app.changes import Changed, GivenImage, Put, Refusal, Removal, Result
from serve_app.config import AuthConfig
from serve_app.errors import MilvusUnavailable, Overloaded
from serve_app.keeping import Bounds, ShelfStore
from serve_app.repeats import Repeats
from tests.unit.test_api import FakeService, code, request

FRONT = {"url": "https://shop/front.jpg"}
AWAY = Refusal.of(MilvusUnavailable("Milvus can't be reached"))


class WritingService(FakeService):
    max_body_bytes = 10_000

    def __init__(self, auth=None, **refusals):
        super().__init__(auth=auth)
        self.refusals = refusals
        self.written = []
        self.times = []
        self.error = None
        self.repeats = Repeats(ShelfStore(Bounds(10**6, 10**6, 900)), 1)

    async def write(self, changes, at_ms):
        if self.error:
            raise self.error
        self.written += changes
        self.times.append(at_ms)
        return [self._changed(change, change.at_ms or at_ms) for change in changes]

    def _changed(self, change, at_ms):
        refusal = self.refusals.get(change.product_id)
        return Changed(change.product_id, at_ms, None if refusal else Result.STORED, refusal)

    async def begin(self, owner, key, body, now_ms):
        return await self.repeats.begin(owner, key, body, now_ms)

    async def end(self, owner, key, answer):
        await self.repeats.end(owner, key, answer)


def put(service, path="7", headers=None, **body):
    return request(service, "PUT", f"/v1/products/{path}", json={"images": [FRONT]} | body, headers=headers)


def batch(service, *items, headers=None):
    return request(service, "POST", "/v1/products:batch", json={"items": list(items)}, headers=headers)


def test_product_is_put_with_all_that_it_says():
    service = WritingService()
    file = base64.b64encode(b"file").decode()
    response = put(
        service,
        "a%2Fb",
        images=[FRONT, {"image": file, "image_id": "mine"}],
        parent_id="chairs",
        title={"en": "Chair", "und": "C"},
        category="Living/Chairs",
        price={"amount": "19.90", "currency": "EUR"},
        in_stock=False,
        attributes={"legs": 4, "colours": ["oak", "red"], "new": True},
        at="2026-11-23T10:00:00.5Z",
    )
    assert service.written == [
        Put(
            "a/b",
            (GivenImage(url="https://shop/front.jpg"), GivenImage(data=b"file", image_id="mine")),
            "chairs",
            {"en": "Chair", "und": "C"},
            "Living/Chairs",
            ("19.90", "EUR"),
            False,
            {"legs": 4, "colours": ["oak", "red"], "new": True},
            1_795_428_000_500,
        )
    ]
    assert response.json() == {
        "request_id": response.headers["x-request-id"],
        "product_id": "a/b",
        "status": "stored",
        "at": "2026-11-23T10:00:00.500Z",
    }


def test_product_is_removed():
    service = WritingService()
    assert request(service, "DELETE", "/v1/products/7").is_success
    assert request(service, "DELETE", "/v1/products/7?at=2026-11-23T10:00:00Z").is_success
    assert service.written == [Removal("7"), Removal("7", 1_795_428_000_000)]


def test_refusal_is_a_problem():
    refusal = Refusal.of_code("not_found", "the image is not there")
    response = put(WritingService(**{"7": refusal}))
    assert code(response) == (422, "not_found")
    response = put(WritingService(**{"7": AWAY}))
    assert (code(response), response.headers["retry-after"]) == ((503, "milvus_unavailable"), "1")


def test_too_much_at_once_is_refused():
    service = WritingService()
    service.error = Overloaded("full")
    assert code(put(service)) == (429, "overloaded")


@pytest.mark.parametrize(
    "body",
    [
        {"images": []},
        {"images": [FRONT] * (MOST_IMAGES + 1)},
        {"images": [{}]},
        {"images": [{"url": "https://shop/1.jpg", "image": "aGk="}]},
        {"images": [{"url": "file:///etc/passwd"}]},
        {"images": [{"url": "s3://bucket/1.jpg"}]},
        {"images": [{"url": "front.jpg"}]},
        {"images": [{"image": "no base64!"}]},
        {"images": [{"image": ""}]},
        {"images": [{"image": 5}]},
        {"images": [FRONT | {"image_id": "é" * 100}]},
        {"images": [FRONT | {"path": "x"}]},
        {"images": "front.jpg"},
        {"product_id": "8"},
        {"title": "Chair"},
        {"title": {"english!": "Chair"}},
        {"price": {"amount": "19.90"}},
        {"price": {"amount": "-1", "currency": "EUR"}},
        {"price": {"amount": "1e99999999", "currency": "EUR"}},
        {"price": {"amount": "NaN", "currency": "EUR"}},
        {"price": "19.90 EUR"},
        {"in_stock": "perhaps"},
        {"attributes": {"a": {"b": 1}}},
        {"attributes": {"a": None}},
        {"at": "2026-11-23T10:00:00"},
        {"at": "yesterday"},
        {"colour": "red"},
        {"parent_id": 5},
    ],
    ids=str,
)
def test_product_that_can_be_none_is_refused(body):
    service = WritingService()
    assert code(put(service, **body)) == (422, "bad_parameter")
    assert service.written == []


@pytest.mark.parametrize("path", ["%20a", "a%00", "x" * 257, "%C3%A9" * 129])
def test_id_that_no_product_has_is_refused(path):
    service = WritingService()
    assert code(put(service, path)) == (422, "bad_parameter")
    assert code(request(service, "DELETE", f"/v1/products/{path}")) == (422, "bad_parameter")


def test_time_of_a_removal_that_is_none_is_refused():
    assert code(request(WritingService(), "DELETE", "/v1/products/7?at=noon")) == (422, "bad_parameter")


def test_body_that_is_no_json_is_refused():
    def sent(content, kind="application/json"):
        headers = {"content-type": kind}
        return code(request(WritingService(), "PUT", "/v1/products/7", content=content, headers=headers))

    assert sent(b"") == (400, "empty_body")
    assert sent(b"{") == (422, "bad_parameter")
    assert sent(b"[1]") == (422, "bad_parameter")
    assert sent(b"[" * 20_000) == (422, "bad_parameter")
    assert sent(b"{}", "text/plain") == (415, "unsupported_type")
    assert sent(b'"' + b"x" * 40_000 + b'"') == (413, "photo_too_large")


def test_batch_answers_each_item_in_its_place():
    service = WritingService(bad=Refusal.of_code("truncated", "the image is cut"))
    response = batch(
        service,
        {"product_id": "7", "images": [FRONT]},
        {"event": "delete", "product_id": "8", "at": "2026-11-23T10:00:00Z"},
        {"event": "upsert", "product_id": "bad", "images": [FRONT]},
        {"product_id": "9"},
        {"event": "drop", "product_id": "9"},
        "delete 9",
    )
    assert response.status_code == 200
    items = response.json()["items"]
    assert [item["status"] for item in items] == ["stored", "stored", None, None, None, None]
    assert [item["problem"] and item["problem"]["code"] for item in items] == [
        None, None, "truncated", "bad_parameter", "bad_parameter", "bad_parameter",
    ]  # fmt: skip
    assert [item["product_id"] for item in items] == ["7", "8", "bad", "9", "9", None]
    assert items[1]["at"] == "2026-11-23T10:00:00.000Z"
    assert items[2]["problem"]["request_id"] == response.headers["x-request-id"]
    assert [change.product_id for change in service.written] == ["7", "8", "bad"]


@pytest.mark.parametrize(
    "body",
    [{}, [], {"items": []}, {"items": {}}, {"items": [{}] * (MOST_ITEMS + 1)}, {"items": [{}], "dry_run": True}],
    ids=lambda body: str(body)[:30],
)
def test_batch_that_is_none_is_refused(body):
    assert code(request(WritingService(), "POST", "/v1/products:batch", json=body)) == (422, "bad_parameter")


def test_request_that_comes_again_with_its_key_takes_effect_once():
    service, key = WritingService(), {"Idempotency-Key": "k-1"}
    first, again = put(service, headers=key), put(service, headers=key)
    assert (again.json(), again.status_code) == (first.json(), 200)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(service.written) == 1
    assert put(service).json() != first.json()


def test_refusal_of_what_can_not_be_is_kept_for_its_key_too():
    service, key = WritingService(**{"7": Refusal.of_code("truncated", "cut")}), {"Idempotency-Key": "k-1"}
    assert code(put(service, headers=key)) == (422, "truncated")
    again = put(service, headers=key)
    assert (again.status_code, again.headers["content-type"]) == (422, "application/problem+json")
    assert len(service.written) == 1


def test_request_that_failed_is_tried_again_as_of_its_first_time():
    service, key = WritingService(**{"7": AWAY}), {"Idempotency-Key": "k-1"}
    assert put(service, headers=key).status_code == 503
    service.refusals.clear()
    assert put(service, headers=key).json()["status"] == "stored"
    assert len(service.written) == 2
    assert service.times[0] == service.times[1]


def test_batch_with_an_item_that_may_pass_is_tried_again():
    service, key = WritingService(**{"8": AWAY}), {"Idempotency-Key": "k-1"}
    items = [{"event": "delete", "product_id": "7"}, {"event": "delete", "product_id": "8"}]
    batch(service, *items, headers=key)
    batch(service, *items, headers=key)
    assert len(service.written) == 4


def test_key_of_another_request_is_refused():
    service, key = WritingService(), {"Idempotency-Key": "k-1"}
    put(service, headers=key)
    assert code(put(service, headers=key, in_stock=False)) == (422, "bad_parameter")
    assert code(put(service, "8", headers=key)) == (422, "bad_parameter")
    assert code(request(service, "DELETE", "/v1/products/7", headers=key)) == (422, "bad_parameter")


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_key_that_can_be_none_is_refused(key):
    assert code(put(WritingService(), headers={"Idempotency-Key": key})) == (422, "bad_parameter")


def test_nobody_writes_where_writing_is_closed():
    service = WritingService(AuthConfig(anonymous_search=True))
    assert code(put(service)) == (403, "forbidden")
    assert code(request(service, "DELETE", "/v1/products/7")) == (403, "forbidden")
    assert code(batch(service, {"event": "delete", "product_id": "7"})) == (403, "forbidden")
    assert service.written == []


@pytest.mark.parametrize("name", list(PRODUCTS))
def test_example_of_a_product_is_taken(name):
    service = WritingService()
    service.max_body_bytes = 10**6
    assert request(service, "PUT", "/v1/products/208", json=PRODUCTS[name]["value"]).is_success


@pytest.mark.parametrize("name", list(BATCHES))
def test_example_of_a_batch_is_taken(name):
    service = WritingService()
    response = request(service, "POST", "/v1/products:batch", json=BATCHES[name]["value"])
    assert [item["problem"] for item in response.json()["items"]] == [None, None]


def test_everything_that_the_description_refers_to_is_there():
    document = request(FakeService(), "GET", "/openapi.json").json()

    def references(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "$ref":
                yield value
            elif isinstance(value, dict | list):
                yield from references(value)

    found = set(references(document))
    assert "#/components/schemas/ImageBody" in found
    assert found <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def test_examples_of_answers_are_some():
    assert ChangeAnswer.model_validate(CHANGED).model_dump(mode="json") == CHANGED
    assert BatchAnswer.model_validate(BATCH).model_dump(mode="json") == BATCH
    paths = request(FakeService(), "GET", "/openapi.json").json()["paths"]
    described = paths["/v1/products/{product_id}"]["put"]
    assert described["requestBody"]["content"]["application/json"]["examples"] == PRODUCTS
    assert {"Idempotency-Key", "product_id"} == {each["name"] for each in described["parameters"]}
    assert {"400", "403", "413", "415", "422", "429", "503", "504"} <= set(described["responses"])
    batch_of = paths["/v1/products:batch"]["post"]
    assert batch_of["responses"]["200"]["content"]["application/json"]["example"] == BATCH
    assert {"Idempotency-Key", "product_id", "at"} == {
        each["name"] for each in paths["/v1/products/{product_id}"]["delete"]["parameters"]
    }
