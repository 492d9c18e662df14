"""`shoplens cluster …` against a release that runs and has an index.

KUBECONFIG names the cluster, SHOPLENS_URL the service, SHOPLENS_KEY a key of its own; SHOPLENS_NAMESPACE and
SHOPLENS_RELEASE if need be. All is read only, but for one search.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest
from PIL import Image

from scripts.measuring import key_headers
from serve_app.cluster.kubernetes_api import KubernetesApi

RELEASE = os.environ.get("SHOPLENS_RELEASE", "shoplens")
SEARCH_TIMEOUT_S = 60.0
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


def test_search_is_found_in_the_logs_by_its_id(namespace):
    url = os.environ.get("SHOPLENS_URL")
    if not url:
        pytest.fail("SHOPLENS_URL does not name the service, which this test sends a photo to")
    photo = io.BytesIO()
    Image.new("RGB", (320, 240), (200, 60, 40)).save(photo, "JPEG")
    request_id = uuid.uuid4().hex
    answer = httpx.post(
        f"{url}/v1/search",
        files={"photo": ("photo.jpg", photo.getvalue(), "image/jpeg")},
        headers={"X-Request-ID": request_id, **key_headers()},
        timeout=SEARCH_TIMEOUT_S,
    )
    assert answer.status_code == 200, answer.text
    until_s = time.monotonic() + LOGGED_WITHIN_S
    found = ""
    while not found and time.monotonic() < until_s:
        found = cluster(namespace, "logs", request_id, "--since", "5m").stdout
    assert '"message": "search"' in found
    assert request_id in found
