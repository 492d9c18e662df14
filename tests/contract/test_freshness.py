"""Searches see writes as soon, and say as truly what they saw, as they promise."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from serve_app.milvus.searcher import STALENESS_MS, MilvusSearcher
from tests.contract.engines import Index, eventually
from tests.contract.rows import ranked, row


@pytest.fixture
async def searcher(index: Index) -> AsyncIterator[MilvusSearcher]:
    found = MilvusSearcher([index.engine.uri], index.engine.config, index.alias)
    yield found
    await found.close()


async def test_a_strong_search_reads_its_own_writes(index: Index, searcher: MilvusSearcher) -> None:
    writer = index.writer()
    for number in range(5):
        written = row(f"strong-{number}", updated_at=number)
        writer.write([written])
        ((hit,),) = (await searcher.search(written.vector[None], 1, strong=True)).hits
        assert hit.row_id == written.row_id
        writer.delete([written.image_id])
        ((*hits,),) = (await searcher.search(written.vector[None], 1, strong=True)).hits
        assert written.row_id not in [hit.row_id for hit in hits]


async def test_an_answer_holds_all_that_was_written_before_its_watermark(
    index: Index, searcher: MilvusSearcher
) -> None:
    for number in range(2):
        written = row(f"marked-{number}")
        index.writer().write([written])
        acknowledged_ms = time.time_ns() // 10**6

        async def is_found(written=written, acknowledged_ms=acknowledged_ms) -> bool:
            found = await searcher.search(written.vector[None], 1)
            seen = [hit.row_id for hit in found.hits[0]] == [written.row_id]
            assert seen or found.watermark_ms <= acknowledged_ms
            return seen and found.watermark_ms > acknowledged_ms

        await eventually(is_found)


async def test_a_watermark_is_no_older_than_promised(index: Index, searcher: MilvusSearcher) -> None:
    for strong, oldest_ms in ((False, STALENESS_MS), (True, 0)):
        asked_ms = time.time_ns() // 10**6
        found = await searcher.search(row("any").vector[None], 1, strong=strong)
        assert asked_ms - oldest_ms <= found.watermark_ms <= time.time_ns() // 10**6


async def test_a_page_of_a_fixed_ranking_shows_what_is_true_now(index: Index, searcher: MilvusSearcher) -> None:
    rows = [row(f"paged-{number}", category="Paged", updated_at=1) for number in range(6)]
    index.writer().write(rows)
    (hits,) = (await searcher.search(rows[0].vector[None], 6, strong=True)).hits
    ranking = [hit for hit in hits if hit.image_id.startswith("paged-")]
    assert len(ranking) >= 2
    changed, deleted = ranking[0], ranking[1]
    index.writer().write(
        [replace(next(r for r in rows if r.row_id == changed.row_id), price=5, in_stock=False, updated_at=2)]
    )
    index.writer().delete([deleted.image_id])

    async def shows_it() -> bool:
        (page,) = (await searcher.refresh([ranked(hit) for hit in ranking])).hits
        return [(hit.row_id, hit.price, hit.in_stock, hit.score) for hit in page] == [
            (changed.row_id, 5, False, changed.score),
            *((hit.row_id, hit.price, hit.in_stock, hit.score) for hit in ranking[2:]),
        ]

    await eventually(shows_it)
