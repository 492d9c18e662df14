"""The chart's load test: what its Job is, and its pods' program with real Locust against a service that says yes."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts import load_log, load_photos
from scripts.load_schedule import SHAPES, Schedule
from scripts.load_sending import LOCUST_S, PORT, TIMEOUT_S
from tests.helm.shoplens import CHART, of_kind, render

ROOT = CHART.parents[1]
HERE = {"--url", "--leader", "--senders", "--rate", "--peak-rate", "--seconds", "--photos", "--wait-s"}
"""What a test on one machine says instead of the chart."""


def job(shape: str = "fleet", *values: str) -> Any:
    return of_kind(render(shape, *values), "CronJob")["shop-load"]["spec"]


def container(shape: str = "fleet", *values: str) -> Any:
    return job(shape, *values)["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert "shop-load" not in of_kind(render("team"), "CronJob") | of_kind(render("team"), "Service")


def test_it_waits_for_a_hand_and_is_one_pod_that_leads_and_those_that_send() -> None:
    assert job()["suspend"]
    spec = job()["jobTemplate"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)
    assert "--senders=3" in container()["args"]
    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 600 + 240 + TIMEOUT_S + LOCUST_S


def test_its_pods_are_found_by_name_and_port() -> None:
    service = of_kind(render("fleet"), "Service")["shop-load"]["spec"]
    template = job()["jobTemplate"]["spec"]["template"]
    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    assert [port["port"] for port in service["ports"]] == [PORT]
    assert template["spec"]["subdomain"] == "shop-load"
    assert "--leader=$(JOB_NAME)-0.shop-load" in container()["args"]
    assert "JOB_NAME" in [entry["name"] for entry in container()["env"]]


def test_its_account_has_no_rights_and_no_token() -> None:
    documents = render("fleet")
    assert not of_kind(documents, "ServiceAccount")["shop-load"]["automountServiceAccountToken"]
    bound = [subject["name"] for each in of_kind(documents, "RoleBinding").values() for subject in each["subjects"]]
    assert "shop-load" not in bound


def test_photos_and_key_are_given_where_they_are_named() -> None:
    assert "--photos=/photos" in container()["args"]
    assert {"name": "photos", "mountPath": "/photos", "readOnly": True} in container()["volumeMounts"]
    made_up = container("incremental", "loadTest.enabled=true", "loadTest.image.tag=0.1.0-load")
    assert made_up["image"] == "shoplens:0.1.0-load"
    assert "--photos=/photos" not in made_up["args"]
    assert "photos" not in [mount["name"] for mount in made_up["volumeMounts"]]
    (key,) = [entry["valueFrom"] for entry in container()["env"] if entry["name"] == "SHOPLENS_KEY"]
    assert key == {"secretKeyRef": {"name": "shoplens-keys", "key": "load"}}
    assert "SHOPLENS_KEY" not in [entry["name"] for entry in made_up["env"]]


def test_the_chart_knows_the_shapes_of_the_program() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["loadTest"]["properties"]["shape"]["enum"]) == set(SHAPES)


@pytest.fixture
def service() -> Iterator[tuple[str, set[str]]]:
    """A service that finds nothing for every photo, and the ids of the searches it was sent."""
    ids: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert b"\xff\xd8\xff" in self.rfile.read(int(self.headers["Content-Length"])), "no JPEG"
            ids.add(self.headers["X-Request-ID"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"degraded": ["no_object"], "timings_ms": {"total": 1.0}}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", ids
    server.shutdown()
    server.server_close()


def test_pods_send_one_schedule_together_and_the_log_of_the_leader_tells_all(service: Any, tmp_path: Path) -> None:
    url, ids = service
    load_photos.make_up(tmp_path, 2)
    of_the_chart = [argument for argument in container()["args"] if argument.split("=")[0] not in HERE]
    here = [f"--url={url}", "--leader=127.0.0.1", "--senders=2", "--rate=10", "--peak-rate=40", "--seconds=2"]
    here += [f"--photos={tmp_path}", "--wait-s=120"]
    command = [sys.executable, "-m", "scripts.load_pod", *of_the_chart, *here]
    logs = [(tmp_path / f"{index}.log").open("w+") for index in range(3)]
    pods = [
        subprocess.Popen([*command, f"--index={index}"], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        for index, log in enumerate(logs)
    ]
    codes = [pod.wait(240) for pod in pods]
    told = [(log.seek(0), log.read(), log.close())[1] for log in logs]
    assert codes[1:] == [0, 0], told
    ran, answers = load_log.read(told[0])
    due = list(Schedule("step", 10, 40, 2).arrivals(seed=1))
    assert [answer.due_s for answer in answers] == pytest.approx(due, abs=1e-3)
    assert ids == {f"load-{number}" for number in range(len(due))}
    assert {answer.code for answer in answers} == {"ok"}
    assert ran.settings["sending pods"] == 2
    assert ran.settings["started apart, s"] < 5
    # A machine that is busy enough sends late, which is a goal.
    assert codes[0] == int("MISSED" in told[0])
    assert re.search(r"ok +failed searches: 0", told[0])
