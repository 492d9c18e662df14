"""Photos that are searched again, over HTTP: tokens, boxes, and the loss of the store."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from scripts.bad_inputs import Target, is_expected
from scripts.bad_requests import SEARCH
from scripts.bad_wire import WEB_HOST, hostile_server, hostile_urls
from scripts.measuring import wait_until
from serve_app.feedback.files import read_log
from serve_app.feedback.records import Act, Judged, join
from serve_app.folders import Folder
from tests.integration.service import Service

TIMEOUT_S = 60
SETTINGS = {
    "STORE__TIMEOUT_S": "5",
    "FEEDBACK__ENABLED": "true",
    "FEEDBACK__KEEP_CROPS": "true",
    "FEEDBACK__FLUSH_S": "0.5",
    "FETCH__SEARCH_HOSTS": json.dumps([WEB_HOST, "127.0.0.1", "localhost"]),
    "FETCH__ALLOW_PRIVATE": json.dumps([f"{WEB_HOST}/32"]),
    "FETCH__TIMEOUT_S": "5",
    "FETCH__ATTEMPTS": "1",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights, radios):
    with Service(tmp_path_factory.mktemp("shop"), weights, **SETTINGS) as running:
        running.shoplens("import", str(radios.folder))
        wait_until(lambda: httpx.get(f"{running.url}/v2/health/ready").is_success, timeout_s=180, what="readiness")
        wait_until(lambda: token(running.search(radios.images[0])), timeout_s=180, what="token")
        yield running


def token(response: httpx.Response) -> str | None:
    assert response.status_code == 200, response.text
    return response.json()["photo"]["token"]


def again(service: Service, **parameters) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/search", params=parameters, timeout=120)


def lists(response: httpx.Response) -> list[tuple[str, list[tuple[str, float]]]]:
    assert response.status_code == 200, response.text
    return [
        (entry["source"], [(product["product_id"], product["score"]) for product in entry["products"] or []])
        for entry in response.json()["objects"]
    ]


def expired(response: httpx.Response) -> bool:
    return (response.status_code, response.json()["code"]) == (410, "photo_expired")


def store_pid(service: Service) -> int | None:
    for pid in service.descendants():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ShelfStore"):
                return pid
    return None


def test_token_finds_what_the_photo_found(service, radios):
    first = service.search(radios.images[0])
    assert first.json()["degraded"] in ([], ["no_object"])
    assert lists(again(service, token=token(first))) == lists(first)
    assert token(again(service, token=token(first))) == token(first)


def test_every_way_to_send_a_photo_finds_the_same(service, radios):
    photo = radios.images[1].read_bytes()
    form = service.search(photo)
    url = f"{service.url}/v1/search"
    alone = httpx.post(url, content=photo, headers={"content-type": "image/jpeg"}, timeout=120)
    in_json = httpx.post(url, json={"image": base64.b64encode(photo).decode()}, timeout=120)
    assert lists(form) == lists(alone) == lists(in_json)
    with web_server(radios.images[1].parent) as address:
        by_url = httpx.post(url, json={"url": f"{address}/{quote(radios.images[1].name)}"}, timeout=120)
    assert lists(by_url) == lists(form)
    assert by_url.json()["timings_ms"]["fetch"] > 0
    assert lists(again(service, token=token(by_url))) == lists(form)


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder from the one address that searches may fetch from."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer((WEB_HOST, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{WEB_HOST}:{server.server_port}"
        server.shutdown()


def test_url_of_a_hostile_server_is_answered_and_counted(service, radios):
    target = Target(service.url)
    with hostile_server() as address:
        bad_ones = [bad for bad in hostile_urls(address) if bad.path == SEARCH]
        answers = {bad.name: (target.send(bad), bad.answers) for bad in bad_ones}
    assert len(answers) > 15
    assert {name: answer for name, answer in answers.items() if not is_expected(*answer)} == {}
    assert service.search(radios.images[0]).status_code == 200

    def counted() -> bool:
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        names = [line for line in lines if line.startswith("ray_shoplens_requests_total")]
        return all(any(f'code="{code}"' in line for line in names) for code in ("url_refused", "fetch_timeout"))

    wait_until(counted, timeout_s=TIMEOUT_S, what="count of refused URLs")


def test_url_of_a_host_that_no_setting_names_is_refused(service):
    answer = httpx.post(f"{service.url}/v1/search", params={"url": "http://127.0.0.3/a.jpg"}, timeout=120)
    assert (answer.status_code, answer.json()["code"]) == (422, "url_refused")
    assert "fetch.search_hosts" in answer.json()["detail"]


def test_given_box_is_searched_alone_and_as_it_is(service, radios):
    given = again(service, token=token(service.search(radios.images[2])), box=["0.1,0.1,0.9,0.9", "0,0,1,1"])
    boxes = [(entry["box"], entry["source"], entry["label"]) for entry in given.json()["objects"]]
    assert boxes == [([0.1, 0.1, 0.9, 0.9], "shopper", None), ([0, 0, 1, 1], "shopper", None)]
    whole = service.search(radios.images[2], objects="whole")
    for product, same in zip(lists(given)[1][1], lists(whole)[0][1], strict=True):
        assert product == (same[0], pytest.approx(same[1], abs=1e-4))


def test_box_beyond_the_asked_number_is_shown_but_not_searched(service, radios):
    boxes = ["0.1,0.1,0.9,0.9", "0,0,1,1"]
    answer = service.search(radios.images[2], box=boxes, objects=1, box_source="device")
    assert [entry["products"] is None for entry in answer.json()["objects"]] == [False, True]
    assert {entry["source"] for entry in answer.json()["objects"]} == {"device"}


def test_whole_photo_alone_takes_no_detector(service, radios):
    answer = service.search(radios.images[0], objects="whole")
    assert [source for source, _ in lists(answer)] == ["whole"]
    assert answer.json()["degraded"] == []


def test_unknown_token_has_expired(service):
    assert expired(again(service, token="no-such-token"))


def test_feedback_is_written_with_the_crop_that_was_agreed_to(service, radios):
    answer = service.search(radios.images[0]).json()
    shown = next(each for each in answer["objects"] if each["main"])
    product = shown["products"][1]["product_id"]
    given = {"request_id": answer["request_id"], "object_id": shown["object_id"], "product_id": product}
    sent = httpx.post(
        f"{service.url}/v1/feedback", json=given | {"position": 2, "event": "buy", "consent": True}, timeout=30
    )
    assert (sent.status_code, sent.json()["crop"]) == (202, True)
    folder = Folder(str(service.data_dir / "feedback"))

    def judged() -> list[Judged]:
        parts = list(read_log(folder))
        return list(join(*([each for part in parts for each in part[side]] for side in (0, 1))).lists)

    (found,) = wait_until(judged, timeout_s=180, what="the log's file")
    assert found.acts == {product: Act.BUY}
    assert folder.read(found.crop).startswith(b"\xff\xd8")


def test_killed_store_loses_its_photos_and_nothing_else(service, radios):
    before = token(service.search(radios.images[0]))
    pid = store_pid(service)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert expired(again(service, token=before))
    answers = [service.search(radios.images[0]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all((token(answer) is None) == ("no_token" in answer.json()["degraded"]) for answer in answers)
    assert expired(again(service, token=before))
    found = wait_until(lambda: token(service.search(radios.images[0])), timeout_s=TIMEOUT_S, what="token")
    assert again(service, token=found).status_code == 200
    assert store_pid(service) != pid
