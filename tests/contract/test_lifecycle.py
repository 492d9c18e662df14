"""An index is replaced by another while it is searched and written to, and nothing is lost."""

import itertools
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from serve_app.collection import Row, alias
from serve_app.config import SearchParams
from serve_app.errors import BadConfig, NotVerified
from serve_app.milvus import indexing, lifecycle, targets
from serve_app.milvus.backfill import Progress, backfill
from serve_app.milvus.scanning import ALL, Values, rows_by_key, scan
from serve_app.milvus.targets import Marks, State, Verified
from serve_app.milvus.verify import Demands, verify
from serve_app.milvus.writer import MilvusWriter, TargetWriter
from tests.contract.engines import FINGERPRINT, NOW, Engine, settle
from tests.contract.rows import embedding, row

OTHER_MODEL = "ba9876543210"
ROWS = 600
KILLS = {"lite": 15, "server": 5}
PARAMS = SearchParams()
FEW = Demands(queries=20)


@dataclass
class Shop:
    """A catalogue with an index that is searched."""

    engine: Engine
    catalogue: str
    made: int = 0

    @property
    def writer(self) -> MilvusWriter:
        return MilvusWriter(self.engine.client, alias(self.catalogue, FINGERPRINT), self.engine.config)

    def searched(self, fingerprint: str = FINGERPRINT) -> str | None:
        return indexing.resolve(self.engine.client, alias(self.catalogue, fingerprint))

    def create(self, fingerprint: str = FINGERPRINT) -> str:
        self.made += 1
        now = NOW + timedelta(minutes=self.made)
        return lifecycle.create(self.engine.client, self.engine.config, self.catalogue, fingerprint, now)

    def backfill(self, name: str, tell: Callable[[Progress], None] = lambda _: None, batch: int = 100) -> Progress:
        return backfill(
            self.engine.client, self.engine.uri, self.engine.config, self.catalogue, name, tell=tell, batch=batch
        )

    def verify(self, name: str, demands: Demands = FEW) -> Verified:
        return verify(self.engine.client, self.engine.config, self.catalogue, name, PARAMS, demands)

    def ready(self) -> str:
        name = self.create()
        self.backfill(name)
        self.verify(name)
        return name

    def rows(self, name: str) -> dict[str, Values]:
        settle(self.engine)
        found: dict[str, Values] = {}
        for batch in scan(self.engine.client, name):
            keys = [values["row_id"] for values in batch]
            found |= rows_by_key(self.engine.client, name, keys, [field for field in ALL if field != "vector"])
        return found

    def count(self, name: str) -> int:
        return indexing.count(self.engine.client, name)


on_a_server_too = pytest.mark.parametrize("shop", ["lite", "server"], indirect=True)
"""For what differs between engines; an index takes a server seconds to make, load and settle."""


@pytest.fixture
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    engine: Engine = request.getfixturevalue(getattr(request, "param", "lite"))
    catalogue = f"life{random.Random(request.node.nodeid).randrange(10**9)}"
    indexing.ensure(engine.client, engine.config, catalogue, FINGERPRINT, NOW)
    made = Shop(engine, catalogue)
    made.writer.write([row(f"image-{number}") for number in range(ROWS)])
    yield made
    for target in targets.read_all(engine.client, catalogue):
        searched = alias(catalogue, target.fingerprint)
        if indexing.resolve(engine.client, searched) == target.collection:
            engine.client.drop_alias(searched)
        engine.client.drop_collection(target.collection)


@on_a_server_too
def test_an_index_is_replaced_and_the_old_one_put_back(shop: Shop) -> None:
    old, new = shop.searched(), shop.create()
    assert old is not None
    assert shop.backfill(new).copied == ROWS
    assert shop.verify(new).rows == ROWS
    assert lifecycle.switch(shop.engine.client, shop.catalogue, new) == old
    assert shop.searched() == new
    shop.writer.write([row("after the switch")])
    shop.writer.delete(["image-0"])
    assert shop.rows(old) == shop.rows(new)
    assert lifecycle.rollback(shop.engine.client, shop.catalogue, FINGERPRINT) == old
    assert shop.searched() == old
    assert "after the switch#whole" in shop.rows(old)
    lifecycle.drop(shop.engine.client, shop.catalogue, new)
    assert not indexing.exists(shop.engine.client, new)


@on_a_server_too
def test_writes_during_a_backfill_reach_both(shop: Shop) -> None:
    """1,000 upserts and 1,000 deletes: all there, none back."""
    old, new = shop.searched(), shop.create()
    assert old is not None
    shop.writer.write([row(f"doomed-{number}") for number in range(1_000)])
    begun, failed = threading.Event(), []

    def write() -> None:
        begun.wait(60)
        try:
            for start in range(0, 1_000, 50):
                numbers = range(start, start + 50)
                shop.writer.write([row(f"new-{number}") for number in numbers])
                shop.writer.write([row(f"image-{number % ROWS}", price=start, updated_at=2_000) for number in numbers])
                shop.writer.delete([f"doomed-{number}" for number in numbers])
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    shop.backfill(new, tell=lambda _: begun.set(), batch=20)
    writing.join()
    assert not failed
    found = shop.rows(new)
    assert found == shop.rows(old)
    assert sum(key.startswith("new-") for key in found) == 1_000
    assert not [key for key in found if key.startswith("doomed-")]
    assert shop.count(new) == len(found) == ROWS + 1_000


@on_a_server_too
def test_rows_that_are_written_all_the_while_do_not_keep_a_backfill_from_its_end(shop: Shop) -> None:
    new, over, draw = shop.create(), threading.Event(), random.Random(5)

    def write() -> None:
        for moment in itertools.count(2_000):
            if over.wait(0.05):
                return
            shop.writer.write([row(f"image-{draw.randrange(100)}", price=moment, updated_at=moment)])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        shop.backfill(new)
        assert shop.verify(new).rows == ROWS
    finally:
        over.set()
        writing.join()
    assert shop.rows(new) == shop.rows(shop.searched() or "")


@on_a_server_too
def test_a_backfill_that_is_killed_goes_on(shop: Shop) -> None:
    old, new = shop.searched(), shop.create()
    assert old is not None
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(KILLS[shop.engine.name]):
        moment = draw.randrange(1, 12)
        ended = subprocess.run(
            [sys.executable, "-m", "tests.contract.killed_backfill", shop.engine.uri, shop.catalogue, new, str(moment)],
            capture_output=True,
            text=True,
        )
        assert ended.returncode in (-signal.SIGKILL, 0), ended.stderr
    shop.backfill(new)
    assert shop.rows(new) == shop.rows(old)
    assert shop.count(new) == ROWS


@on_a_server_too
def test_a_target_that_is_not_ready_is_refused(shop: Shop) -> None:
    client, new = shop.engine.client, shop.create()
    with pytest.raises(NotVerified, match="lacks writes"):
        lifecycle.switch(client, shop.catalogue, new)
    client.release_collection(new)
    shop.backfill(new)
    with pytest.raises(NotVerified, match="is not verified"):
        lifecycle.switch(client, shop.catalogue, new)
    shop.verify(new)
    client.release_collection(new)
    with pytest.raises(NotVerified, match="not loaded"):
        lifecycle.switch(client, shop.catalogue, new)
    indexing.load(client, new)
    lifecycle.switch(client, shop.catalogue, new)
    assert shop.searched() == new


def test_what_does_not_fit_into_memory_is_not_loaded(server: Engine) -> None:
    client, catalogue = server.client, "greedy"
    indexing.ensure(client, server.config, catalogue, FINGERPRINT, NOW)
    MilvusWriter(client, alias(catalogue, FINGERPRINT), server.config).write([row(f"image-{n}") for n in range(10)])
    new = lifecycle.create(client, server.config, catalogue, FINGERPRINT, NOW + timedelta(minutes=1))
    client.release_collection(new)
    copies = server.config.model_copy(update={"replica_number": 10**9})
    with pytest.raises(BadConfig, match=r"10 rows as HNSW take about .* GiB are free; add query nodes"):
        backfill(client, server.uri, copies, catalogue, new)
    assert not indexing.is_loaded(client, new)
    assert targets.read(client, catalogue, new).state is None
    lifecycle.drop(client, catalogue, new)


def test_an_index_that_lacks_rows_is_not_verified(shop: Shop) -> None:
    new = shop.create()
    shop.backfill(new)
    shop.engine.client.delete(new, filter='row_id == "image-5#whole"')
    shop.engine.client.upsert(new, [row("stray").values() | {"vector": embedding("stray")}])
    with pytest.raises(NotVerified, match=r"1 rows are missing or differ from .*, 1 are too many"):
        shop.verify(new)
    shop.backfill(new)
    assert shop.verify(new).rows == ROWS


def test_an_index_that_finds_too_little_is_not_verified(shop: Shop) -> None:
    new = shop.create()
    shop.backfill(new)
    with pytest.raises(NotVerified, match=r"recall@10 of its index is 1.000, below 1.1"):
        shop.verify(new, Demands(queries=5, min_recall=1.1))
    with pytest.raises(NotVerified, match=r"shares 1.000 of the products"):
        shop.verify(new, Demands(queries=5, min_overlap=1.1))


def test_a_writer_of_another_model_marks_what_it_can_not_write(shop: Shop) -> None:
    client, other = shop.engine.client, shop.create(OTHER_MODEL)
    targets.remember(client, other, state=State.MIRRORED)
    theirs = TargetWriter(client, shop.catalogue, other, shop.engine.config)
    theirs.write([row(f"image-{number}") for number in range(ROWS)])
    shop.writer.write([row("image-1", updated_at=2_000), row("image-2", updated_at=2_000)])
    shop.writer.delete(["image-3"])
    marks = Marks(client, shop.catalogue)
    assert marks.count(other) == 2
    assert "image-3#whole" not in shop.rows(other)
    with pytest.raises(NotVerified, match="2 images were changed by writers of another model"):
        shop.verify(other)
    theirs.write([row("image-1", updated_at=1_999)])
    assert marks.count(other) == 2
    theirs.write([row("image-1", updated_at=2_000), row("image-2", updated_at=2_001)])
    assert marks.count(other) == 0
    client.delete(other, filter='row_id == "image-5#whole"')
    with pytest.raises(NotVerified, match="it lacks 1 images that are searched now"):
        shop.verify(other)
    theirs.write([row("image-5")])
    shop.verify(other)
    lifecycle.switch(client, shop.catalogue, other)
    assert shop.searched(OTHER_MODEL) == other


def test_a_target_that_is_released_does_not_stop_writers(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.milvus.writer.TARGET_MISSING_S", 0.5)
    new = shop.ready()
    shop.engine.client.release_collection(new)
    shop.writer.write([row("while it was away")])
    assert targets.read(shop.engine.client, shop.catalogue, new).state is State.STALE
    indexing.load(shop.engine.client, new)
    with pytest.raises(NotVerified, match="lacks writes"):
        lifecycle.switch(shop.engine.client, shop.catalogue, new)
    shop.backfill(new)
    assert "while it was away#whole" in shop.rows(new)


def test_what_is_searched_can_not_be_dropped_or_filled(shop: Shop) -> None:
    searched = shop.searched()
    assert searched is not None
    with pytest.raises(BadConfig, match="is searched as"):
        lifecycle.drop(shop.engine.client, shop.catalogue, searched)
    with pytest.raises(BadConfig, match="is what is searched"):
        shop.backfill(searched)


def test_the_index_of_a_model_that_no_longer_runs_is_retired(shop: Shop) -> None:
    client, searched = shop.engine.client, shop.searched()
    assert searched is not None
    with pytest.raises(BadConfig, match="searched by the running model"):
        lifecycle.retire(client, shop.catalogue, searched, running=FINGERPRINT)
    lifecycle.retire(client, shop.catalogue, searched, running=OTHER_MODEL)
    assert shop.searched() is None
    with pytest.raises(BadConfig, match="is not searched"):
        lifecycle.retire(client, shop.catalogue, searched, running=OTHER_MODEL)
    lifecycle.drop(client, shop.catalogue, searched)


@pytest.mark.parametrize("name", ["", "no such thing", "{alias}", "other_0123456789ab_20261123T100000Z"])
def test_only_collections_of_the_catalogue_are_dropped_by_their_names(shop: Shop, name: str) -> None:
    with pytest.raises(BadConfig, match="is no collection of the catalogue"):
        lifecycle.drop(shop.engine.client, shop.catalogue, name.format(alias=alias(shop.catalogue, FINGERPRINT)))
    assert shop.count(alias(shop.catalogue, FINGERPRINT)) == ROWS


def test_there_is_nothing_to_go_back_to_before_a_switch(shop: Shop) -> None:
    with pytest.raises(BadConfig, match="never switched"):
        lifecycle.rollback(shop.engine.client, shop.catalogue, FINGERPRINT)


@on_a_server_too
def test_a_moved_product_stays_once_in_a_target(shop: Shop) -> None:
    new = shop.ready()
    moved: Row = replace(row("image-7"), category_root="Women", category="Women", updated_at=3_000)
    shop.writer.write([moved])
    assert shop.rows(new)["image-7#whole"]["category_root"] == "Women"
    assert shop.count(new) == ROWS
