"""`shoplens serve` for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from scripts.measuring import descendants, free_port, replica_pids, wait_until

START_TIMEOUT_S = 180


class Service:
    """Run `shoplens serve` on a data directory until the block ends."""

    first_answer: httpx.Response
    first_ready: httpx.Response

    def __init__(self, data_dir: Path, weights: Path, **settings: str) -> None:
        """`settings` are variables without their SHOPLENS_."""
        self.data_dir = data_dir
        self.port, metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (data_dir / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(weights, data_dir / "weights/yolo26n.pt")
        self._environ = {
            **os.environ,
            "SHOPLENS_DATA_DIR": str(data_dir),
            "SHOPLENS_HTTP__METRICS_PORT": str(metrics_port),
            "SHOPLENS_INGRESS__MAX_IN_FLIGHT": "8",
            # A replica of a machine that runs other tests beside takes half a minute to start.
            "SHOPLENS_LIMITS__DEADLINE_S": "60",
            "SHOPLENS_LIMITS__COLD_DEADLINE_S": "90",
            **{f"SHOPLENS_{name}": value for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        self.output = (self.data_dir / "serve.out").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serve_app.cli", "serve", "--port", str(self.port)],
            env=self._environ,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        wait_until(self._answers, timeout_s=START_TIMEOUT_S, what="start of the service")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        self.output.close()

    def search(self, photo: Path | bytes, headers: dict[str, str] | None = None, **parameters: Any) -> httpx.Response:
        data = photo if isinstance(photo, bytes) else photo.read_bytes()
        return httpx.post(
            f"{self.url}/v1/search", files={"photo": data}, params=parameters, headers=headers, timeout=120
        )

    def shoplens(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data directory."""
        return subprocess.run(
            [sys.executable, "-m", "serve_app.cli", *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            check=check,
            timeout=600,
        )

    def descendants(self) -> list[int]:
        return descendants(self.process.pid)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError((self.data_dir / "serve.out").read_text())
        try:
            return httpx.get(f"{self.url}/v2/health/live", timeout=2).is_success
        except httpx.HTTPError:
            return False


def replica_pid(root: int, deployment: str) -> int:
    """Return the process of a deployment's one replica below `root`."""

    return int(wait_until(lambda: replica_pids(root, deployment), timeout_s=180, what=f"replica of {deployment}")[0])
