"""The local index lives while it has users, whoever of its processes is killed."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from serve_app.collection import alias
from serve_app.config import MilvusConfig
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.milvus.writer import MilvusWriter
from tests.contract.rows import row

CONFIG = MilvusConfig(attempt_timeout_s=10)
FINGERPRINT = "0123456789ab"
ALIAS = alias("kept", FINGERPRINT)
ROWS = [row(f"image-{number}") for number in range(20)]
DEADLINE_S = 60

USER = """
import sys
from pathlib import Path
from serve_app.milvus.local import LocalMilvus
with LocalMilvus(Path(sys.argv[1])) as uri:
    print(uri, flush=True)
    sys.stdin.read()
"""


@contextmanager
def user(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Use the index from a process of its own, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(DEADLINE_S)


def published(data_dir: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((data_dir / "milvus" / "server.json").read_text())
    return found


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s"
        time.sleep(0.1)


def replaced(data_dir: Path, pid: int) -> bool:
    """Tell whether another server than `pid` is published."""
    try:
        return published(data_dir)["pid"] != pid
    except OSError:
        return False


def ended(data_dir: Path, server: dict[str, int]) -> bool:
    return not (runs(server["pid"]) or runs(server["supervisor_pid"]) or (data_dir / "milvus" / "server.json").exists())


def listening(pid: int) -> set[str]:
    """Return the IP addresses that a process listens on."""
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()
    ]
    return {address(line[1]) for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets}


def address(entry: str) -> str:
    """Return the IP address of an entry of /proc/net/tcp, which is made of words of this machine's byte order."""
    digits = entry.partition(":")[0]
    words = [int(digits[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(digits), 8)]
    found = ipaddress.ip_address(b"".join(words))
    return str(getattr(found, "ipv4_mapped", None) or found)


@dataclass
class Kept:
    """Hold an index that this process uses, with ROWS in it."""

    data_dir: Path
    uri: str
    client: Any

    def count(self) -> int:
        return MilvusWriter(self.client, ALIAS, CONFIG).count()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    data_dir = tmp_path_factory.mktemp("kept")
    with LocalMilvus(data_dir) as uri, closing(connect(CONFIG, uri)) as client:
        indexing.ensure(client, CONFIG, "kept", FINGERPRINT, datetime.now(UTC))
        MilvusWriter(client, ALIAS, CONFIG).write(ROWS)
        yield Kept(data_dir, uri, client)


def test_the_server_is_published_beside_its_data(kept: Kept) -> None:
    server = published(kept.data_dir)
    assert kept.uri == f"http://127.0.0.1:{server['port']}"
    assert runs(server["pid"])
    assert runs(server["supervisor_pid"])


def test_only_this_machine_can_reach_it(kept: Kept) -> None:
    server = published(kept.data_dir)
    assert listening(server["pid"]) == {"127.0.0.1"}
    assert listening(server["supervisor_pid"]) == set()


def test_users_share_one_server(kept: Kept) -> None:
    server = published(kept.data_dir)
    with user(kept.data_dir) as (_, uri):
        assert uri == kept.uri
    assert published(kept.data_dir) == server
    assert kept.count() == len(ROWS)


def test_data_directories_do_not_meet(kept: Kept, tmp_path: Path) -> None:
    with LocalMilvus(tmp_path) as uri, closing(connect(CONFIG, uri)) as client:
        assert uri != kept.uri
        assert client.list_collections() == []


async def test_a_killed_server_comes_back_with_its_rows_loaded(kept: Kept) -> None:
    server = published(kept.data_dir)
    os.kill(server["pid"], signal.SIGKILL)
    eventually(lambda: replaced(kept.data_dir, server["pid"]))
    assert published(kept.data_dir)["port"] == server["port"]
    searcher = MilvusSearcher([kept.uri], CONFIG, ALIAS)
    assert (await searcher.index()).loaded
    ((hit,),) = (await searcher.search(ROWS[7].vector[None], 1)).hits
    await searcher.close()
    assert hit.row_id == ROWS[7].row_id
    assert kept.count() == len(ROWS)


def test_a_killed_supervisor_is_replaced_with_its_server(kept: Kept) -> None:
    server = published(kept.data_dir)
    os.kill(server["supervisor_pid"], signal.SIGKILL)
    eventually(lambda: replaced(kept.data_dir, server["pid"]))
    assert not runs(server["pid"])
    assert published(kept.data_dir)["port"] == server["port"]
    assert kept.count() == len(ROWS)


def test_a_new_user_finds_what_killed_processes_left(tmp_path: Path) -> None:
    with user(tmp_path) as (process, uri):
        server = published(tmp_path)
        with closing(connect(CONFIG, uri)) as client:
            indexing.ensure(client, CONFIG, "kept", FINGERPRINT, datetime.now(UTC))
            MilvusWriter(client, ALIAS, CONFIG).write(ROWS)
        for pid in (process.pid, server["supervisor_pid"], server["pid"]):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not (runs(server["pid"]) or runs(server["supervisor_pid"])))
    with LocalMilvus(tmp_path) as uri, closing(connect(CONFIG, uri)) as client:
        assert MilvusWriter(client, ALIAS, CONFIG).count() == len(ROWS)


def test_the_server_ends_after_its_last_user(tmp_path: Path) -> None:
    with user(tmp_path) as (first, _):
        server = published(tmp_path)
        with LocalMilvus(tmp_path):
            assert first.stdin is not None
            first.stdin.close()
            first.wait(DEADLINE_S)
            assert published(tmp_path) == server
            assert runs(server["pid"])
    eventually(lambda: ended(tmp_path, server))


def test_a_killed_user_lets_go(tmp_path: Path) -> None:
    with user(tmp_path) as (process, _):
        server = published(tmp_path)
        process.kill()
    eventually(lambda: ended(tmp_path, server))


def test_who_comes_while_it_ends_gets_a_server_too(tmp_path: Path) -> None:
    with LocalMilvus(tmp_path):
        first = published(tmp_path)
    with LocalMilvus(tmp_path) as uri, closing(connect(CONFIG, uri)) as client:
        assert client.list_collections() == []
        assert published(tmp_path)["pid"] == first["pid"] or not runs(first["pid"])
