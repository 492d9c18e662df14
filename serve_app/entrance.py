"""The way into the service: as much as it can answer, each call until its deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from serve_app.admission import Admission
from serve_app.config import IngressConfig
from serve_app.domain import Terms
from serve_app.errors import DeadlineExceeded
from serve_app.scaling import LoopMeter

PATIENT_PART = 0.5
"""Part of a search's time that it may wait for others, or for replicas that are to come."""
GRACE_S = 0.1
"""Stages end at a search's deadline by themselves, and say more of it."""

T = TypeVar("T")


class Entrance:
    """Take calls on, and bound how long they last."""

    def __init__(
        self,
        config: IngressConfig,
        deadline_s: float,
        *,
        check_index: Callable[[], None],
        is_patient: Callable[[], bool],
    ) -> None:
        """Take calls on that need the index while `check_index` raises nothing.

        `is_patient` tells whether searches may wait for replicas that are to come.
        """
        self.deadline_s = deadline_s
        self._goal_s = config.latency_goal_s
        self._check_index = check_index
        self._is_patient = is_patient
        self._admission = Admission(
            most=config.max_in_flight, goal_s=config.latency_goal_s, last_s=math.inf, now_s=time.monotonic()
        )
        self.meter = LoopMeter(time.monotonic(), time.process_time())

    @property
    def in_work(self) -> int:
        """Return the searches that were taken on and have not ended."""
        return self._admission.in_work

    @property
    def capacity(self) -> float:
        """Return the searches per second that are known to be possible; 0 while that is unknown."""
        return self._admission.capacity

    def report(self) -> dict[str, float]:
        """Return what Ray Serve's autoscaling asks of a replica."""
        return self.meter.report(time.monotonic(), time.process_time())

    async def admitted(
        self,
        work: Callable[[Terms], Awaitable[T]],
        bulk: bool = False,
        *,
        needs_index: bool = True,
        spent_s: float = 0.0,
    ) -> T:
        """Work within what is left of a search's time, of which `spent_s` are over.

        Raises Overloaded where it is not taken on, DeadlineExceeded where it takes too long, and what `work` raises.
        """
        with self.meter.call():
            if needs_index:
                self._check_index()
            return await self._bounded(work, bulk, self.deadline_s - spent_s)

    async def _bounded(self, work: Callable[[Terms], Awaitable[T]], bulk: bool, seconds: float) -> T:
        self._admission.last_s = PATIENT_PART * self.deadline_s
        self._admission.goal_s = self._admission.last_s if self._is_patient() else self._goal_s
        self._admission.admit(time.monotonic(), bulk=bulk)
        answered = False
        try:
            terms = Terms.within(seconds, bulk=bulk, demand=self._admission.demand)
            answer = await in_time(work(terms), terms)
            answered = True
            return answer
        finally:
            self._admission.leave(time.monotonic(), answered=answered, bulk=bulk)


async def in_time(work: Awaitable[T], terms: Terms) -> T:
    """Return what comes of the work; raises DeadlineExceeded where it does not end by itself in time."""
    try:
        async with asyncio.timeout(terms.left_s() + GRACE_S):
            return await work
    except TimeoutError as error:
        raise DeadlineExceeded("the search took longer than it may; try again") from error
