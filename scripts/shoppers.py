"""Shoppers who search at a steady rate while harm is done to the service, and what they see of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import httpx

from scripts.load_schedule import Schedule
from scripts.measuring import Goal, Report, key_headers, percentile

DEADLINE_S = 5.0
BROKEN = ("broken_connection", "not_ours")
"""What a shopper's app tries once more."""
RETRY_AFTER_S = 0.5
"""At once would be too soon: for a moment the other node's proxy still sends to replicas that went with this one."""
PROBE_S = 0.5
"""How often the balancer looks for proxies that are back."""

Result = TypeVar("Result")
Harm = Callable[[], None]
Mend = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Moments:
    """Hold when harm was begun and done, and when it was mended, in seconds since the first search."""

    before_s: float
    after_s: float
    mended_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one search as a shopper saw it: the first answer's code, and the last one's."""

    due_s: float
    ended_s: float
    first: str
    last: str
    degraded: bool
    wrong: bool
    """It was searched in another model's index than its own."""


class Balancer:
    """Send to the proxies in turns, as what stands before them in a cluster does.

    One that a connection breaks at gets nothing until it is healthy again.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._client = client
        self._away: set[str] = set()
        self._urls = urls
        self._turn = 0

    def next(self) -> str:
        here = [url for url in self._urls if url not in self._away]
        self._turn += 1
        return (here or self._urls)[self._turn % len(here or self._urls)]

    def broke(self, url: str) -> None:
        self._away.add(url)

    async def probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            for url in list(self._away):
                with suppress(httpx.HTTPError):
                    if (await self._client.get(f"{url}/-/healthz")).is_success:
                        self._away.discard(url)


async def search(
    urls: Sequence[str], body: bytes, schedule: Schedule, harm_s: float, harm: Harm, mend: Mend, *, fresh: bool = False
) -> tuple[list[Seen], Moments]:
    """Search by a schedule, do harm after `harm_s` and wait until it is mended; return what was seen, and when.

    With `fresh`, each search opens a connection of its own, as behind a balancer of connections.
    """
    seen: list[Seen] = []
    loop = asyncio.get_running_loop()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0 if fresh else None)
    async with httpx.AsyncClient(headers=key_headers(), timeout=DEADLINE_S + 1, limits=limits) as client:
        balancer = Balancer(urls, client)
        probing = asyncio.create_task(balancer.probe())
        start_s = loop.time()

        async def one(due_s: float) -> None:
            await asyncio.sleep(max(0.0, start_s + due_s - loop.time()))
            first = last = await _ask(client, balancer, body)
            if first[0] in BROKEN:
                await asyncio.sleep(RETRY_AFTER_S)
                last = await _ask(client, balancer, body)
            seen.append(Seen(due_s, loop.time() - start_s, first[0], *last))

        searches = [asyncio.create_task(one(due_s)) for due_s in schedule.arrivals(seed=1)]
        await asyncio.sleep(harm_s)
        before_s = loop.time() - start_s
        await asyncio.to_thread(harm)
        after_s = loop.time() - start_s
        await mend()
        mended_s = loop.time() - start_s
        await asyncio.gather(*searches)
        probing.cancel()
    return seen, Moments(before_s, after_s, mended_s)


async def search_during(
    urls: Sequence[str], bodies: Sequence[bytes], rate: float, deadline_s: float, work: Callable[[], Result]
) -> tuple[list[Seen], Result]:
    """Search at a steady rate, one photo after the other, for as long as `work` takes.

    Returns what was seen, and the result of `work`.
    """
    seen: list[Seen] = []
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(headers=key_headers(), timeout=deadline_s + 1, limits=limits) as client,
        asyncio.TaskGroup() as searches,
    ):
        balancer = Balancer(urls, client)

        async def one(number: int, due_s: float) -> None:
            first = await _ask(client, balancer, bodies[number % len(bodies)])
            seen.append(Seen(due_s, loop.time() - start_s, first[0], *first))

        working = asyncio.create_task(asyncio.to_thread(work))
        for number in itertools.count():
            due_s = number / rate
            await asyncio.sleep(max(0.0, start_s + due_s - loop.time()))
            if working.done():
                break
            searches.create_task(one(number, due_s))
    return seen, working.result()


def judge(
    report: Report, name: str, seen: Sequence[Seen], moments: Moments, seconds: float, *, may_break: bool
) -> None:
    """Add the row and the goals of one drill; with `may_break`, what was in flight may fail before its retry."""
    in_flight = sum(each.due_s <= moments.after_s and each.ended_s >= moments.before_s for each in seen)
    raw = sum(each.first != "ok" for each in seen)
    after_retry = sum(each.last != "ok" for each in seen)
    wrong = sum(each.wrong for each in seen)
    report.goals += [
        Goal(f"{name}: failed, raw", raw, in_flight if may_break else 0, "lower"),
        Goal(f"{name}: failed after one retry of a broken connection", after_retry, 0, "lower"),
        Goal(f"{name}: searched in another model's index", wrong, 0, "lower"),
        Goal(f"{name}: seconds until it was mended, of those searched", moments.mended_s, seconds, "lower"),
    ]
    latencies = [each.ended_s - each.due_s for each in seen]
    answered = sorted(each.ended_s for each in seen if each.first == "ok")
    failed = [each.due_s - moments.after_s for each in seen if each.last != "ok"]
    report.rows.append({
        "drill": name,
        "searches": len(seen), "failed raw": raw, "failed after retry": after_retry, "in flight": in_flight,
        "wrong": wrong, "mended after s": moments.mended_s - moments.after_s,
        "degraded": sum(each.degraded for each in seen),
        "p50 ms": 1e3 * percentile(latencies, 0.5),
        "p99 ms": 1e3 * percentile(latencies, 0.99),
        "longest gap s": max((after - before for before, after in pairwise(answered)), default=seconds),
        "codes": ", ".join(sorted({each.first for each in seen} - {"ok"})) or "-",
        "failed, s after the harm": f"{min(failed):.1f} to {max(failed):.1f}" if failed else "-",
    })  # fmt: skip


async def _ask(client: httpx.AsyncClient, balancer: Balancer, body: bytes) -> tuple[str, bool, bool]:
    """Return the answer's code, whether it was degraded, and whether it is of another model's index."""
    url = balancer.next()
    try:
        answer = await client.post(f"{url}/v1/search", files={"photo": body})
    except httpx.ReadTimeout:
        return "timeout", False, False
    except httpx.TransportError:
        balancer.broke(url)
        return "broken_connection", False, False
    if answer.is_success:
        said = answer.json()
        wrong = said["model"] not in said["index"]["collection"]
        return "ok", bool(set(said["degraded"]) - {"no_object", "no_token"}), wrong
    if answer.headers.get("content-type") != "application/problem+json":
        return "not_ours", False, False
    return str(answer.json()["code"]), False, False
