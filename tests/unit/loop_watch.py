"""A watch over an event loop: what kept it from turning, and where."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Self

BEAT_S = 0.01
IDLE = "selectors.py"
"""Where a loop waits for something to do, and for a processor or the interpreter's lock when that has come."""


class LoopWatch:
    """Note the stack of whatever keeps the running event loop for longer than `limit_s`.

    The time in which its thread was ready to run and had no processor is not counted, where the kernel tells it: a busy
    machine is no fault of the code.
    """

    def __init__(self, limit_s: float) -> None:
        self.stalls: list[str] = []
        self._limit_s = limit_s
        self._done = threading.Event()

    async def __aenter__(self) -> Self:
        self._thread, self._native = threading.get_ident(), threading.get_native_id()
        self._seen = self._moment()
        self._beating = asyncio.create_task(self._beat())
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        self._beating.cancel()
        await asyncio.to_thread(self._watcher.join)

    def _moment(self) -> tuple[float, float]:
        """Return the time, and how long the loop's thread has waited for a processor, in seconds."""
        try:
            waited_ns = int(Path(f"/proc/self/task/{self._native}/schedstat").read_text().split()[1])
        except (OSError, IndexError):
            waited_ns = 0
        return time.monotonic(), waited_ns / 1e9

    async def _beat(self) -> None:
        while True:
            self._seen = self._moment()
            await asyncio.sleep(BEAT_S)

    def _watch(self) -> None:
        told = None
        while not self._done.wait(BEAT_S):
            seen = self._seen
            (then_s, waited_then_s), (now_s, waited_s) = seen, self._moment()
            if seen is told or now_s - then_s - (waited_s - waited_then_s) < self._limit_s:
                continue
            stack = traceback.extract_stack(sys._current_frames()[self._thread])
            if not stack[-1].filename.endswith(IDLE):
                told = seen
                self.stalls.append("".join(stack.format()))
