"""The engines: one process of each for all tests."""

from collections.abc import Iterator

import pytest

from scripts.servers import CantStart, MilvusStandalone, check_loopback_only
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from tests.contract.engines import CONFIG, Engine, Index


@pytest.fixture(scope="session")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with LocalMilvus(tmp_path_factory.mktemp("lite")) as uri:
        client = connect(CONFIG, uri)
        yield Engine("lite", uri, client)
        client.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    try:
        check_loopback_only()
        standalone = MilvusStandalone(tmp_path_factory.mktemp("server"))
        standalone.start()
    except CantStart as error:
        pytest.exit(str(error), returncode=2)
    try:
        client = connect(CONFIG, standalone.uri)
        yield Engine("server", standalone.uri, client)
        client.close()
    finally:
        standalone.stop()


@pytest.fixture(scope="session", params=["lite", "server"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def index(request: pytest.FixtureRequest, engine: Engine) -> Index:
    """Make an empty index, one for each engine and module."""
    return engine.make_index(request.module.__name__.rpartition(".")[2])
