"""Locust's part of the load test: `locust -f scripts/load_shopper.py`, told what to do by SHOPLENS_LOAD_JOB.

Shoppers take the next due search from one schedule. The schedule does not wait for answers, so a slow service gets
no easier load; a search's latency counts from the moment it was due. Where Locust runs as master with workers, each
worker sends its share of the schedule, and the master writes down what became of all of them.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from urllib3.filepost import encode_multipart_formdata

from scripts.load_schedule import Schedule, Share
from scripts.measuring import key_headers

GRACE_S = 0.5
"""Time for all shoppers to start."""
TOLD = "shoplens-answers"
"""The message by which a worker tells the master what became of searches."""
TELL = 500
"""So many at once."""


class Job:
    """Hold the schedule, the photos, and what became of searches: in a file, or on the way to the master."""

    def __init__(self, path: Path, environment: Environment) -> None:
        job = json.loads(path.read_text(encoding="utf-8"))
        self.arrivals = Share(**job["share"]).of(Schedule(**job["schedule"]).arrivals(job["seed"]))
        self.photos = [_encoded(Path(photo)) for photo in job["photos"]]
        self.path: str = job["path"]
        self.timeout_s: float = job["timeout_s"]
        self.master = environment.runner if isinstance(environment.runner, WorkerRunner) else None
        self.untold: list[dict[str, Any]] = []
        self.answers = Path(job["answers"]).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        self.starts = Path(job["starts"]).open("w", encoding="utf-8")  # noqa: SIM115 - the same
        self.start_s = time.monotonic() + GRACE_S
        self.started_at = time.time() + GRACE_S
        Path(job["started"]).write_text(str(self.start_s), encoding="utf-8")
        self.under_way = 0
        self.is_over = False

    def note(self, answer: dict[str, Any]) -> None:
        if self.master is None:
            self.answers.write(json.dumps(answer) + "\n")
            return
        self.untold.append(answer)
        if len(self.untold) >= TELL:
            self.tell()

    def tell(self, started_at: float | None = None) -> None:
        """Tell the master what it does not know yet; the last time, when the worker started, by the clock."""
        assert self.master is not None
        self.master.send_message(TOLD, {"answers": self.untold, "started_at": started_at})
        self.untold = []

    def heard(self, told: dict[str, Any]) -> None:
        """Note what a worker told."""
        for answer in told["answers"]:
            self.note(answer)
        if told["started_at"] is not None:
            self.starts.write(f"{told['started_at']}\n")

    def close(self) -> None:
        self.answers.close()
        self.starts.close()


def _encoded(photo: Path) -> tuple[bytes, str]:
    return encode_multipart_formdata({"photo": (photo.name, photo.read_bytes(), "image/jpeg")})


JOB: Job | None = None


@events.init.add_listener  # type: ignore[untyped-decorator]
def _init(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(TOLD, _heard)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _start(environment: Environment, **_: Any) -> None:
    global JOB
    JOB = Job(Path(os.environ["SHOPLENS_LOAD_JOB"]), environment)


def _heard(msg: Any, **_: Any) -> None:
    assert JOB is not None
    JOB.heard(msg.data)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _quit(**_: Any) -> None:
    if JOB is not None:
        JOB.close()


class Shopper(FastHttpUser):
    """Send one search after the other, each when it is due."""

    wait_time = constant(0)
    concurrency = 1

    @task
    def search(self) -> None:
        assert JOB is not None
        due = next(JOB.arrivals, None)
        if due is None:
            self._rest()
            return
        JOB.under_way += 1
        number, due_s = due
        gevent.sleep(max(0.0, JOB.start_s + due_s - time.monotonic()))
        sent_s = time.monotonic() - JOB.start_s
        body, content_type = JOB.photos[number % len(JOB.photos)]
        client: Any = self.client
        with client.post(
            JOB.path,
            data=body,
            headers={"Content-Type": content_type, "X-Request-ID": f"load-{number}", **key_headers()},
            catch_response=True,
            timeout=JOB.timeout_s,
        ) as response:
            ended_s = time.monotonic() - JOB.start_s
            JOB.note({"due_s": due_s, "sent_s": sent_s, "ended_s": ended_s, **_said(response)})
            response.success()
        JOB.under_way -= 1

    def _rest(self) -> None:
        """End the test with the last answer."""
        assert JOB is not None
        if not JOB.under_way and not JOB.is_over:
            JOB.is_over = True
            if JOB.master is not None:
                JOB.tell(JOB.started_at)
            # From a greenlet of its own: it ends all shoppers, this one too.
            gevent.spawn(self.environment.runner.quit)
        gevent.sleep(0.2)


def _said(response: Any) -> dict[str, Any]:
    status = int(response.status_code or 0)
    if not status:
        return {"status": 0, "code": "broken_connection"}
    try:
        body = json.loads(response.content or b"{}")
    except ValueError:
        return {"status": status, "code": "not_ours"}
    if status != 200:
        return {
            "status": status,
            "code": body.get("code", "not_ours"),
            "retry_after": response.headers.get("retry-after"),
        }
    if not isinstance(body, dict) or "timings_ms" not in body:
        # Of a service that is compared with this one.
        return {"status": status, "code": "ok"}
    return {"status": status, "code": "ok", "degraded": body["degraded"], "timings_ms": body["timings_ms"]}
