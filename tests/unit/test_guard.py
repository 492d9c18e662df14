"""Keys, quotas, origins and compression over HTTP."""

import asyncio
import json
import logging
from dataclasses import replace

import httpx
import pytest
from fastapi import APIRouter

from serve_app.api.app import create_app
from serve_app.api.audit import Write, audited
from serve_app.api.keys import Guard
from serve_app.config import AuthConfig
from serve_app.errors import MilvusUnavailable
from serve_app.keys import Role, new_key
from serve_app.pipeline import ProductList
from tests.unit.builders import hit
from tests.unit.test_api import ANSWER, CHAIR, FakeService, code

SEARCHING, SEARCHER = new_key("app", Role.SEARCH, per_minute=3)
WRITING, WRITER = new_key("feed", Role.WRITE)
KEYS = AuthConfig(keys=f"{SEARCHER.line}\n{WRITER.line}")
PAGE = "https://shop.example.com"
PUBLIC = AuthConfig(public=True, origins=(PAGE,), requests_per_minute_per_address=2)


def send(service: FakeService, *requests: httpx.Request, app=None) -> list[httpx.Response]:
    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app or create_app(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport) as client:
            return [await client.send(request) for request in requests]

    return asyncio.run(all_of_them())


def search(query: str = "", *, key: str = "", body: object = None, **headers: str) -> httpx.Request:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    content = {"json": body} if body is not None else {"files": {"photo": b"photo"}}
    return httpx.Request("POST", f"http://search.example.com/v1/search{query}", headers=headers, **content)


def test_search_needs_a_key_where_there_are_keys():
    (response,) = send(FakeService(auth=KEYS), search())
    assert code(response) == (401, "key_required")
    assert response.headers["www-authenticate"] == "Bearer"


def test_unknown_key_is_refused():
    (response,) = send(FakeService(auth=KEYS), search(key="shoplens_other"))
    assert code(response) == (401, "key_unknown")
    assert "shoplens_other" not in response.text


def test_photos_tokens_and_cursors_are_the_keys():
    service = FakeService(auth=KEYS)
    requests = [
        search(key=SEARCHING),
        search("?token=t-1", key=SEARCHING, body={}),
        search("?cursor=c", key=SEARCHING, body={}),
    ]
    assert all(response.is_success for response in send(service, *requests))
    assert service.owners == [SEARCHER.owner] * 3


def test_log_says_who_searched_but_not_with_which_key(caplog):
    caplog.set_level(logging.INFO)
    send(FakeService(auth=KEYS), search(key=SEARCHING))
    (record,) = [record for record in caplog.records if record.message == "search"]
    assert record.caller == "app"
    assert SEARCHING not in json.dumps(record.__dict__, default=str)


def test_refusal_comes_before_the_body_is_read():
    read = []

    async def body():
        read.append(1)
        yield b"x" * 10_000

    request = httpx.Request("POST", "http://a/v1/search", content=body(), headers={"Content-Type": "image/png"})
    (response,) = send(FakeService(auth=KEYS), request)
    assert (code(response), read) == ((401, "key_required"), [])


def test_quota_is_told_with_every_answer_and_refuses_with_the_time_to_come_back():
    responses = send(FakeService(auth=KEYS), *[search("?top_k=0" if at == 1 else "", key=SEARCHING) for at in range(4)])
    assert [response.status_code for response in responses] == [200, 422, 200, 429]
    assert {response.headers["ratelimit-policy"] for response in responses} == {'"key";q=3;w=60'}
    assert [response.headers["ratelimit"] for response in responses] == [
        f'"key";r={left};t={full}' for left, full in ((2, 20), (1, 40), (0, 60), (0, 60))
    ]
    assert code(responses[3]) == (429, "quota_exceeded")
    assert responses[3].headers["retry-after"] == "20"
    assert responses[3].json()["retry_after_ms"] == 20_000


@pytest.mark.parametrize("path", ["/v1/search", "/v1/search:batch"])
def test_each_of_several_photos_counts(path):
    together = {"images": ["cGhvdG8=", "YW5vdGhlcg=="]}
    body = together if path == "/v1/search" else {"searches": [together]}
    headers = {"Authorization": f"Bearer {SEARCHING}"}
    asked = [httpx.Request("POST", f"http://a{path}", json=body, headers=headers)] * 2
    responses = send(FakeService(auth=KEYS), *asked)
    assert [response.headers["ratelimit"] for response in responses] == ['"key";r=1;t=40', '"key";r=0;t=60']
    assert code(responses[1]) == (429, "quota_exceeded")


def test_quota_of_one_key_is_not_anothers():
    responses = send(FakeService(auth=KEYS), *[search(key=SEARCHING)] * 4, search(key=WRITING))
    assert [response.status_code for response in responses[3:]] == [429, 200]
    assert responses[4].headers["ratelimit"].startswith('"key";r=599;')


def test_who_is_not_counted_is_told_no_limit():
    (response,) = send(FakeService(auth=AuthConfig(anonymous_search=True)), search())
    assert response.is_success
    assert "ratelimit" not in response.headers


def test_health_and_description_need_no_key_and_metrics_the_operators():
    paths = ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/metrics")
    requests = [httpx.Request("GET", f"http://a{path}") for path in paths]
    responses = send(FakeService(auth=KEYS), *requests)
    assert [response.status_code for response in responses] == [200, 200, 200, 200, 401]


def test_page_searches_by_upload_and_own_token_within_its_addresss_quota():
    service = FakeService(auth=PUBLIC)
    responses = send(service, search(Origin=PAGE), search("?token=t-1", body={}, Origin=PAGE), search(Origin=PAGE))
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[2].headers["ratelimit-policy"] == '"address";q=2;w=60'
    assert len(set(service.owners)) == 1
    assert service.owners[0].startswith("address:")


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example.com"}])
def test_other_pages_are_refused(headers):
    (response,) = send(FakeService(auth=PUBLIC), search(**headers))
    assert code(response) == (403, "origin_refused")


@pytest.mark.parametrize(("query", "body"), [("?url=http://a/b.jpg", None), ("", {"url": "http://a/b.jpg"})])
def test_page_may_not_let_the_service_fetch(query, body):
    (response,) = send(FakeService(auth=PUBLIC), search(query, body=body, Origin=PAGE))
    assert code(response) == (403, "forbidden")


def test_pages_of_allowed_origins_may_read_answers_and_refusals():
    preflight = httpx.Request(
        "OPTIONS",
        "http://a/v1/search",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    asked, answered, refused = send(
        FakeService(auth=PUBLIC), preflight, search(Origin=PAGE), search("?x=1", Origin=PAGE)
    )
    assert asked.is_success
    assert "Authorization" in asked.headers["access-control-allow-headers"]
    for response in (asked, answered, refused):
        assert response.headers["access-control-allow-origin"] == PAGE
    assert "RateLimit" in answered.headers["access-control-expose-headers"]


def test_no_page_of_another_origin_may_read_where_none_is_named():
    requests = [search(Origin=PAGE), httpx.Request("OPTIONS", "http://a/v1/search", headers={"Origin": PAGE})]
    for response in send(FakeService(), *requests):
        assert "access-control-allow-origin" not in response.headers


def test_large_answers_are_compressed_for_who_takes_that():
    long = replace(ANSWER, lists=(ProductList(CHAIR, tuple(hit(f"p{at}", 0.5) for at in range(100))),))
    packed, plain = send(
        FakeService(long), search(**{"Accept-Encoding": "gzip"}), search(**{"Accept-Encoding": "identity"})
    )
    assert (packed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert int(packed.headers["content-length"]) * 3 < len(plain.content)
    assert packed.json()["objects"] == plain.json()["objects"]
    assert {part.strip() for part in packed.headers["vary"].split(",")} == {"Accept-Language", "Accept-Encoding"}


def test_description_names_the_key_and_its_problems():
    (response,) = send(FakeService(), httpx.Request("GET", "http://a/openapi.json"))
    described = response.json()
    operation = described["paths"]["/v1/search"]["post"]
    assert operation["security"] == [{"key": []}]
    assert described["components"]["securitySchemes"]["key"] == {
        "type": "http",
        "scheme": "bearer",
        "description": "an API key; what needs one depends on the settings",
    }
    assert {"401", "403", "429"} <= set(operation["responses"])
    assert "security" not in described["paths"]["/v2/health/live"]["get"]


def writing(service: FakeService, outcome: Exception | None = None):
    """Return the app with a route that writes."""
    app, guard, routes = create_app(service), Guard(service.access, service.quotas), APIRouter()
    writes = audited(guard, "upsert")
    again = guard.needs(Role.WRITE)

    @routes.put("/v1/things")
    async def put(write: Write = writes, _caller=again) -> dict[str, int]:
        if outcome:
            raise outcome
        write.note("7", "stored")
        write.note("8", "not_an_image", failed=True)
        return {"written": 1}

    app.include_router(routes)
    return app


def put(key: str = "", **headers: str) -> httpx.Request:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return httpx.Request("PUT", "http://search.example.com/v1/things", headers=headers)


def lines(caplog) -> list[dict]:
    names = ("caller", "role", "action", "products", "count", "failed", "code")
    records = [record for record in caplog.records if record.name == "serve_app.api.audit"]
    return [{name: getattr(record, name) for name in names} for record in records]


def test_every_write_leaves_a_line_that_says_who_wrote_what(caplog):
    caplog.set_level(logging.INFO)
    service = FakeService(auth=KEYS)
    (response,) = send(service, put(WRITING, **{"X-Request-ID": "r-1"}), app=writing(service))
    assert response.json() == {"written": 1}
    assert response.headers["ratelimit"].startswith('"key";r=599;')
    results = [{"product_id": "7", "outcome": "stored"}, {"product_id": "8", "outcome": "not_an_image"}]
    told = {"caller": "feed", "role": "write", "action": "upsert", "code": "ok"}
    assert lines(caplog) == [told | {"products": results, "count": 2, "failed": 1}]
    (record,) = [record for record in caplog.records if record.name == "serve_app.api.audit"]
    assert record.request_id == "r-1"
    assert WRITING not in json.dumps(record.__dict__, default=str)


@pytest.mark.parametrize(
    ("outcome", "told"), [(MilvusUnavailable("gone"), "milvus_unavailable"), (RuntimeError("oops"), "internal")]
)
def test_write_that_failed_leaves_a_line_with_its_code(caplog, outcome, told):
    caplog.set_level(logging.INFO)
    service = FakeService(auth=KEYS)
    (response,) = send(service, put(WRITING), app=writing(service, outcome))
    assert response.json()["code"] == told
    assert [line["code"] for line in lines(caplog)] == [told]


@pytest.mark.parametrize(
    ("auth", "key", "expected"),
    [
        (KEYS, "", (401, "key_required")),
        (KEYS, SEARCHING, (403, "forbidden")),
        (AuthConfig(anonymous_search=True), "", (403, "forbidden")),
        (PUBLIC, "", (403, "forbidden")),
    ],
)
def test_who_may_not_write_does_not(auth, key, expected, caplog):
    caplog.set_level(logging.INFO)
    service = FakeService(auth=auth)
    (response,) = send(service, put(key, Origin=PAGE), app=writing(service))
    assert code(response) == expected
    assert lines(caplog) == []


def test_a_laptop_without_keys_takes_writes_of_its_own_machine():
    service = FakeService()
    request = httpx.Request("PUT", "http://127.0.0.1:8000/v1/things")
    assert [response.status_code for response in send(service, request, put(), app=writing(service))] == [200, 403]
