"""The scripts of the Shoplens chart's Jobs."""

import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.helm.shoplens import CHART, rayjob, rayservice

FILES = CHART / "files"
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """Import a script of the chart as its pod does."""
    sys.path.insert(0, str(FILES))

    def imported(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield imported
    sys.path.remove(str(FILES))


class FakeCluster:
    """KubeRay's objects; each `get` of a kind returns the next state of it, and the last one ever after."""

    def __init__(self, **states: list[Any]) -> None:
        self.states = states
        self.made: list[Any] = []
        self.patched: dict[str, Any] = {}

    def get(self, kind: str, name: str) -> Any:
        states = self.states[kind]
        state = states.pop(0) if len(states) > 1 else states[0]
        if isinstance(state, Exception):
            raise state
        return state

    def list(self, kind: str, selector: str) -> list[Any]:
        labels = dict(term.split("=") for term in selector.split(","))
        return [each for each in self.states[f"all {kind}"] if labels.items() <= each["metadata"]["labels"].items()]

    def create(self, kind: str, body: Any) -> Any:
        self.made.append(body)
        return {"metadata": {"name": f"{body['metadata']['generateName']}abcde"}}

    def patch(self, kind: str, name: str, operations: Any) -> None:
        self.patched[name] = operations


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def service(generation: int, observed: int, application: str = "RUNNING", **conditions: str) -> Any:
    return {
        "metadata": {"generation": generation},
        "status": {
            "observedGeneration": observed,
            "conditions": [{"type": kind, "status": status, "reason": "Because", "message": "so"}
                           for kind, status in conditions.items()],
            "activeServiceStatus": {"applicationStatuses": {"shoplens": {"status": application}}},
        },
    }  # fmt: skip


READY = service(2, 2, Ready="True", UpgradeInProgress="False")


def wait(script: Any, states: list[Any], deadline_s: float = 60) -> tuple[int, float]:
    clock = Clock()
    code = script("wait_ready").wait(FakeCluster(rayservices=states), "shop", deadline_s, clock, clock.sleep)
    return code, clock.now_s


def test_waiting_ends_when_the_service_is_ready_as_it_was_last_asked(script: Any, capsys: Any) -> None:
    from kubernetes.client import ApiException

    states = [
        ApiException(status=404, reason="Not Found"),
        {"metadata": {"generation": 2}},
        service(2, 1, Ready="True", UpgradeInProgress="False"),
        service(2, 2, Ready="True", UpgradeInProgress="True"),
        service(2, 2, "DEPLOYING", Ready="True", UpgradeInProgress="False"),
        READY,
    ]
    code, after_s = wait(script, states)
    assert code == 0
    assert after_s == 3.0 * 6
    assert "UpgradeInProgress=True Because: so" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (service(2, 1, Ready="True", UpgradeInProgress="False"), "has not seen this generation"),
        (service(2, 2, Ready="False", UpgradeInProgress="False"), "Ready is False: Because so"),
        (service(2, 2, Ready="True", UpgradeInProgress="True"), "UpgradeInProgress is True"),
        (service(2, 2, "DEPLOY_FAILED", Ready="True"), "the application shoplens is DEPLOY_FAILED"),
        ({"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}, "no such condition yet"),
    ],
)
def test_waiting_fails_with_what_is_lacking(script: Any, capsys: Any, state: Any, said: str) -> None:
    assert wait(script, [state])[0] == 1
    assert said in capsys.readouterr().err


def clusters(*bounds: tuple[int, int]) -> list[Any]:
    names = ("cpu", "gpu")
    return [
        {"groupName": name, "minReplicas": least, "maxReplicas": most, "template": {}}
        for name, (least, most) in zip(names, bounds, strict=False)
    ]


def patched(script: Any, wanted: list[Any], running: list[Any]) -> dict[str, Any]:
    cluster = FakeCluster(
        rayservices=[{"spec": {"rayClusterConfig": {"workerGroupSpecs": wanted}},
                      "status": {"activeServiceStatus": {"rayClusterName": "shop-a"}, "pendingServiceStatus": {}}}],
        rayclusters=[{"spec": {"workerGroupSpecs": running}}],
    )  # fmt: skip
    script("patch_bounds").patch_all(cluster, "shop")
    return cluster.patched


def test_only_what_differs_is_patched_and_only_in_the_group_it_was_seen_in(script: Any) -> None:
    assert patched(script, clusters((2, 9), (0, 2)), clusters((2, 4), (0, 2))) == {
        "shop-a": [
            {"op": "test", "path": "/spec/workerGroupSpecs/0/groupName", "value": "cpu"},
            {"op": "add", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": 9},
        ]
    }


class ApiServer(BaseHTTPRequestHandler):
    """An API server that takes a patch only as the kind that its body is, as the real one does."""

    def do_PATCH(self) -> None:
        kind, body = self.headers["Content-Type"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fits = kind == "application/json-patch+json" and isinstance(body, list)
        answer = json.dumps({"kind": kind, "path": self.path}).encode()
        self.send_response(200 if fits else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_patch_is_sent_as_what_it_is(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes import client, config

    monkeypatch.setattr(client.Configuration, "_default", None)
    with ThreadingHTTPServer(("127.0.0.1", 0), ApiServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(config, "load_incluster_config", lambda: client.Configuration.set_default(there))
        script("cluster").Cluster("search").patch("rayclusters", "shop-a", [{"op": "test", "path": "/a", "value": 1}])
        server.shutdown()


def test_nothing_is_patched_where_bounds_stand_or_the_group_is_new(script: Any) -> None:
    assert patched(script, clusters((2, 4), (0, 2)), clusters((2, 4))) == {}
    assert patched(script, clusters((2, 4)), clusters((2, 4), (0, 2))) == {}


def test_the_chart_and_the_script_mean_the_same_groups(script: Any) -> None:
    running = rayservice("team")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    wanted = rayservice("team", "cpuWorkers.maxReplicas=9")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [each["op"] for each in patched(script, wanted, running)["shop-a"]] == ["test", "add"]


def follow(script: Any, states: list[Any], there: list[Any]) -> tuple[int, FakeCluster]:
    job = rayjob("fleet")
    script("start_import").owned(job, "import-1", "uid-1")
    cluster = FakeCluster(**{"rayjobs": states, "all rayjobs": there})
    return script("start_import").run(cluster, job, lambda _: None), cluster


def state(deployment: str, job: str = "") -> Any:
    return {"status": {"jobDeploymentStatus": deployment, "jobStatus": job}}


@pytest.mark.parametrize(
    ("last", "code"),
    [(state("Complete", "SUCCEEDED"), 0), (state("Complete", "FAILED"), 1), (state("Failed", "RUNNING"), 1)],
)
def test_an_import_ends_as_its_rayjob_does(script: Any, last: Any, code: int) -> None:
    ended, cluster = follow(script, [{}, state("Initializing"), state("Running", "RUNNING"), last], [])
    assert ended == code
    (made,) = cluster.made
    assert made["metadata"]["ownerReferences"][0] == {
        "apiVersion": "batch/v1", "kind": "Job", "name": "import-1", "uid": "uid-1",
    }  # fmt: skip


def test_an_import_that_runs_is_followed_and_one_of_another_release_is_not(script: Any) -> None:
    job = rayjob("fleet")
    assert job
    running = {"metadata": {"name": "shop-i-zzzzz", "labels": job["metadata"]["labels"]}, **state("Running")}
    ended = {"metadata": {"name": "shop-i-yyyyy", "labels": job["metadata"]["labels"]}, **state("Complete")}
    labels = job["metadata"]["labels"] | {"app.kubernetes.io/instance": "other"}
    other = {"metadata": {"name": "other-i-xxxxx", "labels": labels}, **state("Running")}
    assert follow(script, [state("Complete", "SUCCEEDED")], [ended, running])[1].made == []
    assert len(follow(script, [state("Complete", "SUCCEEDED")], [ended, other])[1].made) == 1


def test_an_import_that_was_deleted_has_failed(script: Any) -> None:
    from kubernetes.client import ApiException

    assert follow(script, [ApiException(status=500), ApiException(status=404)], [])[0] == 1


class Planned(list[tuple[int, Any]]):
    """Hold what is to be answered, and the keys that were sent."""

    def __init__(self) -> None:
        self.sent: list[str | None] = []


@pytest.fixture
def answers() -> Iterator[tuple[str, Planned]]:
    """A service that gives one answer after the other, and the last one ever after."""
    planned = Planned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert b"\xff\xd8\xff" in body, "no JPEG"
            planned.sent.append(self.headers["Authorization"])
            status, answer = planned.pop(0) if len(planned) > 1 else planned[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", planned
    server.shutdown()
    server.server_close()


def answer(products: int) -> dict[str, Any]:
    whole = {"source": "whole", "products": [{"product_id": str(at)} for at in range(products)]}
    return {"request_id": "r", "photo": {}, "model": "m", "index": {}, "objects": [whole], "degraded": [],
            "timings_ms": {"total": 1.0}}  # fmt: skip


def test_the_search_test_waits_for_an_answer(script: Any, answers: Any, monkeypatch: Any) -> None:
    url, planned = answers
    monkeypatch.setattr(script("search_test"), "RETRY_S", 0.01)
    planned += [(503, {"code": "index_missing"}), (200, answer(3))]
    assert script("search_test").search(url, time.monotonic() + 10) == answer(3)
    planned[:] = [(500, {"code": "internal"})]
    with pytest.raises(ValueError, match="status 500"):
        script("search_test").search(url, time.monotonic())


def test_the_search_test_sends_its_key_and_says_at_once_where_it_has_none(
    script: Any, answers: Any, monkeypatch: Any
) -> None:
    url, planned = answers
    planned += [(200, answer(3))]
    monkeypatch.setenv("SHOPLENS_KEY", "a-key")
    assert script("search_test").search(url, time.monotonic() + 10) == answer(3)
    assert planned.sent == ["Bearer a-key"]
    monkeypatch.delenv("SHOPLENS_KEY")
    planned[:] = [(401, {"code": "key_required"})]
    with pytest.raises(ValueError, match=r"auth\.testKey"):
        script("search_test").search(url, time.monotonic() + 60)
    assert planned.sent == ["Bearer a-key", None]


def test_the_search_test_wants_products_where_there_are_rows(script: Any) -> None:
    check = script("search_test").check
    check(answer(3), 7)
    check(answer(0), 0)
    with pytest.raises(ValueError, match="found none"):
        check(answer(0), 7)
    with pytest.raises(ValueError, match="lacks index"):
        check({key: value for key, value in answer(3).items() if key != "index"}, 7)
    with pytest.raises(ValueError, match="whole photo"):
        check(answer(3) | {"objects": []}, 7)


class Lite:
    """The chart's Milvus Lite server on a folder, until the block ends."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def __enter__(self) -> "Lite":
        command = [sys.executable, FILES / "lite_server.py", f"--data={self.folder / 'data'}", f"--port={self.port}",
                   f"--ready={self.folder / 'ready'}"]  # fmt: skip
        (self.folder / "ready").unlink(missing_ok=True)
        self.process = subprocess.Popen(command, env=environ())
        deadline = time.monotonic() + START_TIMEOUT_S
        while not (self.folder / "ready").exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.wait(START_TIMEOUT_S) == 0, "it ends by itself when it is asked to"


def environ() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHART.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


def test_an_index_is_made_once_and_loaded_again_when_milvus_lite_comes_back(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "milvus": {"uri": f"http://127.0.0.1:{port}"}}))

    def create() -> str:
        command = [sys.executable, FILES / "create_index.py", f"--settings={settings}", "--deadline-s=60"]
        done = subprocess.run(command, capture_output=True, text=True, env=environ(), timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    with Lite(tmp_path, port):
        first = create()
        assert "stands and is loaded" in first
        assert create() == first
    with Lite(tmp_path, port):
        from serve_app.collection import alias
        from serve_app.config import MilvusConfig
        from serve_app.milvus import indexing
        from serve_app.milvus.client import connect
        from serve_app.weights.loader import embedder_files, fingerprint

        client = connect(MilvusConfig(), f"http://127.0.0.1:{port}")
        name = alias("products", fingerprint(embedder_files(None)))
        assert indexing.is_loaded(client, name)
        client.close()


def test_no_milvus_is_told_in_one_line(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"data_dir": str(tmp_path), "milvus": {"uri": "http://127.0.0.1:9"}}))
    command = [sys.executable, FILES / "create_index.py", f"--settings={settings}", "--deadline-s=0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ(), timeout=300, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("index: Milvus")
