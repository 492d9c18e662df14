"""The service behind the API, over HTTP: photos by URL from slow hosts, and photos that come again."""

import asyncio
import contextlib
import io
from dataclasses import replace

import httpx
import pytest
from aiohttp import web
from PIL import Image

from serve_app.api.app import create_app
from tests.unit.fronts import HereFront, front, settings
from tests.unit.test_fetching import LOCAL, serving, until

MOST = 3


def photo(colour: str = "teal") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), colour).save(file, "JPEG")
    return file.getvalue()


def client(made: HereFront) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(made), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60)


async def upload(http: httpx.AsyncClient, data: bytes, **parameters) -> httpx.Response:
    return await http.post("/v1/search", content=data, headers={"Content-Type": "image/jpeg"}, params=parameters)


@contextlib.asynccontextmanager
async def waiting_searches(tmp_path, number: int):
    """Have searches whose photos lie on a host that does not answer until the gate is open."""
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.Response(body=photo())

    fetch = {"search_hosts": ["127.0.0.1"], "allow_private": LOCAL, "max_searches": MOST}
    config = settings(tmp_path, fetch=fetch, ingress={"max_in_flight": 4}, limits={"deadline_s": 30})
    async with serving(slow) as server, front(config) as made, client(made) as http:
        searches = [asyncio.create_task(http.post("/v1/search", params={"url": server.url()})) for _ in range(number)]
        await until(lambda: len(server.requests) == MOST and sum(each.done() for each in searches) == number - MOST)
        yield http, searches, gate
        gate.set()
        await asyncio.gather(*searches)


async def test_slow_hosts_hold_so_many_searches_and_the_others_are_told_when_to_come_back(tmp_path):
    async with waiting_searches(tmp_path, 10) as (_, searches, gate):
        refused = [each.result() for each in searches if each.done()]
        assert {(each.status_code, each.json()["code"]) for each in refused} == {(429, "overloaded")}
        # Nothing has come yet, so all that is known is when the first one gives up: four fifths of its deadline.
        assert all(20 <= int(each.headers["Retry-After"]) <= 24 for each in refused)
        gate.set()
        answers = [await each for each in searches]
    assert sum(each.status_code == 200 for each in answers) == MOST


async def test_photo_that_is_sent_does_not_wait_for_slow_hosts(tmp_path):
    async with waiting_searches(tmp_path, MOST) as (http, searches, _):
        assert (await upload(http, photo())).status_code == 200
        assert not any(each.done() for each in searches)


async def test_place_is_free_again_when_a_photo_has_come(tmp_path):
    async with waiting_searches(tmp_path, MOST) as (http, searches, gate):
        gate.set()
        url = str((await searches[0]).request.url)
        assert (await http.post(url)).status_code == 200


CACHED = {"enabled": True}


async def test_photo_that_comes_again_needs_no_model_and_is_searched_in_the_index_of_now(tmp_path):
    async with front(settings(tmp_path, cache=CACHED)) as made, client(made) as http:
        first = (await upload(http, photo())).json()
        made.stages.rows[0] = replace(made.stages.rows[0], price=1990, currency="EUR")
        again = (await upload(http, photo(), currency="EUR")).json()
    assert made.stages.asked == ["detect", "embed", "search", "search"]
    assert made.tally.known == [False, True]
    assert set(again["timings_ms"]) == {"cache", "search", "total"}
    assert [each["box"] for each in again["objects"]] == [each["box"] for each in first["objects"]]
    assert again["objects"][0]["products"][0]["price"]["amount"] == "19.90"
    assert again["photo"]["token"] != first["photo"]["token"]


@pytest.mark.parametrize(
    ("cache", "data", "parameters"),
    [
        ({}, photo(), {}),
        (CACHED, photo("coral"), {}),
        (CACHED, photo(), {"objects": "whole"}),
        (CACHED, photo(), {"box": "0,0,0.5,0.5"}),
        (CACHED | {"expiry_s": 1e-6}, photo(), {}),
    ],
    ids=["off by default", "another photo", "another choice of objects", "a box", "too old"],
)
async def test_photo_is_seen_anew(tmp_path, cache, data, parameters):
    async with front(settings(tmp_path, cache=cache)) as made, client(made) as http:
        await upload(http, photo())
        answer = await upload(http, data, **parameters)
    assert made.stages.asked.count("embed") == 2
    assert "cache" not in answer.json()["timings_ms"]


async def test_photo_is_seen_anew_when_the_alias_stands_for_another_collection(tmp_path):
    async with front(settings(tmp_path, cache=CACHED)) as made, client(made) as http:
        await upload(http, photo())
        made.seen_index.collection = "products_b"
        await made.watch.look()
        await upload(http, photo())
    assert made.tally.known == [False, False]


async def test_token_of_a_photo_that_came_again_is_as_good_as_another(tmp_path):
    async with front(settings(tmp_path, cache=CACHED)) as made, client(made) as http:
        answers = [(await upload(http, photo())).json() for _ in range(2)]
        again = await http.post("/v1/search", params={"token": answers[1]["photo"]["token"], "box": "0,0,1,1"})
    assert again.status_code == 200
