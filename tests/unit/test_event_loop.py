"""No request keeps the ingress' event loop: others wait for it, and so do health checks."""

import asyncio
import base64
import contextlib
import gc
import io
import threading
import time
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
import uvicorn
import yaml
from PIL import Image

from serve_app.api.app import create_app
from serve_app.pipeline import MAX_ROWS
from tests.unit.builders import hit
from tests.unit.fronts import HereFront, front, settings
from tests.unit.loop_watch import LoopWatch

LIMIT_S = 0.4
"""Twenty times what the largest photo takes to be copied, and less than a second, which the watch is tried with."""
TIMEOUT_S = 120
MANY = [hit(f"p{number // 20}", 0.9 - number / 10**5) for number in range(MAX_ROWS)]
"""So many images of each product that all rows which Milvus gives are needed to count them."""


def phone_photo(width: int = 4032, height: int = 3024) -> bytes:
    """Return a JPEG of 12 megapixels and some 4 MB."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 32, width // 32, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grained = pixels + rng.integers(-7, 8, (height, width, 1), np.int8)
    file = io.BytesIO()
    Image.fromarray(grained.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


@dataclass
class Running:
    http: httpx.Client
    photo: bytes
    front: HereFront
    watch: LoopWatch
    rules: object

    @property
    def encoded(self) -> str:
        return base64.b64encode(self.photo).decode()

    def search(self, **more) -> dict:
        answer = self.http.post("/v1/search", files={"photo": self.photo}, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def json(self, path, **body) -> httpx.Response:
        return self.http.post(path, json=body)


async def serve(config, ready, ended) -> None:
    async with front(config) as made, LoopWatch(LIMIT_S) as watch:
        server = uvicorn.Server(uvicorn.Config(create_app(made), host="127.0.0.1", port=0, log_level="error"))
        serving, running = asyncio.create_task(server.serve()), asyncio.create_task(made.run())
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by no event
            await asyncio.sleep(0.01)
        ready.append((server.servers[0].sockets[0].getsockname()[1], made, watch))
        while not ended.is_set():  # noqa: ASYNC110 - another thread ends it
            await asyncio.sleep(0.05)
        server.should_exit = True
        await serving
        running.cancel()


@pytest.fixture(scope="module")
def left_by_other_tests():
    """Keep the garbage collector from what other tests have left: going through it takes longer than any request."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def running(left_by_other_tests, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    feedback = {"enabled": True, "keep_crops": True, "flush_s": 0.2}
    config = settings(
        folder,
        feedback=feedback,
        cache={"enabled": True},
        page={"image_folders": [folder]},
        # It is the loop that is watched, however long a busy machine takes.
        limits={"deadline_s": TIMEOUT_S, "cold_deadline_s": TIMEOUT_S},
    )
    ready, ended = [], threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve(config, ready, ended)))
    thread.start()
    try:
        while not ready:
            assert thread.is_alive(), "the service did not start"
            thread.join(0.02)
        port, made, watch = ready[0]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_S) as http:
            yield Running(http, phone_photo(), made, watch, folder / "rules.yaml")
    finally:
        ended.set()
        thread.join()


def form(running):
    return running.search()


def known_again(running):
    assert "cache" in {**running.search(), **running.search()}["timings_ms"]


def alone(running):
    return running.http.post("/v1/search", content=running.photo, headers={"Content-Type": "image/jpeg"})


def base64_in_json(running):
    return running.json("/v1/search", image=running.encoded)


def boxes_of_a_token(running):
    token = running.search()["photo"]["token"]
    return running.json("/v1/search", token=token, boxes=[[0.1, 0.1, 0.9, 0.9], [0, 0, 1, 1]])


def pages(running):
    cursor = running.search(params={"top_k": 100})["objects"][0]["next"]
    return running.http.post("/v1/search", params={"cursor": cursor, "top_k": 100})


def facets(running):
    return running.http.post("/v1/search", files={"photo": running.photo}, params={"facets": "category", "top_k": 100})


def several(running):
    return running.json("/v1/search:batch", searches=[{"image": running.encoded}] * 3)


def models_alone(running):
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [running.encoded]}
    return running.json("/v2/models/detector/infer", inputs=[tensor])


def product(running):
    images = [{"image_id": f"i{number}", "image": running.encoded} for number in range(3)]
    body = {"images": images, "title": {"en": "Chair"}}
    return running.http.put("/v1/products/p1", json=body, headers={"Idempotency-Key": "once"})


def crop_is_kept(running):
    answer = running.search()
    named = {"request_id": answer["request_id"], "object_id": answer["objects"][0]["object_id"]}
    told = running.json("/v1/feedback", **named, product_id="p1", position=1, event="buy", consent=True)
    assert told.json()["crop"], told.text
    return told


def too_large(running):
    answer = running.http.post("/v1/search", content=bytes(21 * 2**20), headers={"Content-Type": "image/jpeg"})
    assert answer.status_code == 413
    return running.http.get("/v2/health/ready")


def rules_of_a_large_shop(running):
    rules = [{"name": "first", "action": "boost", "product": "p0"}]
    rules += [
        {"name": f"rule {number}", "action": "boost", "product": [f"product-{number}-{each}" for each in range(200)]}
        for number in range(199)
    ]
    running.rules.write_text(yaml.safe_dump(rules))
    deadline_s = time.monotonic() + TIMEOUT_S
    # Told by answers alone: who asks for the rules in this thread may be the one who reads them.
    while running.search()["objects"][0]["products"][0]["rule"] != "first":
        assert time.monotonic() < deadline_s, "the rules were not read"
    rows, running.front.stages.rows = running.front.stages.rows, MANY
    answer = running.http.post("/v1/search", files={"photo": running.photo}, params={"facets": "category"})
    running.front.stages.rows = rows
    running.rules.unlink()
    return answer


def path(name):
    def get(running):
        return running.http.get(name)

    get.__name__ = name
    return get


WAYS = [
    *(form, alone, base64_in_json, known_again, boxes_of_a_token, pages, facets, several, models_alone, product),
    *(crop_is_kept, too_large, rules_of_a_large_shop),
    *map(path, ("/", "/page/texts/ja", "/page/source.tar.gz", "/openapi.json", "/admin/searches", "/admin/imports")),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.replace("_", " "))
def test_no_request_keeps_the_event_loop(running, way):
    before = len(running.watch.stalls)
    answer = way(running)
    assert not isinstance(answer, httpx.Response) or answer.is_success, answer.text
    assert running.watch.stalls[before:] == []


def test_the_watch_sees_a_call_that_blocks_for_a_second(running):
    before = len(running.watch.stalls)
    running.front.stages.before_search = lambda: time.sleep(1)
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, running.front.stages, "before_search", lambda: None)
        running.search()
    (stall,) = running.watch.stalls[before:]
    assert "time.sleep(1)" in stall
