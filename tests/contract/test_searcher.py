"""Every searcher answers alike: in memory, on Milvus Lite, on a Milvus server."""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from serve_app.collection import IndexState, Row
from serve_app.config import MilvusConfig
from serve_app.domain import Terms, View
from serve_app.errors import IndexMissing, MilvusUnavailable
from serve_app.filters import Filter, matches
from serve_app.milvus import indexing
from serve_app.milvus.searcher import MilvusSearcher
from tests.contract.engines import CONFIG, Index, Wire, eventually, wire
from tests.contract.fake import FakeSearcher
from tests.contract.rows import embeddings, ranked, row

IMPATIENT = MilvusConfig(attempt_timeout_s=2, search_deadline_s=2)
ODD_TEXT = 'Müller\'s "5\\6" \n\t 椅子 🪑'
ROWS = [
    *(row(f"image-{number:03}", category_root="ABCDE"[number % 5]) for number in range(120)),
    *(row(f"image-{number:03}", View.OBJECT, category_root="ABCDE"[number % 5]) for number in range(30)),
    row(
        f"odd {ODD_TEXT}", parent_id=ODD_TEXT, category=ODD_TEXT, data={"title": {"de": ODD_TEXT}, "box": [0, 0.25, 1]}
    ),
    row("dear", price=2_000),
    row("twin-b", vector=row("twin").vector),
    row("twin-a", vector=row("twin").vector),
]


class Line(ABC):
    """Hold a searcher of its own, and break what joins it to the engine."""

    searcher: FakeSearcher | MilvusSearcher

    @abstractmethod
    async def cut(self) -> None: ...

    @abstractmethod
    def hold(self) -> None:
        """Let the engine hang."""

    @abstractmethod
    async def mend(self) -> None: ...


class Subject(ABC):
    """Hold a filled searcher, and break its index."""

    searcher: FakeSearcher | MilvusSearcher

    @abstractmethod
    def release(self) -> None: ...

    @abstractmethod
    def load(self) -> None: ...

    @abstractmethod
    def missing(self) -> FakeSearcher | MilvusSearcher:
        """Return a searcher whose alias doesn't exist."""

    @abstractmethod
    def unreachable(self) -> FakeSearcher | MilvusSearcher:
        """Return a searcher whose server isn't there."""

    @abstractmethod
    def line(self) -> AbstractAsyncContextManager[Line]:
        """Make a searcher whose connection can be broken."""


class FakeLine(Line):
    def __init__(self, rows: Sequence[Row]) -> None:
        self.searcher: FakeSearcher = FakeSearcher(rows)

    async def cut(self) -> None:
        self.searcher.away = True

    def hold(self) -> None:
        self.searcher.away = True

    async def mend(self) -> None:
        self.searcher.away = False


class RealLine(Line):
    def __init__(self, wire: Wire, index: Index) -> None:
        self.searcher = MilvusSearcher([wire.uri], IMPATIENT, index.alias)
        self._wire = wire

    async def cut(self) -> None:
        await self._wire.cut()

    def hold(self) -> None:
        self._wire.hold()

    async def mend(self) -> None:
        await self._wire.mend()


class Fake(Subject):
    def __init__(self, rows: Sequence[Row]) -> None:
        self.searcher: FakeSearcher = FakeSearcher(rows)

    def release(self) -> None:
        self.searcher.state = IndexState("fake", loaded=False)

    def load(self) -> None:
        self.searcher.state = IndexState("fake", loaded=True)

    def missing(self) -> FakeSearcher:
        return FakeSearcher([], state=IndexState(None, loaded=False))

    def unreachable(self) -> FakeSearcher:
        return FakeSearcher([], away=True)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        yield FakeLine(self.searcher.rows)


class Real(Subject):
    def __init__(self, index: Index) -> None:
        self.index = index
        self.searcher = MilvusSearcher([index.engine.uri], CONFIG, index.alias)

    def release(self) -> None:
        self.index.client.release_collection(self.index.alias)

    def load(self) -> None:
        indexing.load(self.index.client, self.index.alias)

    def missing(self) -> MilvusSearcher:
        return MilvusSearcher([self.index.engine.uri], CONFIG, "no_such_alias")

    def unreachable(self) -> MilvusSearcher:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return MilvusSearcher([f"http://127.0.0.1:{free.getsockname()[1]}"], IMPATIENT, self.index.alias)

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        async with wire(self.index.engine.uri) as far:
            line = RealLine(far, self.index)
            yield line
            await line.searcher.close()


@pytest.fixture(scope="module", params=["fake", "lite", "server", "cluster"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield Fake(ROWS)
        return
    index = request.getfixturevalue(request.param).make_index("searcher")
    index.writer().write(ROWS)
    index.writer().flush()
    found = Real(index)
    await eventually(lambda: _holds(found.searcher, len(ROWS)))
    yield found
    await found.searcher.close()


async def _holds(searcher: FakeSearcher | MilvusSearcher, count: int) -> bool:
    (hits,) = (await searcher.search(embeddings(1, seed=0), len(ROWS))).hits
    return len(hits) == count


async def test_scores_are_exact_cosines_in_order(subject: Subject) -> None:
    queries = embeddings(3, seed=1)
    answers = (await subject.searcher.search(queries, len(ROWS))).hits
    for query, hits in zip(queries, answers, strict=True):
        exact = sorted((float(query @ row.vector) for row in ROWS), reverse=True)
        assert [hit.score for hit in hits] == pytest.approx(exact, abs=1e-5)


async def test_an_opposite_scores_minus_one(subject: Subject) -> None:
    (hits,) = (await subject.searcher.search(-ROWS[0].vector[None], len(ROWS))).hits
    assert hits[-1].row_id == ROWS[0].row_id
    assert hits[-1].score == pytest.approx(-1, abs=1e-5)


async def test_hits_are_the_rows_that_were_written(subject: Subject) -> None:
    by_id = {row.row_id: row for row in ROWS}
    (hits,) = (await subject.searcher.search(embeddings(1, seed=2), len(ROWS))).hits
    for hit in hits:
        row = by_id[hit.row_id]
        assert (hit.image_id, hit.view, hit.product_id, hit.price, hit.currency, hit.in_stock) == (
            (row.image_id, row.view, row.product_id, row.price, row.currency, row.in_stock)
        )


async def test_a_row_finds_itself(subject: Subject) -> None:
    answers = (await subject.searcher.search(np.stack([row.vector for row in ROWS[:40]]), 1)).hits
    assert [hits[0].row_id for hits in answers] == [row.row_id for row in ROWS[:40]]
    assert min(hits[0].score for hits in answers) >= 0.999


async def test_answers_are_in_the_order_of_the_embeddings(subject: Subject) -> None:
    queries = embeddings(5, seed=3)
    together = (await subject.searcher.search(queries, 3)).hits
    alone = [(await subject.searcher.search(query[None], 3)).hits[0] for query in queries]
    assert [[hit.row_id for hit in hits] for hits in together] == [[hit.row_id for hit in hits] for hits in alone]


@pytest.mark.parametrize("k", [len(ROWS) + 1, 50_000])
async def test_more_than_there_is_gives_all_there_is(subject: Subject, k: int) -> None:
    (hits,) = (await subject.searcher.search(embeddings(1, seed=4), k)).hits
    assert {hit.row_id for hit in hits} == {row.row_id for row in ROWS}


async def test_equal_scores_are_ordered_by_row_id(subject: Subject) -> None:
    (hits,) = (await subject.searcher.search(row("twin").vector[None], 2)).hits
    assert [hit.row_id for hit in hits] == ["twin-a#whole", "twin-b#whole"]


async def test_only_rows_that_pass_the_filter_are_found(subject: Subject) -> None:
    wanted = Filter(price_min=2_000, currency="EUR")
    (hits,) = (await subject.searcher.search(embeddings(1, seed=10), len(ROWS), wanted)).hits
    expected = [row.row_id for row in ROWS if matches(wanted, row.values())]
    assert expected
    assert {hit.row_id for hit in hits} == set(expected)


async def test_a_filter_that_nothing_passes_finds_nothing(subject: Subject) -> None:
    wanted = Filter(categories=("No such thing",))
    assert (await subject.searcher.search(embeddings(2, seed=11), 5, wanted)).hits == [[], []]


async def test_a_whole_answer_carries_no_flag(subject: Subject) -> None:
    assert (await subject.searcher.search(embeddings(1, seed=12), 5)).degraded == ()


async def test_hits_are_refreshed_and_those_of_unknown_rows_left_out(subject: Subject) -> None:
    (hits,) = (await subject.searcher.search(embeddings(1, seed=13), 5)).hits
    stale = [replace(hit, price=-5, in_stock=False) for hit in hits]
    unknown = replace(ranked(hits[0]), row_id="no such row", product_id="no such product")
    found = await subject.searcher.refresh([*map(ranked, stale[::-1]), unknown])
    assert found.hits == [hits[::-1]]


async def test_a_product_whose_row_is_gone_is_shown_by_another_one(subject: Subject) -> None:
    (hits,) = (await subject.searcher.search(embeddings(1, seed=13), len(ROWS))).hits
    shown = next(hit for hit in hits if hit.image_id == "image-003")
    other_row = replace(ranked(shown), row_id="no such row")
    other_product = replace(ranked(shown), row_id="dear#whole")
    ((*found,),) = (await subject.searcher.refresh([other_row, ranked(hits[0])])).hits
    assert [(hit.product_id, hit.row_id, hit.score) for hit in found] == [
        (shown.product_id, "image-003#object", shown.score),
        (hits[0].product_id, hits[0].row_id, hits[0].score),
    ]
    ((moved,),) = (await subject.searcher.refresh([other_product])).hits
    assert moved.product_id == shown.product_id


async def test_nothing_is_refreshed_into_nothing(subject: Subject) -> None:
    assert (await subject.searcher.refresh([])).hits == [[]]


async def test_a_product_is_read_with_all_its_rows(subject: Subject) -> None:
    expected = [row for row in ROWS if row.image_id == "image-007"]
    stored = await subject.searcher.product("product of image-007", vectors=True)
    assert [view.hit.row_id for view in stored.rows] == sorted(row.row_id for row in expected)
    vectors = {row.row_id: row.vector for row in expected}
    for view in stored.rows:
        assert view.vector.dtype == np.float32
        assert np.array_equal(view.vector, vectors[view.hit.row_id])
        assert (view.hit.price, view.hit.currency, view.updated_at) == (1990, "EUR", 1_000)


async def test_a_product_is_read_without_its_embeddings(subject: Subject) -> None:
    (view,) = (await subject.searcher.product(f"product of odd {ODD_TEXT}", strong=True)).rows
    assert (view.hit.parent_id, len(view.vector)) == (ODD_TEXT, 0)


async def test_a_product_that_is_not_there_has_no_rows(subject: Subject) -> None:
    assert (await subject.searcher.product("nobody's")).rows == ()


async def test_image_is_read_by_its_id_whatever_that_is(subject: Subject) -> None:
    for image_id in ("image-007", f"odd {ODD_TEXT}"):
        found = await subject.searcher.image(image_id)
        assert found is not None
        assert (found.image_id, found.view) == (image_id, View.WHOLE)
    assert await subject.searcher.image('no" or row_id != "') is None


async def test_no_embedding_gives_no_list(subject: Subject) -> None:
    assert (await subject.searcher.search(embeddings(0, seed=5), 10)).hits == []


async def test_texts_and_data_come_back_as_they_went_in(subject: Subject) -> None:
    odd = next(row for row in ROWS if row.parent_id == ODD_TEXT)
    ((hit,),) = (await subject.searcher.search(odd.vector[None], 1)).hits
    assert (hit.image_id, hit.parent_id, hit.category, dict(hit.data)) == (
        (odd.image_id, odd.parent_id, odd.category, odd.data)
    )


async def test_a_released_collection_is_a_missing_index_until_it_is_loaded(subject: Subject) -> None:
    subject.release()
    with pytest.raises(IndexMissing):
        await subject.searcher.search(embeddings(1, seed=6), 1)
    assert not (await subject.searcher.index()).loaded
    subject.load()
    assert (await subject.searcher.index()).loaded
    await eventually(lambda: _holds(subject.searcher, len(ROWS)))


async def test_an_alias_that_does_not_exist_is_a_missing_index(subject: Subject) -> None:
    searcher = subject.missing()
    with pytest.raises(IndexMissing):
        await searcher.search(embeddings(1, seed=7), 1)
    assert await searcher.index() == IndexState(None, loaded=False)
    await searcher.close()


async def test_a_server_that_is_not_there_is_unavailable(subject: Subject) -> None:
    searcher = subject.unreachable()
    with pytest.raises(MilvusUnavailable):
        await searcher.search(embeddings(1, seed=8), 1)
    with pytest.raises(MilvusUnavailable):
        await searcher.index()
    await searcher.close()


async def test_a_lost_connection_is_made_again(subject: Subject) -> None:
    async with subject.line() as line:
        await eventually(lambda: _answers(line.searcher))
        await line.cut()
        with pytest.raises(MilvusUnavailable):
            await line.searcher.search(embeddings(1, seed=9), 1)
        await line.mend()
        await eventually(lambda: _answers(line.searcher))


async def test_a_server_that_hangs_is_unavailable_until_it_answers(subject: Subject) -> None:
    async with subject.line() as line:
        await eventually(lambda: _answers(line.searcher))
        line.hold()
        with pytest.raises(MilvusUnavailable):
            await line.searcher.search(embeddings(1, seed=9), 1)
        with pytest.raises(MilvusUnavailable):
            await line.searcher.index()
        await line.mend()
        await eventually(lambda: _answers(line.searcher))


async def test_a_search_ends_at_its_callers_deadline(subject: Subject) -> None:
    async with subject.line() as line:
        await eventually(lambda: _answers(line.searcher))
        line.hold()
        started_s = time.monotonic()
        with pytest.raises(MilvusUnavailable):
            await line.searcher.search(embeddings(1, seed=9), 1, terms=Terms.within(0.2))
        assert time.monotonic() - started_s < IMPATIENT.search_deadline_s
        await line.mend()


async def test_a_first_connection_to_a_server_that_hangs_is_made_again(subject: Subject) -> None:
    async with subject.line() as line:
        line.hold()
        with pytest.raises(MilvusUnavailable):
            await line.searcher.search(embeddings(1, seed=9), 1)
        await line.mend()
        await eventually(lambda: _answers(line.searcher))


async def _answers(searcher: FakeSearcher | MilvusSearcher) -> bool:
    try:
        return len((await searcher.search(embeddings(1, seed=9), 1)).hits[0]) == 1
    except MilvusUnavailable:
        return False
