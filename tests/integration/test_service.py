"""The whole service as a shop runs it: `shoplens serve`, real models, real Milvus, over HTTP."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from scripts.bad_corpus import bad_requests
from scripts.bad_inputs import Target, is_expected
from scripts.bad_wire import attacks
from scripts.measuring import wait_until
from serve_app.milvus.rendezvous import Files, try_exclusive
from tests.integration.service import Service, replica_pid

TIMEOUT_S = 180


@pytest.fixture(scope="module")
def service(tmp_path_factory, weights, radios):
    """Serve an empty shop, watch it refuse, import, and keep serving."""
    data_dir = tmp_path_factory.mktemp("shop")
    with Service(data_dir, weights) as running:
        running.first_answer = running.search(radios.images[0])
        running.first_ready = httpx.get(f"{running.url}/v2/health/ready")
        running.shoplens("import", str(radios.folder))
        wait_until(lambda: httpx.get(f"{running.url}/v2/health/ready").is_success, timeout_s=180, what="readiness")
        yield running


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def whole(response: httpx.Response) -> dict:
    assert response.status_code == 200, response.text
    return next(entry for entry in response.json()["objects"] if entry["source"] == "whole")


def encoded(kind: str, size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, kind)
    return buffer.getvalue()


def test_shop_without_index_says_so(service):
    assert problem(service.first_answer) == (503, "index_missing")
    assert service.first_ready.status_code == 503
    assert "shoplens import" in service.first_ready.json()["reason"]


def test_imported_photo_finds_itself(service, radios):
    for path in radios.images[:5]:
        best = whole(service.search(path))["products"][0]
        assert best["product_id"] == path.parent.name
        assert best["score"] >= 0.999


def test_photos_of_one_thing_find_what_is_like_any_of_them(service, radios):
    first, other = radios.images[0], radios.images[-1]
    images = [base64.b64encode(path.read_bytes()).decode() for path in (first, other)]
    asked = {"images": images, "objects": "whole", "top_k": 2}
    response = httpx.post(f"{service.url}/v1/search", json=asked, timeout=TIMEOUT_S)
    found = whole(response)
    assert len(response.json()["objects"]) == 1
    assert {each["product_id"] for each in found["products"]} == {first.parent.name, other.parent.name}
    assert min(each["score"] for each in found["products"]) >= 0.999
    after = httpx.post(f"{service.url}/v1/search", params={"cursor": found["next"]}, timeout=TIMEOUT_S)
    assert not {each["product_id"] for each in whole(after)["products"]} & {first.parent.name, other.parent.name}
    torn = base64.b64encode(other.read_bytes()[:500]).decode()
    refused = httpx.post(f"{service.url}/v1/search", json=asked | {"images": [images[0], torn]}, timeout=TIMEOUT_S)
    assert problem(refused) == (422, "truncated")
    assert refused.json()["detail"].startswith("images.1: ")


def test_picture_of_an_imported_file_is_shown_by_its_id_alone(service, radios):
    best = whole(service.search(radios.images[0]))["products"][0]
    address = f"{service.url}/v1/images/{best['image_id']}"
    found = httpx.get(address, params={"width": 160}, timeout=TIMEOUT_S)
    assert (found.status_code, max(Image.open(io.BytesIO(found.content)).size)) == (200, 160)
    tag = {"If-None-Match": found.headers["etag"]}
    assert httpx.get(address, params={"width": 160}, headers=tag, timeout=TIMEOUT_S).status_code == 304
    assert problem(httpx.get(f"{service.url}/v1/images/{radios.images[0]}", timeout=TIMEOUT_S)) == (
        404,
        "unknown_image",
    )


def test_each_kind_of_file_finds_itself(service, radios):
    image = Image.open(radios.images[3]).convert("RGB")
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        image.save(buffer, kind, lossless=True)
        best = whole(service.search(buffer.getvalue()))["products"][0]
        assert best["product_id"] == radios.images[3].parent.name
        assert best["score"] >= 0.999


def test_answer_names_model_index_and_stage_times(service, radios):
    body = service.search(radios.images[0]).json()
    assert body["index"]["collection"].startswith(f"products_{body['model']}_")
    assert set(body["timings_ms"]) == {"decode", "detect", "embed", "search", "total"}
    assert sum(entry["main"] for entry in body["objects"]) == 1


def test_pages_are_full_and_name_each_product_once(service, radios):
    products = whole(service.search(radios.images[0], top_k=radios.products))["products"]
    assert len({product["product_id"] for product in products}) == len(products) == radios.products


def test_model_without_a_curve_tells_no_match_and_says_what_to_do(service, radios):
    assert {product["match"] for product in whole(service.search(radios.images[0]))["products"]} == {None}
    refused = service.search(radios.images[0], min_match=0.5)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_parameter")
    assert "embedder.calibration" in refused.json()["detail"]


def test_products_below_min_score_are_left_out(service, radios):
    products = whole(service.search(radios.images[0], min_score=0.9))["products"]
    assert products
    assert all(product["score"] >= 0.9 for product in products)


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        (b"", (400, "empty_body")),
        (b"no photo at all", (422, "not_an_image")),
        (encoded("JPEG", (300, 300))[:400], (422, "truncated")),
        (encoded("GIF"), (415, "unsupported_type")),
        (encoded("PNG", (8000, 8000)), (413, "too_many_pixels")),
        (bytes(21 * 2**20), (413, "photo_too_large")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_bad_photo_is_refused_and_no_replica_suffers(service, photo, expected):
    before = {name: replica_pid(service.process.pid, name) for name in ("Ingress", "Detector", "Embedder", "Searcher")}
    assert problem(service.search(photo)) == expected
    assert before == {name: replica_pid(service.process.pid, name) for name in before}


def test_one_bad_input_of_each_kind_is_answered_and_no_replica_suffers(service, radios):
    """`scripts/bad_inputs.py` sends all of them, and looks at memory."""
    before = {name: replica_pid(service.process.pid, name) for name in ("Ingress", "Detector", "Embedder", "Searcher")}
    target = Target(service.url)
    last_ones = {bad.kind: bad for bad in bad_requests()}.values()
    answers = {(bad.kind, bad.name): (target.send(bad), bad.answers) for bad in last_ones}
    for attack in attacks(slow=False):
        answers[attack.kind, attack.name] = (attack.run("127.0.0.1", service.port), attack.answers)
    assert {name: answer for name, answer in answers.items() if not is_expected(*answer)} == {}
    assert service.search(radios.images[0]).status_code == 200
    assert before == {name: replica_pid(service.process.pid, name) for name in before}


@pytest.mark.parametrize("parameters", [{"top_k": 0}, {"top_k": 101}, {"box": "0,0,0,1"}, {"colour": "red"}])
def test_bad_parameter_is_refused(service, radios, parameters):
    assert problem(service.search(radios.images[0], **parameters)) == (422, "bad_parameter")


def test_more_searches_than_allowed_are_refused_and_the_others_served(service, radios):
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: service.search(radios.images[0]), range(24)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < 24
    assert {problem(answer) for answer in refused} == {(429, "overloaded")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_stage_that_hangs_is_given_up_at_the_deadline(service, radios):
    pid = replica_pid(service.process.pid, "Embedder")
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = service.search(radios.images[0])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert problem(answer) == (504, "deadline_exceeded")
    assert service.search(radios.images[0]).status_code == 200


@pytest.mark.parametrize("stage", ["Detector", "Embedder", "Searcher"])
def test_killed_stage_costs_no_search(service, radios, stage):
    before = replica_pid(service.process.pid, stage)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(service.search, radios.images[0])
        os.kill(before, signal.SIGKILL)
        assert running.result().status_code == 200
    assert service.search(radios.images[0]).status_code == 200
    assert replica_pid(service.process.pid, stage) != before


@contextlib.contextmanager
def no_milvus(service: Service) -> Iterator[None]:
    """Kill the local index, and hold the lock that its next supervisor needs until the block ends."""
    files, killed = Files(service.data_dir), set()

    def held() -> int | None:
        # The service looks after its index each second, so another may have been started meanwhile.
        server = files.read_server()
        for pid in {server.supervisor_pid, server.pid} - killed if server else ():
            killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return try_exclusive(files.supervisor_lock)

    lock = wait_until(held, timeout_s=TIMEOUT_S, what="end of the local index")
    try:
        yield
    finally:
        os.close(lock)


def test_milvus_that_went_away_leaves_the_service_ready_and_comes_back(service, radios):
    with no_milvus(service):
        assert problem(service.search(radios.images[0])) == (503, "milvus_unavailable")
        assert httpx.get(f"{service.url}/v2/health/ready").is_success
    found: Callable[[], bool] = lambda: service.search(radios.images[0]).status_code == 200  # noqa: E731
    wait_until(found, timeout_s=TIMEOUT_S, what="recovery")


def test_every_search_leaves_one_line_of_json_in_the_log(service, radios):
    request_id = "log-line-1"
    service.search(radios.images[0], headers={"X-Request-ID": request_id})
    log = service.data_dir / "logs/shoplens.log"
    lines = wait_until(
        lambda: [line for line in log.read_text().splitlines() if request_id in line], timeout_s=10, what="log line"
    )
    (entry,) = map(json.loads, lines)
    assert entry["code"] == "ok"
    assert set(entry["ms"]) == {"decode", "detect", "embed", "search", "total"}


def test_load_test_reports_what_became_of_its_searches(service, radios, tmp_path):
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    command = [sys.executable, "-m", "scripts.load_test", "--url", service.url, "--photos", str(radios.folder)]
    command += ["--shape", "steady", "--rate", "2", "--seconds", "6", "--goal-p99-ms", "30000"]
    command += ["--goal-refused", "1"]  # A machine that is busy enough can't answer two searches a second.
    done = subprocess.run([*command, "--html", str(page), "--json", str(figures)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(figures.read_text())["rows"]
    assert row["due"] > 4
    assert row["failed"] == 0
    assert row["refused"] < row["due"]
    assert page.read_text().count("data:image/png") == 6


def test_work_of_clients_that_left_does_not_reach_the_models(service, radios):
    def leave(number: int) -> None:
        with contextlib.suppress(httpx.TimeoutException):
            photo = radios.images[number].read_bytes()
            httpx.post(f"{service.url}/v1/search", files={"photo": photo}, timeout=0.3)

    def dropped() -> bool:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(leave, range(8)))
        metrics = httpx.get(f"{service.url}/metrics").text
        return any(
            line.startswith("ray_shoplens_dropped_items_total") and 'reason="gone"' in line
            for line in metrics.splitlines()
        )

    wait_until(dropped, timeout_s=TIMEOUT_S, what="count of dropped work")
    assert service.search(radios.images[0]).status_code == 200


def test_models_answer_alone(service, radios):
    def ask(model: str, *photos: bytes) -> dict[str, dict]:
        data = [base64.b64encode(photo).decode() for photo in photos]
        body = {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}]}
        answer = httpx.post(f"{service.url}/v2/models/{model}/infer", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        return {output["name"]: output for output in answer.json()["outputs"]}

    photos = [path.read_bytes() for path in radios.images[:2]]
    rows = np.array(ask("embedder", *photos)["embedding"]["data"]).reshape(2, 256)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-4)
    assert ask("embedder", photos[1])["embedding"]["data"] == pytest.approx(rows[1].tolist(), abs=1e-3)
    width, height = Image.open(radios.images[0]).size
    assert ask("detector", photos[0])["size"]["data"] == [width, height]
    assert httpx.get(f"{service.url}/v2/models/detector/ready").json()["ready"] is True


def test_metrics_tell_of_each_stage(service, radios):
    service.search(radios.images[0])
    metrics = wait_until(
        lambda: (text := httpx.get(f"{service.url}/metrics").text).count('stage="embed"') and text,
        timeout_s=30,
        what="metrics",
    )
    assert "ray_shoplens_requests_total{" in metrics
    assert "ray_serve_deployment_request_counter_total" in metrics


def test_documentation_is_served(service):
    assert httpx.get(f"{service.url}/docs").is_success
    assert httpx.get(f"{service.url}/openapi.json").json()["openapi"].startswith("3.1")


def test_nothing_listens_beyond_loopback(service):
    """Ray trusts whoever reaches its ports."""
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    milvus = json.loads((service.data_dir / "milvus/server.json").read_text())
    own = {service.process.pid, *service.descendants(), milvus["pid"]}
    ours = [line.split()[3] for line in listening if own & {int(pid) for pid in re.findall(r"pid=(\d+)", line)}]
    assert f"127.0.0.1:{service.port}" in ours
    assert {address.rsplit(":", 1)[0] for address in ours} <= {"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"}


def test_service_stops_when_told_and_leaves_no_process(tmp_path, weights):
    with Service(tmp_path, weights) as running:
        children = running.descendants()
        assert children
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(TIMEOUT_S) == 0
        wait_until(lambda: not any(map(alive, children)), timeout_s=TIMEOUT_S, what="end of all processes")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_port_in_use_is_named(service, weights, tmp_path):
    port = httpx.URL(service.url).port
    started = time.monotonic()
    outcome = service.shoplens("serve", "--port", str(port), check=False)
    assert outcome.returncode == 3
    assert str(port) in outcome.stderr
    assert time.monotonic() - started < TIMEOUT_S
