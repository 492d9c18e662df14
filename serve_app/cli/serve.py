"""`shoplens serve`."""

from __future__ import annotations

import signal
import socket
import threading
import time
from typing import Any

import httpx
from rich.console import Console

from serve_app.callers import make_access
from serve_app.cli.local import milvus_uri, need_models, set_ray_environment
from serve_app.config import IMPORTED, Config
from serve_app.errors import BadConfig
from serve_app.telemetry import LOG_FILE

READY_TIMEOUT_S = 60.0
POLL_S = 0.2


def serve(config: Config, console: Console) -> None:
    """Serve on this machine until SIGINT or SIGTERM."""
    make_access(config)
    need_models(config)
    _check_port(config.http.host, config.http.port, "--port")
    _check_port(config.http.host, config.http.metrics_port, "http.metrics_port")
    set_ray_environment()
    signals = _Signals()
    signals.take()
    try:
        with milvus_uri(config, console) as uri:
            _serve(_as_served(config, uri), console, signals)
    except KeyboardInterrupt:
        console.print("Stopped.")


def _as_served(config: Config, uri: str) -> Config:
    changed: dict[str, Any] = {"milvus": config.milvus.model_copy(update={"uri": uri})}
    if config.page.image_folders is None and config.milvus.uri is None:
        changed["page"] = config.page.model_copy(update={"image_folders": IMPORTED})
    return config.model_copy(update={**changed, "log_file": config.log_file or config.data_dir / LOG_FILE})


def _serve(config: Config, console: Console, signals: _Signals) -> None:
    address = f"http://{config.http.host}:{config.http.port}"
    with console.status("starting Ray …") as status:
        from serve_app.app import local_ray, serving

        with local_ray(config):
            # Once more: Ray has put its own in place, which end this process at once and leave others behind.
            signals.take()
            status.update("starting the service, loading the models …")
            with serving(config):
                reason = _wait_until_ready(address)
                status.stop()
                console.print(f"Serving on {address}, API at {address}/docs, log in {config.log_file}", soft_wrap=True)
                console.print("Ready." if reason is None else f"Not ready yet: {reason}", soft_wrap=True)
                signals.wait()
                console.print("Stopping, searches in work first …")


class _Signals:
    """Turn SIGINT and SIGTERM into the end of `wait`, or into KeyboardInterrupt before and after it."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._waiting = False

    def take(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        self._waiting = True
        self._stopped.wait()
        self._waiting = False

    def _on_signal(self, _number: int, _frame: object) -> None:
        if not self._waiting:
            raise KeyboardInterrupt
        self._stopped.set()


def _wait_until_ready(address: str) -> str | None:
    """Return None once the service is ready, or what it still lacks at the deadline."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    reason = "the service does not answer"
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        try:
            answer = httpx.get(f"{address}/v2/health/ready", timeout=2)
        except httpx.HTTPError as error:
            reason = str(error)
            continue
        if answer.status_code == httpx.codes.OK:
            return None
        reason = answer.json().get("reason", reason)
        if _NO_INDEX in reason:
            break
    return reason


_NO_INDEX = "shoplens import"
"""An index that is missing does not come by waiting: the reason names the command that makes one."""


def _check_port(host: str, port: int, option: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadConfig(f"{host}:{port} can't be used ({error.strerror}); choose another {option}") from error
