"""An import by the workers of a Ray cluster, into a Milvus server: a production's way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from scripts.measuring import free_port, wait_until
from scripts.servers import MilvusStandalone
from serve_app.collection import alias
from serve_app.config import MilvusConfig
from serve_app.milvus.client import connect
from serve_app.weights.loader import embedder_files, fingerprint

TIMEOUT_S = 600


@dataclass(frozen=True)
class Fleet:
    """A Ray cluster of one node, and a Milvus server."""

    ray: str
    milvus: str
    workdir: Path

    def shoplens_import(self, manifest: Path, *options: str) -> str:
        command = [sys.executable, "-m", "serve_app.cli", "import", str(manifest), "--data-dir", str(self.workdir)]
        environ = os.environ | {"SHOPLENS_MILVUS__URI": self.milvus}
        done = subprocess.run([*command, *options], env=environ, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, weights) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "weights").mkdir()
    (folder / "weights/yolo26n.pt").symlink_to(weights)
    standalone = MilvusStandalone(tmp_path_factory.mktemp("milvus"))
    standalone.start()
    port = free_port()
    command = ["--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=4"]
    command += ["--include-dashboard=false", f"--object-store-memory={2**28}", "--disable-usage-stats"]
    environ = os.environ | {"RAY_AUTH_MODE": "disabled", "SHOPLENS_MILVUS__URI": standalone.uri}
    environ |= {"PYTHONPATH": str(Path.cwd())}
    ray = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", *command], env=environ, stdout=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: _answers(port, environ), timeout_s=120, what="Ray's head")
        yield Fleet(f"127.0.0.1:{port}", standalone.uri, folder)
    finally:
        # Asked to end, a node waits half a minute for its work.
        for process in (*psutil.Process(ray.pid).children(recursive=True), ray):
            process.kill()
        ray.wait()
        standalone.stop()


def _answers(port: int, environ: dict[str, str]) -> bool:
    status = [str(Path(sys.executable).with_name("ray")), "status", f"--address=127.0.0.1:{port}"]
    return subprocess.run(status, env=environ, capture_output=True).returncode == 0


def rows(fleet: Fleet) -> dict[str, str]:
    """Return the hash of each row by its key."""
    client = connect(MilvusConfig(), fleet.milvus)
    name = alias("products", fingerprint(embedder_files(None)))
    found = client.query(
        name, filter='row_id != ""', output_fields=["row_id", "row_sha256"], limit=1000, consistency_level="Strong"
    )
    client.close()
    return {row["row_id"]: row["row_sha256"] for row in found}


def test_a_cluster_imports_what_a_laptop_does(fleet, radios):
    command = [sys.executable, "-m", "serve_app.cli", "import", str(radios.folder), "--data-dir", str(fleet.workdir)]
    refused = subprocess.run([*command, "--address", fleet.ray], capture_output=True, text=True)
    assert (refused.returncode, "milvus.uri" in refused.stderr) == (3, True)
    printed = fleet.shoplens_import(radios.folder, "--address", fleet.ray)
    assert f"{len(radios.images)} embedded" in printed
    first = rows(fleet)
    assert sum(key.endswith("#whole") for key in first) == len(radios.images)
    again = fleet.shoplens_import(radios.folder, "--address", fleet.ray)
    assert f"{len(radios.images)} unchanged" in again
    assert rows(fleet) == first


def test_metrics_are_served_while_it_runs(fleet, radios):
    port = free_port()
    command = [sys.executable, "-m", "serve_app.cli", "import", str(radios.folder), "--data-dir", str(fleet.workdir)]
    environ = os.environ | {"SHOPLENS_MILVUS__URI": fleet.milvus, "SHOPLENS_CATALOGUE": "metered"}
    process = subprocess.Popen([*command, "--metrics-port", str(port)], env=environ, stdout=subprocess.DEVNULL)
    seen = ""

    def embedded() -> bool:
        nonlocal seen
        try:
            seen = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=2).text
        except httpx.HTTPError:
            return False
        return 'shoplens_import_images_total{status="embedded"}' in seen

    try:
        wait_until(embedded, timeout_s=TIMEOUT_S, what="counts of embedded images")
    finally:
        process.wait(TIMEOUT_S)
    assert process.returncode == 0
    assert "shoplens_import_rows_written_total" in seen
    assert 'shoplens_import_work_seconds_total{part="embed"}' in seen
