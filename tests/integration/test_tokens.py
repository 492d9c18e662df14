"""Photos that are searched again, over HTTP: tokens, boxes, and the loss of the store."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from pathlib import Path

import httpx
import pytest

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
