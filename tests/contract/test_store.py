"""Every store of photos answers alike: in the memory of a process, and on a Redis server."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from scripts.measuring import free_port, wait_until
from serve_app.callers import Caller
from serve_app.errors import PhotoExpired, StageUnavailable
from serve_app.keeping import NOBODY, Bounds, ShelfStore, Store
from serve_app.keys import Role
from serve_app.limiting import Quotas
from serve_app.pipeline import NO_TOKEN, Query
from serve_app.quotas import Quota
from serve_app.redis_store import RedisStore
from tests.unit.test_paging import Catalogue, Shop, ids, names

BOUNDS = Bounds(max_bytes=10_000, max_bytes_per_key=500, expiry_s=900)
TIMEOUT_S = 5.0


class RedisServer:
    """Run a Redis on loopback that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.exit("there is no redis-server; run the tests with ./scripts/test", returncode=2)
        command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        wait_until(lambda: b"Ready to accept" in log.read_bytes(), timeout_s=30, what="Redis")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.kill()


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[type]:
    """Return what makes a store with given bounds; those on Redis share what is kept."""
    made: list[RedisStore] = []

    def new(bounds: Bounds = BOUNDS) -> Store:
        if request.param == "memory":
            return ShelfStore(bounds)
        made.append(RedisStore(request.getfixturevalue("redis_url"), "", bounds, TIMEOUT_S))
        return made[-1]

    yield new
    for store in made:
        await store.close()


async def test_parts_are_read_as_they_were_put(make) -> None:
    store, photo = make(), bytes(range(256))
    assert await store.open("", "t1", {"photo": photo, "empty": b""})
    assert await store.add("", "t1", {"ranking": b"r"})
    names = ["photo", "empty", "ranking", "other"]
    assert [await store.read("", "t1", name) for name in names] == [photo, b"", b"r", None]


async def test_a_part_that_is_there_stays_as_it_is(make) -> None:
    store = make()
    await store.open("", "t2", {"photo": b"first"})
    assert await store.add("", "t2", {"photo": b"second"})
    assert await store.read("", "t2", "photo") == b"first"


async def test_a_token_is_opened_once_and_added_to_where_it_is_there(make) -> None:
    store = make()
    assert await store.open("", "t3", {"photo": b"p"})
    assert not await store.open("", "t3", {"photo": b"p"})
    assert not await store.add("", "no such token", {"photo": b"p"})
    assert await store.read("", "no such token", "photo") is None


async def test_a_token_is_its_owners_alone(make) -> None:
    store = make()
    await store.open("shop", "t4", {"photo": b"p"})
    assert await store.read("", "t4", "photo") is None
    assert not await store.add("other", "t4", {"ranking": b"r"})
    assert await store.read("shop", "t4", "ranking") is None


async def test_a_token_expires_with_all_its_parts(make) -> None:
    store = make(Bounds(10_000, 500, 0.2))
    await store.open("shop", "t5", {"photo": b"p"})
    await store.add("shop", "t5", {"ranking": b"r"})
    await asyncio.sleep(0.3)
    assert [await store.read("shop", "t5", name) for name in ("photo", "ranking")] == [None, None]
    assert not await store.add("shop", "t5", {"ranking": b"r"})


async def test_a_key_keeps_no_more_than_its_bound_and_the_oldest_goes(make) -> None:
    store = make()
    for token in ("t6", "t7", "t8"):
        assert await store.open("greedy", token, {"photo": bytes(200)})
    held = [await store.read("greedy", token, "photo") is not None for token in ("t6", "t7", "t8")]
    assert held == [False, True, True]
    assert await store.add("greedy", "t7", {"ranking": bytes(200)})
    assert await store.read("greedy", "t8", "photo") is None
    assert not await store.open("greedy", "t9", {"photo": bytes(501)})
    assert await store.read("greedy", "t9", "photo") is None


async def test_room_of_what_expired_is_free_again(make) -> None:
    store = make(Bounds(10_000, 500, 0.2))
    await store.open("patient", "t10", {"photo": bytes(400)})
    await asyncio.sleep(0.3)
    assert await store.open("patient", "t11", {"photo": bytes(400)})
    assert await store.read("patient", "t11", "photo") == bytes(400)


async def test_the_first_proposed_key_is_everybodys(make) -> None:
    store = make()
    key = await store.signing_key(b"one")
    assert await store.signing_key(b"two") == key


async def test_stores_on_one_server_share_what_is_kept(redis_url: str) -> None:
    one, other = (RedisStore(redis_url, "", BOUNDS, TIMEOUT_S) for _ in range(2))
    await one.open("", "shared", {"photo": b"p"})
    assert await other.read("", "shared", "photo") == b"p"
    assert await one.signing_key(b"one") == await other.signing_key(b"two")
    await one.close()
    await other.close()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", "", BOUNDS, TIMEOUT_S)
    with pytest.raises(StageUnavailable):
        await store.open("", "t", {"photo": b"p"})
    with pytest.raises(StageUnavailable):
        await store.read("", "t", "photo")
    with pytest.raises(StageUnavailable):
        await store.signing_key(b"key")
    await store.close()


async def test_tokens_and_cursors_of_one_node_work_at_another(redis_url: str) -> None:
    stores = [RedisStore(redis_url, "", Bounds(10**7, 10**7, 900), TIMEOUT_S) for _ in range(2)]
    one, other = (Shop(Catalogue(100), store) for store in stores)
    first = await one.first()
    assert first.token is not None
    assert (await other.sessions.search_again(NOBODY, first.token, Query())).token == first.token
    assert ids(await other.page(first.lists[0].next)) == names(*range(10, 20))
    for store in stores:
        await store.close()


async def test_a_killed_server_costs_tokens_and_nothing_else(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, "", Bounds(10**7, 10**7, 900), TIMEOUT_S)
    shop = Shop(Catalogue(100), store)
    before = await shop.first()
    redis_server.kill()
    during = await shop.first()
    assert during.token is None
    assert NO_TOKEN in during.degraded
    assert during.lists[0].products == before.lists[0].products
    with pytest.raises(StageUnavailable):
        await shop.page(before.lists[0].next)
    redis_server.start()
    with pytest.raises(PhotoExpired):
        await shop.page(before.lists[0].next)
    after = await shop.first()
    assert ids(await shop.page(after.lists[0].next)) == names(*range(10, 20))
    await store.close()


async def test_a_bucket_is_taken_from_until_it_is_empty_and_fills_again(make) -> None:
    store, quota = make(), Quota("key", 600)
    assert (await store.take("key:b1", quota, 1)).left == pytest.approx(599)
    assert (await store.take("key:b1", quota, 599)).taken
    refused = await store.take("key:b1", quota, 60)
    assert not refused.taken
    assert refused.left == pytest.approx(0, abs=59)
    assert (await store.take("key:b2", quota, 600)).taken
    await asyncio.sleep(0.5)
    filled = await store.take("key:b1", quota, 1)
    assert filled.taken
    assert filled.left > refused.left


async def test_nodes_count_a_bucket_together_and_leave_it_to_redis_to_forget(redis_url: str) -> None:
    one, other = (RedisStore(redis_url, "", BOUNDS, TIMEOUT_S) for _ in range(2))
    quota = Quota("key", 600)
    takes = [await store.take("key:shared", quota, 1) for _ in range(5) for store in (one, other)]
    assert takes[-1].left == pytest.approx(590, abs=9)
    remaining_ms = await Redis.from_url(redis_url).pttl("shoplens:bucket:key:shared")
    assert 0 < remaining_ms <= 2_000
    await one.close()
    await other.close()


async def test_quotas_go_on_where_redis_is_killed(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, "", BOUNDS, TIMEOUT_S)
    quotas = Quotas(store, TIMEOUT_S)
    caller = Caller("app", Role.SEARCH, "key:1", Quota("key", 5), has_key=True)
    assert (await quotas.charge(caller)).left == pytest.approx(4, abs=0.5)
    redis_server.kill()
    standings = [await quotas.charge(caller) for _ in range(10)]
    assert sum(standing.taken for standing in standings) == 5
    await store.close()
