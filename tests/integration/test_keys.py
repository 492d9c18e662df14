"""Keys and quotas over HTTP, with two replicas of the ingress that share one store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from pathlib import Path

import httpx
import pytest

from scripts.measuring import replica_pids, wait_until
from serve_app.keys import Key, Role, new_key
from serve_app.quotas import WINDOW_S
from tests.integration.service import Service

COUNTED, COUNTED_KEY = new_key("counted", Role.SEARCH, per_minute=30)
SHOP, SHOP_KEY = new_key("shop", Role.SEARCH, per_minute=100_000)
OTHER, OTHER_KEY = new_key("other", Role.SEARCH, per_minute=100_000)


def written(path: Path, *keys: Key) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(key.line for key in keys))
    fresh.replace(path)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    written(path, COUNTED_KEY, SHOP_KEY, OTHER_KEY)
    return path


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights, radios, keys_file):
    settings = {
        "AUTH__KEYS_FILE": str(keys_file),
        "STORE__TIMEOUT_S": "5",
        "CACHE__ENABLED": "true",
        "INGRESS__SCALING__MIN_REPLICAS": "2",
        "INGRESS__SCALING__MAX_REPLICAS": "2",
    }
    with Service(tmp_path_factory.mktemp("shop"), weights, **settings) as running:
        running.shoplens("import", str(radios.folder))
        wait_until(lambda: httpx.get(f"{running.url}/v2/health/ready").is_success, timeout_s=180, what="readiness")
        wait_until(lambda: len(replica_pids(running.process.pid, "Ingress")) == 2, timeout_s=180, what="two replicas")
        wait_until(lambda: token(searched(running, SHOP, radios.images[0])), timeout_s=180, what="token")
        yield running


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def searched(service: Service, key: str, photo: Path) -> httpx.Response:
    return service.search(photo, headers(key))


def token(response: httpx.Response) -> str | None:
    assert response.status_code == 200, response.text
    return response.json()["photo"]["token"]


def empty_searches(service: Service, key: str, number: int) -> list[httpx.Response]:
    """Send searches without a photo, which are counted and answered 400, all at once and each on its own connection."""

    async def send() -> list[httpx.Response]:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(client.post("/v1/search", headers=headers(key)) for _ in range(number)))

    return asyncio.run(send())


def test_only_a_known_key_gets_in(service, radios):
    assert service.search(radios.images[0]).json()["code"] == "key_required"
    assert searched(service, "shoplens_unknown", radios.images[0]).json()["code"] == "key_unknown"
    assert httpx.get(f"{service.url}/metrics", headers=headers(SHOP)).json()["code"] == "forbidden"
    assert searched(service, SHOP, radios.images[0]).status_code == 200


def test_token_works_at_both_replicas_and_is_its_keys_alone(service, radios):
    found = token(searched(service, SHOP, radios.images[0]))
    assert at_both(service, found) == {(200, "ok")}
    stolen = httpx.post(f"{service.url}/v1/search", params={"token": found}, headers=headers(OTHER), timeout=120)
    assert (stolen.status_code, stolen.json()["code"]) == (410, "photo_expired")


def test_photo_that_comes_again_is_known_to_its_own_key_alone(service, radios):
    # Each of the two replicas remembers what it saw itself.
    answers = [searched(service, SHOP, radios.images[1]).json() for _ in range(3)]
    assert any("cache" in answer["timings_ms"] for answer in answers)
    answers.append(searched(service, OTHER, radios.images[1]).json())
    assert "cache" not in answers[-1]["timings_ms"]
    found = [
        [
            [(product["product_id"], product["score"]) for product in entry["products"] or []]
            for entry in each["objects"]
        ]
        for each in answers
    ]
    assert found == [found[0]] * 4


def test_replicas_count_together(service):
    started_s = time.monotonic()
    # Few at once, so that the store is not too slow for a replica, which then counts alone.
    answers = [answer for _ in range(20) for answer in empty_searches(service, COUNTED, 5)]
    took_s = time.monotonic() - started_s
    taken = sum(answer.status_code == 400 for answer in answers)
    assert {answer.status_code for answer in answers} == {400, 429}
    alone = "quotas are counted by each replica alone" in (service.data_dir / "logs/shoplens.log").read_text()
    assert 30 <= taken <= (60 if alone else 30) + 30 * took_s / WINDOW_S
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "quota_exceeded"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["RateLimit-Policy"] == '"key";q=30;w=60'


def at_both(service: Service, given: str) -> set[tuple[int, str]]:
    """Search by a token until both replicas have answered, as their log says; returns what they answered."""
    answers: set[tuple[int, str]] = set()
    asked: set[str] = set()
    log = service.data_dir / "logs/shoplens.log"

    def both() -> bool:
        request_id = uuid.uuid4().hex
        asked.add(request_id)
        with httpx.Client(base_url=service.url, headers=headers(SHOP) | {"X-Request-ID": request_id}) as client:
            again = client.post("/v1/search", params={"token": given, "objects": "whole"}, timeout=120)
        answers.add((again.status_code, again.json().get("code", "ok")))
        lines = map(json.loads, log.read_text().rpartition("\n")[0].splitlines())
        return len({line["process"] for line in lines if line.get("request_id") in asked}) == 2

    wait_until(both, timeout_s=180, what="an answer of each replica")
    return answers


def test_killed_store_keeps_nobody_out(service, radios):
    lost = token(searched(service, SHOP, radios.images[0]))
    (pid,) = [pid for pid in service.descendants() if _title(pid).startswith(b"ray::ShelfStore")]
    os.kill(pid, signal.SIGKILL)
    codes = {answer.status_code for answer in empty_searches(service, SHOP, 50)}
    assert codes == {400}
    assert searched(service, SHOP, radios.images[0]).status_code == 200
    assert at_both(service, lost) == {(410, "photo_expired")}
    found = wait_until(lambda: token(searched(service, SHOP, radios.images[0])), timeout_s=180, what="token")
    assert at_both(service, found) == {(200, "ok")}


def test_key_that_is_taken_out_of_the_file_is_refused_without_a_restart(service, keys_file):
    written(keys_file, SHOP_KEY)
    assert {answer.json()["code"] for answer in empty_searches(service, OTHER, 6)} == {"key_unknown"}
    assert {answer.status_code for answer in empty_searches(service, SHOP, 6)} == {400}


def _title(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
