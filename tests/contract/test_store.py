"""Every store of photos answers alike: in the memory of a process, and on a Redis server."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from scripts.measuring import free_port, wait_until
from serve_app.errors import StageUnavailable
from serve_app.keeping import Bounds, ShelfStore, Store
from serve_app.redis_store import RedisStore

BOUNDS = Bounds(max_bytes=10_000, max_bytes_per_key=500, expiry_s=900)
TIMEOUT_S = 5.0


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.exit("there is no redis-server; run the tests with ./scripts/test", returncode=2)
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    log = Path(folder) / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    wait_until(lambda: b"Ready to accept" in log.read_bytes(), timeout_s=30, what="Redis")
    yield f"redis://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


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
