"""`shoplens cluster …` against a release that runs: KUBECONFIG, and SHOPLENS_NAMESPACE and SHOPLENS_RELEASE if need be.

Reads only, but for one health request through the API server's proxy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from serve_app.cluster.kubernetes_api import KubernetesApi
from serve_app.cluster.observing import SERVE_PORT

RELEASE = os.environ.get("SHOPLENS_RELEASE", "shoplens")
HEALTH = os.environ.get("SHOPLENS_HEALTH_PATH", "/v2/health/ready")
LOGGED_WITHIN_S = 30.0


@pytest.fixture(scope="module")
def namespace() -> str:
    if not Path(os.environ.get("KUBECONFIG", "")).is_file():
        pytest.exit("KUBECONFIG does not name a file; these tests need a cluster in which a release runs", returncode=2)
    return os.environ.get("SHOPLENS_NAMESPACE") or KubernetesApi().namespace


def cluster(namespace: str, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [
        sys.executable,
        "-m",
        "serve_app.cli",
        "cluster",
        command,
        *arguments,
        "-n",
        namespace,
        "--release",
        RELEASE,
    ]
    return subprocess.run(line, capture_output=True, text=True, timeout=180)


def test_running_release_needs_no_waiting(namespace):
    outcome = cluster(namespace, "wait", "--timeout", "60s")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_status_knows_every_replica_from_rays_dashboard(namespace):
    seen = json.loads(cluster(namespace, "status", "--json").stdout)
    assert seen["unread"] == []
    assert seen["service"]["active"]["from_dashboard"]
    stages = [stage for each in seen["service"]["active"]["applications"] for stage in each["stages"]]
    assert stages
    assert all(stage["ready"] == stage["wanted"] for stage in stages)


def test_doctor_finds_nothing_missing(namespace):
    checks = json.loads(cluster(namespace, "doctor", "--json").stdout)["checks"]
    assert [each for each in checks if each["level"] == "failed"] == []


def test_request_is_found_in_the_logs_by_its_id(namespace):
    request_id = uuid.uuid4().hex
    path = f"/api/v1/namespaces/{namespace}/services/{RELEASE}-serve-svc:{SERVE_PORT}/proxy{HEALTH}"
    assert KubernetesApi().through(path, {"X-Request-ID": request_id}).status == 200
    until_s = time.monotonic() + LOGGED_WITHIN_S
    found = ""
    while not found and time.monotonic() < until_s:
        found = cluster(namespace, "logs", request_id, "--since", "5m").stdout
    assert request_id in found
