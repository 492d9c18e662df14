"""What the tests need of an engine: its client, indexes of its own, and a wire that can be cut."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from pymilvus import MilvusClient

from serve_app.collection import alias
from serve_app.config import MilvusConfig
from serve_app.milvus import indexing
from serve_app.milvus.scanning import SETTLED_S
from serve_app.milvus.writer import MilvusWriter

FINGERPRINT = "0123456789ab"
CONFIG = MilvusConfig(attempt_timeout_s=10)
SHARDED = CONFIG.model_copy(update={"num_shards": 2, "replica_number": 2})
NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
DEADLINE_S = 60


@dataclass(frozen=True)
class Engine:
    """Hold a running Milvus."""

    name: str
    uri: str
    client: MilvusClient
    config: MilvusConfig = CONFIG
    uris: tuple[str, ...] = ()
    """All its proxies, where it has several."""

    def make_index(self, catalogue: str) -> "Index":
        indexing.ensure(self.client, self.config, catalogue, FINGERPRINT, NOW)
        return Index(self, catalogue)


@dataclass(frozen=True)
class Index:
    """Hold an index that tests may write to."""

    engine: Engine
    catalogue: str

    @property
    def alias(self) -> str:
        return alias(self.catalogue, FINGERPRINT)

    @property
    def client(self) -> MilvusClient:
        return self.engine.client

    def writer(self) -> MilvusWriter:
        return MilvusWriter(self.client, self.alias, self.engine.config)


def settle(engine: Engine) -> None:
    """Wait as long as it takes until plain reads are promised to find what was acknowledged."""
    time.sleep(0 if engine.name == "lite" else SETTLED_S)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s"
        await asyncio.sleep(0.1)


class Wire:
    """Forward a port of its own to an engine, until it is cut or held up."""

    def __init__(self, uri: str) -> None:
        target = urlsplit(uri)
        self._host, self._target = target.hostname, target.port
        self._port = 0
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def mend(self) -> None:
        self._flows.set()
        if self._server is not None and self._server.is_serving():
            return
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for end in list(self._ends):
            end.transport.abort()

    def hold(self) -> None:
        """Keep all that comes, as a server does that hangs."""
        self._flows.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._target)
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        self._ends.discard(writer)
        writer.close()


@asynccontextmanager
async def wire(uri: str) -> AsyncIterator[Wire]:
    forwarded = Wire(uri)
    await forwarded.mend()
    try:
        yield forwarded
    finally:
        await forwarded.cut()
