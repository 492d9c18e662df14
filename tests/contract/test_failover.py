"""Searches go on, and tell the truth, while proxies and query nodes come and go."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest

from scripts.milvus_cluster import MilvusCluster
from serve_app.config import MilvusConfig
from serve_app.coverage import PARTIAL_INDEX
from serve_app.errors import MilvusUnavailable
from serve_app.milvus.searcher import MilvusSearcher
from tests.contract.engines import Engine, Index, Wire, eventually, settle, wire
from tests.contract.rows import embeddings, row

ROWS = [row(f"image-{number:04}") for number in range(400)]
NEVER_S = 60.0
"""Longer than any test waits."""


@pytest.fixture(scope="module")
def filled(lite: Engine) -> Index:
    index = lite.make_index("failover")
    index.writer().write(ROWS)
    return index


class Pair:
    """Hold a searcher that reaches one engine by two wires, as if it had two proxies."""

    def __init__(self, index: Index, wires: list[Wire], config: MilvusConfig) -> None:
        self.wires = wires
        self.searcher = MilvusSearcher([wire.uri for wire in wires], config, index.alias)

    async def finds(self, number: int = 0) -> bool:
        ((hit,),) = (await self.searcher.search(ROWS[number].vector[None], 1)).hits
        return hit.row_id == ROWS[number].row_id


async def paired(index: Index, config: MilvusConfig) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(wire(index.engine.uri)) for _ in range(2)]
        pair = Pair(index, wires, config)
        stack.push_async_callback(pair.searcher.close)
        yield pair


@pytest.fixture
async def pair(filled: Index) -> AsyncIterator[Pair]:
    async for made in paired(filled, MilvusConfig(attempt_timeout_s=1, search_deadline_s=10)):
        yield made


@pytest.fixture
async def patient_pair(filled: Index) -> AsyncIterator[Pair]:
    """Hold a pair whose attempts would never end by themselves."""
    async for made in paired(filled, MilvusConfig(attempt_timeout_s=NEVER_S, search_deadline_s=10)):
        yield made


async def test_all_searches_are_answered_while_a_proxy_is_lost(pair: Pair) -> None:
    assert await pair.finds()
    await pair.wires[0].cut()
    assert all(await asyncio.gather(*(pair.finds(number) for number in range(60))))
    await pair.wires[0].mend()
    await pair.wires[1].cut()
    assert all(await asyncio.gather(*(pair.finds(number) for number in range(60))))


async def test_all_searches_are_answered_while_a_proxy_hangs(pair: Pair) -> None:
    assert await pair.finds()
    pair.wires[0].hold()
    assert all(await asyncio.gather(*(pair.finds(number) for number in range(60))))


async def test_a_slow_search_is_tried_at_the_other_proxy(patient_pair: Pair) -> None:
    """With attempts that never end, only a second one beside the first brings an answer."""
    for number in range(100):
        assert await patient_pair.finds(number)
    patient_pair.wires[0].hold()
    assert [await patient_pair.finds(number) for number in range(4)] == [True] * 4


async def test_searches_wait_for_a_proxy_to_come_back(pair: Pair) -> None:
    assert await pair.finds()
    for lost in pair.wires:
        await lost.cut()
    waiting = [asyncio.ensure_future(pair.finds(number)) for number in range(30)]
    await asyncio.sleep(1)
    assert not any(search.done() for search in waiting)
    await pair.wires[1].mend()
    assert await asyncio.gather(*waiting) == [True] * 30


async def test_searches_fail_at_their_deadline_where_no_proxy_comes_back(filled: Index) -> None:
    async for pair in paired(filled, MilvusConfig(attempt_timeout_s=1, search_deadline_s=2)):
        assert await pair.finds()
        for lost in pair.wires:
            await lost.cut()
        with pytest.raises(MilvusUnavailable):
            await pair.finds()


async def test_no_part_of_the_index_passes_for_the_whole(milvus_cluster: MilvusCluster, cluster: Engine) -> None:
    """A query node, which is a whole replica, is killed and comes back under steady searches and writes."""
    index = cluster.make_index("parts")
    index.writer().write(ROWS)
    index.writer().flush()
    settle(cluster)
    config = cluster.config.model_copy(update={"attempt_timeout_s": 1, "search_deadline_s": 20})
    searcher = MilvusSearcher(cluster.uris, config, index.alias)
    queries = embeddings(20, seed=1)
    vectors = np.stack([row.vector for row in ROWS])
    wanted = [{ROWS[place].row_id for place in np.argsort(-(vectors @ query))[:10]} for query in queries]

    async def is_whole() -> bool:
        found = await searcher.search(queries, 10)
        return not found.degraded and [{hit.row_id for hit in hits} for hits in found.hits] == wanted

    await eventually(is_whole)
    await asyncio.sleep(8)  # the searcher has drawn its known rows
    flagged = asked = 0
    milvus_cluster.kill("querynode2")
    started_s, restarted = time.monotonic(), False
    try:
        while time.monotonic() < started_s + 25:
            if not restarted and time.monotonic() > started_s + 12:
                await asyncio.to_thread(milvus_cluster.start_role, "querynode2")
                restarted = True
            place = asked % len(queries)
            found = await searcher.search(queries[place][None], 10)
            asked += 1
            if PARTIAL_INDEX in found.degraded:
                flagged += 1
            else:
                assert len({hit.row_id for hit in found.hits[0]} & wanted[place]) >= 8
            await asyncio.sleep(0.02)
    finally:
        if not restarted:
            milvus_cluster.start_role("querynode2")
    assert flagged < asked
    await eventually(is_whole)
    await searcher.close()
