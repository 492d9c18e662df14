"""An index is made, found and described alike on every engine."""

import json
import threading
from datetime import timedelta

import pytest

from serve_app.collection import IndexInfo, alias
from serve_app.config import MilvusConfig
from serve_app.errors import BadConfig
from serve_app.milvus import indexing
from serve_app.milvus.client import connect, is_lite
from tests.contract.engines import CONFIG, FINGERPRINT, NOW, Engine, Index
from tests.contract.rows import row

OLDER_MODEL = "ba9876543210"


def test_engines_are_told_apart(engine: Engine) -> None:
    assert is_lite(engine.client) == (engine.name == "lite")


def test_a_new_index_is_loaded_and_found_by_its_alias(index: Index) -> None:
    name = indexing.resolve(index.client, index.alias)
    assert name == f"{index.alias}_20261123T100000Z"
    assert indexing.is_loaded(index.client, index.alias)


def test_an_alias_that_does_not_exist_stands_for_nothing(engine: Engine) -> None:
    assert indexing.resolve(engine.client, "no_such_alias") is None
    assert not indexing.is_loaded(engine.client, "no_such_alias")


def test_fingerprint_and_settings_are_kept_with_the_collection(index: Index) -> None:
    properties = index.client.describe_collection(index.alias)["properties"]
    assert properties["shoplens.fingerprint"] == FINGERPRINT
    expected = "FLAT" if index.engine.name == "lite" else "HNSW"
    assert json.loads(properties["shoplens.settings"])["index_type"] == expected


def test_indexes_are_described_newest_first(engine: Engine) -> None:
    older = indexing.ensure(engine.client, CONFIG, "described", OLDER_MODEL, NOW)
    newer = indexing.ensure(engine.client, CONFIG, "described", FINGERPRINT, NOW + timedelta(hours=1))
    Index(engine, "described").writer().write([row("a"), row("b")])
    engine.client.drop_alias(alias("described", OLDER_MODEL))
    engine.client.release_collection(older)
    first, second = indexing.describe(engine.client, "described")
    index_type = "FLAT" if engine.name == "lite" else "HNSW"
    assert first == IndexInfo(
        alias("described", FINGERPRINT), newer, FINGERPRINT, 2, True, index_type, NOW + timedelta(hours=1)
    )
    assert second == IndexInfo(None, older, OLDER_MODEL, None, False, index_type, NOW)


def test_other_catalogues_are_not_described(index: Index) -> None:
    assert indexing.describe(index.client, "no_such_catalogue") == []


def test_ensuring_twice_makes_one_index(engine: Engine) -> None:
    first = indexing.ensure(engine.client, CONFIG, "ensured", FINGERPRINT, NOW)
    second = indexing.ensure(engine.client, CONFIG, "ensured", FINGERPRINT, NOW + timedelta(hours=1))
    assert first == second
    assert len(indexing.describe(engine.client, "ensured")) == 1


def test_ensuring_loads_what_was_released(engine: Engine) -> None:
    name = indexing.ensure(engine.client, CONFIG, "released", FINGERPRINT, NOW)
    engine.client.release_collection(name)
    indexing.ensure(engine.client, CONFIG, "released", FINGERPRINT, NOW)
    assert indexing.is_loaded(engine.client, name)


def test_a_name_that_is_taken_is_not_taken_again(engine: Engine) -> None:
    first = indexing.ensure(engine.client, CONFIG, "quick", FINGERPRINT, NOW)
    engine.client.drop_alias(alias("quick", FINGERPRINT))
    assert indexing.ensure(engine.client, CONFIG, "quick", FINGERPRINT, NOW) != first


def test_a_race_ends_with_one_index(engine: Engine) -> None:
    start = threading.Barrier(3)
    names: list[str] = []

    def ensure(delay_s: int) -> None:
        client = connect(CONFIG, engine.uri)
        start.wait()
        names.append(indexing.ensure(client, CONFIG, "raced", FINGERPRINT, NOW + timedelta(seconds=delay_s)))
        client.close()

    threads = [threading.Thread(target=ensure, args=(delay_s,)) for delay_s in (0, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (standing,) = indexing.describe(engine.client, "raced")
    assert set(names) == {standing.collection}
    assert len(names) == 3
    assert standing.alias is not None


def test_lite_refuses_an_index_that_it_would_replace(lite: Engine) -> None:
    config = MilvusConfig.model_construct(**{**CONFIG.model_dump(), "index_type": "DISKANN"})
    with pytest.raises(BadConfig, match="Milvus Lite has no DISKANN"):
        indexing.ensure(lite.client, config, "replaced", FINGERPRINT, NOW)
    assert indexing.describe(lite.client, "replaced") == []
