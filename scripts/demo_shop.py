"""The demo's shop for benchmarks and load tests: its catalogue imported, its service started, its photos to send."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from scripts.demo_catalogue import by_model, fetch_photos, held_out, write_manifest
from scripts.measuring import free_port, wait_until
from serve_app.config import default_data_dir, load_config
from serve_app.weights.fetching import fetch_detector

START_TIMEOUT_S = 180.0


def default_folder() -> Path:
    """Return the folder that the demo itself uses."""
    return default_data_dir(os.environ).with_name("shoplens-demo")


def prepare(data_dir: Path) -> list[Path]:
    """Fill the folder as the demo does, and return the photos to search with.

    Raises BadWeights, CantFetch and CalledProcessError.
    """
    fetch_detector(load_config(data_dir=data_dir).detector_weights, lambda text: print(text, file=sys.stderr))
    fetch_photos(data_dir / "photos")
    manifest = write_manifest(data_dir)
    command = [sys.executable, "-m", "serve_app.cli", "import", str(manifest), "--data-dir", str(data_dir)]
    subprocess.run(command, check=True)
    return queries(data_dir)


def queries(data_dir: Path) -> list[Path]:
    """Return the photos that are kept out of the catalogue."""
    return sorted(held_out(by_model(data_dir / "photos")).values())


@contextmanager
def serving(data_dir: Path, settings: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield a running `shoplens serve` and its address; it ends with the block.

    `settings` are environment variables. Raises CalledProcessError where it does not start, TimeoutError.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environ = {**os.environ, "SHOPLENS_HTTP__METRICS_PORT": str(free_port()), **settings}
    command = [sys.executable, "-m", "serve_app.cli", "serve", "--data-dir", str(data_dir), "--port", str(port)]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)

    def ready() -> bool:
        if process.poll() is not None:
            raise subprocess.CalledProcessError(process.returncode, command)
        try:
            return httpx.get(f"{url}/v2/health/ready", timeout=2).is_success
        except httpx.HTTPError:
            return False

    try:
        wait_until(ready, timeout_s=START_TIMEOUT_S, what="start of the service")
        yield process, url
    finally:
        process.terminate()
        process.wait()
