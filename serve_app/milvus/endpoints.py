"""Calls to whichever proxy of Milvus answers, within a deadline."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from pymilvus import AsyncMilvusClient

from serve_app.config import MilvusConfig
from serve_app.errors import DeadlineExceeded, FailingOver, IndexMissing, MilvusUnavailable
from serve_app.milvus.client import async_client, leave_to_grpc, translated
from serve_app.resilience import Circuit, Latencies, RetryBudget, back_off_s

T = TypeVar("T")

RETRY_SHARE = 0.1
RETRY_RESERVE = 1_000.0
"""Attempts kept for a failover: while a node's lease runs out, each second search may meet it."""
HEDGE_SHARE = 0.05
HEDGE_RESERVE = 20.0
"""Hedges are kept to the slowest searches, lest a slow server get twice the work and retries get nothing."""
PARTIAL_ATTEMPTS = 8
"""How often an answer of a part of the index is asked for again: a shopper rather has a part than waits."""
MOST_CALLS = 8
"""Calls under way at one proxy: half as many after one that failed, twice as many after one that succeeded. When a
server is back, those who waited do not run it down at once."""
ONLY_PROXY_SHARE = 0.75
"""Share of a search's time that an attempt gets where there is no other proxy: one that is slow and alive answers in
the end, and would only be given the same work twice. The rest is for one attempt more."""
SHORTEST_ATTEMPT_S = 0.02
SHORTEST_HEDGE_S = 0.01


class Endpoint:
    """Hold the connection to one proxy."""

    def __init__(self, uri: str, config: MilvusConfig, attempt_s: float) -> None:
        self.uri = uri
        self.circuit = Circuit()
        self.latencies = Latencies()
        self.window = MOST_CALLS
        """How many calls it is to get at once."""
        self._config = config
        self._attempt_s = attempt_s
        self._client: AsyncMilvusClient | None = None
        self._connecting = asyncio.Lock()
        self._exits = AsyncExitStack()

    async def attempt(self, call: Callable[[AsyncMilvusClient], Awaitable[T]]) -> T:
        """Make a call within `attempt_s`, and learn from how it ends.

        Raises MilvusUnavailable, also when the time is over, and what else the call's error means.
        """
        started_s = time.monotonic()
        self.circuit.begin(started_s, self._attempt_s)
        try:
            with translated():
                async with asyncio.timeout(self._attempt_s):
                    answer = await call(await self._connected())
        except DeadlineExceeded as error:
            self.failed()
            # The caller's own deadline may still be far: what ran out is the time that Milvus is given.
            raise MilvusUnavailable(f"{error.message}; try again shortly") from error
        except MilvusUnavailable:
            self.failed()
            raise
        self.circuit.succeed()
        self.window = min(MOST_CALLS, 2 * self.window)
        self.latencies.add(time.monotonic() - started_s)
        return answer

    def failed(self) -> None:
        self.circuit.fail(time.monotonic())
        self.window = max(1, self.window // 2)

    async def _connected(self) -> AsyncMilvusClient:
        """Connect once: the client itself makes one connection per call that finds none."""
        if self._client is None:
            async with self._connecting:
                if self._client is None:
                    client = await self._exits.enter_async_context(async_client(self._config, self.uri))
                    await leave_to_grpc(client)
                    self._client = client
        return self._client

    async def close(self) -> None:
        await self._exits.aclose()


Call = Callable[[Endpoint], Awaitable[T]]
"""Make one attempt through `Endpoint.attempt`."""


class Endpoints:
    """Make calls that change nothing; use it in one event loop.

    An attempt takes `config.attempt_timeout_s` at most, where one proxy is all there is ONLY_PROXY_SHARE of
    `config.search_deadline_s`; a call with all its attempts `config.search_deadline_s`. What may pass is tried again
    after a jittered wait, at another proxy if there is one; an attempt that is slower than 95 % of the last ones is
    doubled there. One budget bounds both. While no proxy answers, calls wait and one at a time tries. `on_sign` hears
    when a proxy answers that the index can't, `may_pass` tells an index that is being loaded
    from one that is missing.
    """

    def __init__(
        self,
        uris: Sequence[str],
        config: MilvusConfig,
        on_sign: Callable[[], None],
        may_pass: Callable[[Endpoint], Awaitable[bool]],
    ) -> None:
        self._attempt_s = config.attempt_timeout_s
        if len(uris) == 1:
            self._attempt_s = max(self._attempt_s, ONLY_PROXY_SHARE * config.search_deadline_s)
        self._endpoints = [Endpoint(uri, config, self._attempt_s) for uri in uris]
        self._turn = itertools.cycle(range(len(self._endpoints)))
        self._deadline_s = config.search_deadline_s
        self._on_sign = on_sign
        self._may_pass = may_pass
        self._budget = RetryBudget(RETRY_SHARE, RETRY_RESERVE)
        self._hedges = RetryBudget(HEDGE_SHARE, HEDGE_RESERVE)

    async def run(
        self, call: Call[T], whole: Callable[[T], bool] = lambda _: True, end_s: float = math.inf
    ) -> tuple[T, bool]:
        """Return an answer, and whether it is `whole`, before `end_s` of the monotonic clock.

        Raises the last attempt's error: MilvusUnavailable, IndexMissing, or at once what another attempt can't mend.
        """
        end_s = min(end_s, time.monotonic() + self._deadline_s)
        self._budget.earn()
        self._hedges.earn()
        partial: T | None = None
        error = MilvusUnavailable("no proxy of Milvus answers; try again shortly")
        last: Endpoint | None = None
        for attempt in itertools.count(1):
            endpoint = await self._available(last, end_s)
            if endpoint is None:
                break
            try:
                async with asyncio.timeout(end_s - time.monotonic()):
                    answer = await self._hedged(endpoint, call)
            except TimeoutError:
                break
            except MilvusUnavailable as failure:
                error = failure
                if isinstance(failure, FailingOver):
                    self._on_sign()
            except IndexMissing as failure:
                if not await self._is_loading(endpoint):
                    raise
                error = MilvusUnavailable(failure.message)
                endpoint.failed()
                self._on_sign()
            else:
                if whole(answer):
                    return answer, True
                partial = answer
            wait_s = back_off_s(attempt, random.random)
            late = time.monotonic() + wait_s + SHORTEST_ATTEMPT_S >= end_s
            enough = partial is not None and attempt >= PARTIAL_ATTEMPTS
            if enough or late or not self._budget.spend():
                break
            last = endpoint
            await asyncio.sleep(wait_s)
        if partial is not None:
            return partial, False
        raise error

    async def close(self) -> None:
        """Close the connections; calls after it fail."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def _available(self, last: Endpoint | None, end_s: float) -> Endpoint | None:
        """Return a proxy that may be called, rather another than the last; None where none will in time."""
        while True:
            now_s = time.monotonic()
            first = next(self._turn)
            turned = self._endpoints[first:] + self._endpoints[:first]
            waits = {endpoint: endpoint.circuit.wait_s(now_s) for endpoint in turned}
            ready = [endpoint for endpoint in turned if waits[endpoint] == 0]
            if ready:
                chosen = next((endpoint for endpoint in ready if endpoint is not last), ready[0])
                # From here on, or all who wait would try with this one, and spend the budget at once.
                chosen.circuit.begin(now_s, self._attempt_s)
                return chosen
            wait_s = min(waits.values())
            if now_s + wait_s + SHORTEST_ATTEMPT_S >= end_s:
                return None
            await asyncio.sleep(wait_s)

    def _second(self, first: Endpoint) -> Endpoint | None:
        now_s = time.monotonic()
        others = (endpoint for endpoint in self._endpoints if endpoint is not first)
        return next((endpoint for endpoint in others if endpoint.circuit.wait_s(now_s) == 0), None)

    async def _hedged(self, endpoint: Endpoint, call: Call[T]) -> T:
        usual_s = endpoint.latencies.p95_s() if len(self._endpoints) > 1 else None
        if usual_s is None:
            return await call(endpoint)
        tasks = {asyncio.ensure_future(call(endpoint))}
        try:
            done, tasks = await asyncio.wait(tasks, timeout=max(usual_s, SHORTEST_HEDGE_S))
            if done:
                return done.pop().result()
            second = self._second(endpoint)
            if second is not None and self._hedges.spend() and self._budget.spend():
                tasks.add(asyncio.ensure_future(call(second)))
            while True:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                answered = [task for task in done if task.exception() is None]
                if answered or not tasks:
                    return (answered or [*done])[0].result()
        finally:
            for task in tasks:
                task.cancel()

    async def _is_loading(self, endpoint: Endpoint) -> bool:
        try:
            return await self._may_pass(endpoint)
        except MilvusUnavailable:
            return True
