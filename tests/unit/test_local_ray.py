"""A start of Ray that was too slow is made once more, without what the first one left."""

import subprocess
import sys
from pathlib import Path

import pytest
import ray

from serve_app import local_ray
from serve_app.errors import StageUnavailable

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class Start:
    """Stand in for `ray.init`: leave a process and fail, as often as it is told."""

    def __init__(self, fails: int, words: str = "The current node timed out during startup.") -> None:
        self._fails, self._words = fails, words
        self.left: list[subprocess.Popen[bytes]] = []

    def __call__(self, **options: object) -> None:
        self.left.append(subprocess.Popen([*SLEEP, str(Path(ray.__file__).parent / "raylet")]))
        if len(self.left) <= self._fails:
            raise RuntimeError(self._words)

    def end(self) -> None:
        for process in self.left:
            process.kill()
            process.wait()


def started(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    monkeypatch.setattr(ray, "init", start)
    local_ray.start(num_cpus=1)


def test_what_a_slow_start_left_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    start, other = Start(fails=1), subprocess.Popen(SLEEP)
    try:
        started(monkeypatch, start)
        first, second = start.left
        assert first.poll() is not None
        assert second.poll() is None
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        start.end()


def test_ray_that_never_comes_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(fails=local_ray.ATTEMPTS)
    try:
        with pytest.raises(StageUnavailable, match="Ray does not start"):
            started(monkeypatch, start)
        assert len(start.left) == local_ray.ATTEMPTS
    finally:
        start.end()


def test_other_errors_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Start(fails=1, words="no space left on device")
    try:
        with pytest.raises(StageUnavailable, match="no space left"):
            started(monkeypatch, start)
        assert len(start.left) == 1
    finally:
        start.end()
