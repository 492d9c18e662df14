"""A cluster under steady searches and writes, on which drills are done."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

from scripts.drill_counts import Answer, Counts, Ledger, Outcome, count, goals
from scripts.drill_load import (
    CATALOGUE,
    FINGERPRINT,
    Asked,
    Searcher,
    Searches,
    Shop,
    Writes,
    capacity,
    fill,
    stored_prices,
)
from scripts.measuring import Goal, Report
from scripts.milvus_cluster import MilvusCluster
from scripts.milvus_harms import Drill, Index, Site
from serve_app.config import MilvusConfig
from serve_app.milvus.client import connect

LEAD_S = 12.0
"""Steady searches before the harm: a new searcher can tell parts of an index from the whole after 6 s."""
TAIL_S = {True: 7.0, False: 20.0}
"""Steady searches after it, by `quick`: a replica that is back gives short answers for up to 5 s."""
CALM_S = 3.0
LONGEST_TAIL_S = 60
AT_ONCE = 8
"""Searches in flight while the capacity is measured."""
MOST_ERRORS = 5
"""Different errors of one drill that the report keeps."""
WARM_UP_S = 4.0
LOAD = 0.5
"""Share of the capacity that is asked for."""
SETTLE_TIMEOUT_S = 120.0
SETTLE_DEADLINE_S = 5.0


class Field:
    """Run drills on one cluster, one after the other, each when the last one's harm is over."""

    def __init__(self, cluster: MilvusCluster, shop: Shop, quick: bool, say: Callable[[str], None]) -> None:
        self.cluster = cluster
        self._shop = shop
        self._tail_s = TAIL_S[quick]
        self._say = say
        self._config = MilvusConfig(
            num_shards=2, replica_number=2, num_partitions=4, write_timeout_s=10, write_deadline_s=60
        )
        self.described = self._config.model_dump(mode="json", exclude={"password", "password_file", "user", "uri"})
        self._clients = [connect(self._config, uri) for uri in cluster.uris]
        self._searcher = Searcher(cluster.uris, self._config, SETTLE_DEADLINE_S)
        self._through_each = {uri: Searcher([uri], self._config, SETTLE_DEADLINE_S) for uri in cluster.uris}
        self._ledger = Ledger()
        self._writes = Writes(self._clients[0], self._config, self._shop, self._ledger)
        self._site = Site(cluster, self._clients, Index(CATALOGUE, FINGERPRINT, self._config))
        self.rate = 0.0

    async def open(self) -> None:
        """Fill the index and learn its undisturbed answers and its capacity."""
        self._say("filling the index")
        await asyncio.to_thread(fill, self._clients[0], self._config, self._shop)
        self._say("waiting for the index")
        self._shop.wanted = self._shop.exact
        await self._settle()
        self._shop.wanted = [ids or () for ids, _, _ in await self._ask_all(self._searcher)]
        self._say("measuring the capacity")
        self.rate = LOAD * await capacity(self._searcher, self._shop, WARM_UP_S, SETTLE_DEADLINE_S, AT_ONCE)

    async def drill(self, drill: Drill, report: Report) -> None:
        """Do one drill and add its rows and goals to the report."""
        self._say(drill.name)
        searcher = Searcher(self.cluster.uris, self._config, drill.deadline_s)
        searches = Searches(searcher, self._shop, self.rate, drill.deadline_s)
        stop = asyncio.Event()
        searching = asyncio.create_task(searches.run(stop))
        self._writes.start()
        try:
            await asyncio.sleep(LEAD_S)
            harmed_s, harmed = searches.now_s(), time.monotonic()
            mend = await asyncio.to_thread(drill.harm, self._site)
            await asyncio.sleep(max(0.0, drill.held_s - (searches.now_s() - harmed_s)))
            mended_s = searches.now_s()
            await asyncio.to_thread(mend)
            fell = self._revive()
            await asyncio.sleep(self._tail_s)
            await self._until_answered(searches)
        finally:
            stop.set()
            ended_s = searches.now_s()
            await searching
            await asyncio.to_thread(self._writes.stop)
            await searcher.close()
        counts = count(searches.answers, harmed_s=harmed_s, mended_s=mended_s, ended_s=ended_s)
        self._say(f"{drill.name}: settling")
        await self._settle()
        if counts.errors:
            report.settings["errors"][drill.name] = counts.errors[:MOST_ERRORS]
        report.rows.append(_row(drill, self.cluster.lease_s, counts))
        report.goals += goals(
            drill.name, drill.promise, counts, lease_s=self.cluster.lease_s, deadline_s=drill.deadline_s
        )
        await self._check_writes(drill, harmed, fell, report)

    async def _until_answered(self, searches: Searches) -> None:
        """Go on with the searches until none has failed for a while, so that a long outage is seen to its end."""
        for _ in range(LONGEST_TAIL_S):
            if not searches.failed_within(CALM_S):
                return
            await asyncio.sleep(1)

    async def close(self) -> None:
        self._writes.stop()
        for searcher in (self._searcher, *self._through_each.values()):
            await searcher.close()
        for client in self._clients:
            client.close()

    def _revive(self) -> list[str]:
        """Start roles that ended by themselves, as Milvus's do when a busy machine costs them their lease."""
        fell = [name for name, pid in self.cluster.status().items() if pid is None]
        for name in fell:
            self.cluster.start_role(name)
        return fell

    async def _settle(self) -> None:
        """Wait until all nodes serve and every query is answered as when undisturbed, by every proxy, twice."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        well = 0
        while well < 2:
            await asyncio.to_thread(self._revive)
            amiss = await asyncio.to_thread(self._site.amiss) or await self._answered_amiss()
            well = 0 if amiss else well + 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"the index wasn't as before in {SETTLE_TIMEOUT_S:.0f} s: {amiss}")
            await asyncio.sleep(0.5)

    async def _answered_amiss(self) -> str:
        """Say what is wrong with the answers; '' where nothing is."""
        for uri, searcher in self._through_each.items():
            asked = zip(self._shop.wanted, await self._ask_all(searcher), strict=True)
            answers = [Answer(0, 0, wanted, ids, degraded, error) for wanted, (ids, degraded, error) in asked]
            amiss = [answer for answer in answers if answer.outcome is not Outcome.GOOD]
            if amiss:
                return f"{uri} answers {len(amiss)} of {len(answers)} amiss: {amiss[0].outcome}, {amiss[0]}"
        return ""

    async def _ask_all(self, searcher: Searcher) -> list[Asked]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def ask(query: Any) -> Asked:
            async with turn:
                return await searcher.ask(query, SETTLE_DEADLINE_S)

        return await asyncio.gather(*(ask(query) for query in self._shop.queries))

    async def _check_writes(self, drill: Drill, harmed: float, fell: list[str], report: Report) -> None:
        image_ids = self._ledger.image_ids()
        stored = await asyncio.to_thread(stored_prices, self._clients[0], image_ids)
        lost, back = self._ledger.compare(stored)
        times = [harmed, *(at for at in self._writes.acknowledged if at > harmed)]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        report.rows.append(
            {
                "drill": drill.name,
                "writes": len(self._writes.acknowledged),
                "failed writes": len(self._writes.failed),
                "longest wait s": max(pauses, default=float("nan")),
                "rows checked": len(image_ids),
                "lost": len(lost),
                "came back": len(back),
                "ended by itself": ", ".join(fell),
            }
        )
        for name, ids in (("lost", lost), ("came back", back)):
            report.goals.append(Goal(f"{drill.name}: acknowledged writes {name}", float(len(ids)), 0.0, "lower"))


def _row(drill: Drill, lease_s: float, counts: Counts) -> dict[str, Any]:
    return {
        "drill": drill.name,
        "lease s": lease_s,
        "deadline s": drill.deadline_s,
        "requests": counts.requests,
        **{name.value: counts.by_outcome[name] for name in (Outcome.FAILED, Outcome.SHORT, Outcome.WRONG)},
        "flagged": counts.by_outcome[Outcome.FLAGGED],
        "p50 ms": counts.p50_ms,
        "p99 ms": counts.p99_ms,
        "longest gap s": counts.gap_s,
        "last failure s": counts.last_failure_s,
        "recovery s": counts.recovery_s,
    }
