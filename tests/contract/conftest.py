"""The engines: one process of each for all tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from scripts.servers import CantStart, MilvusCluster, MilvusStandalone
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from tests.contract.engines import CONFIG, SHARDED, Engine, Index


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # For some time after a query node was killed the coordinator loads new collections to it, and fails.
    items.sort(key=lambda item: "test_failover" in item.nodeid)
    for item in items:
        chosen = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if {"cluster", "milvus_cluster"} & {*getattr(item, "fixturenames", ()), *map(str, chosen)}:
            item.add_marker("milvus_cluster")


@pytest.fixture(scope="package")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with LocalMilvus(tmp_path_factory.mktemp("lite")) as uri:
        client = connect(CONFIG, uri)
        yield Engine("lite", uri, client)
        client.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    standalone = MilvusStandalone(tmp_path_factory.mktemp("server"))
    with _started(standalone):
        client = connect(CONFIG, standalone.uri)
        yield Engine("server", standalone.uri, client)
        client.close()


@pytest.fixture(scope="package")
def milvus_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusCluster]:
    cluster = MilvusCluster(tmp_path_factory.mktemp("cluster"), query_nodes=2, proxies=2)
    with _started(cluster):
        yield cluster


@pytest.fixture(scope="package")
def cluster(milvus_cluster: MilvusCluster) -> Iterator[Engine]:
    client = connect(SHARDED, milvus_cluster.uris[0])
    yield Engine("cluster", milvus_cluster.uris[0], client, SHARDED, tuple(milvus_cluster.uris))
    client.close()


@contextmanager
def _started(server: MilvusStandalone | MilvusCluster) -> Iterator[None]:
    try:
        server.start()
    except CantStart as error:
        pytest.exit(str(error), returncode=2)
    try:
        yield
    finally:
        server.stop()


@pytest.fixture(scope="package", params=["lite", "server", "cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def index(request: pytest.FixtureRequest, engine: Engine) -> Index:
    """Make an empty index, one for each engine and module."""
    return engine.make_index(request.module.__name__.rpartition(".")[2])
