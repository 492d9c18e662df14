"""An index comes back from its export row by row."""

import json
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve_app.collection import Row, alias
from serve_app.config import SearchParams
from serve_app.errors import BadInput
from serve_app.milvus import indexing, lifecycle, targets
from serve_app.milvus.export import INDEX, export, read, restore
from serve_app.milvus.scanning import ALL, Values, scan
from serve_app.milvus.verify import Demands, verify
from tests.contract.engines import FINGERPRINT, NOW, Engine, Index, settle
from tests.contract.rows import row

ODD_TEXT = 'Müller\'s "5\\6" \n\t 椅子 🪑'
ROWS = 700


def rows() -> list[Row]:
    odd = row(f"odd {ODD_TEXT}", data={"title": {"de": ODD_TEXT}, "box": [0, 0.25, 1], "none": None}, in_stock=False)
    return [odd, *(row(f"image-{number:04}", price=number) for number in range(ROWS))]


on_a_server_too = pytest.mark.parametrize("filled", ["lite", "server"], indirect=True)


@pytest.fixture(scope="module")
def filled(request: pytest.FixtureRequest) -> Index:
    engine: Engine = request.getfixturevalue(getattr(request, "param", "lite"))
    index = engine.make_index("export")
    index.writer().write(rows())
    settle(index.engine)
    return index


def searched(index: Index) -> str:
    found = indexing.resolve(index.client, index.alias)
    assert found is not None
    return found


def stored(index: Index, name: str) -> dict[str, Values]:
    settle(index.engine)
    return {values["row_id"]: values for batch in scan(index.client, name, ALL) for values in batch}


def assert_equal(found: dict[str, Values], wanted: dict[str, Values]) -> None:
    assert set(found) == set(wanted)
    for key, values in wanted.items():
        np.testing.assert_array_equal(found[key].pop("vector"), values["vector"])
        assert found[key] == {name: value for name, value in values.items() if name != "vector"}


@on_a_server_too
def test_keys_come_in_order(filled: Index) -> None:
    keys = [values["row_id"] for batch in scan(filled.client, searched(filled), batch=100) for values in batch]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) == indexing.count(filled.client, searched(filled))


def test_an_index_that_was_dropped_is_restored(filled: Index, tmp_path: Path) -> None:
    name, before = searched(filled), stored(filled, searched(filled))
    about = export(filled.client, filled.catalogue, name, tmp_path / "out", part_rows=200)
    assert (about.rows, about.changed) == (len(before), 0)
    filled.client.drop_alias(filled.alias)
    lifecycle.drop(filled.client, filled.catalogue, name)
    again = restore(filled.client, filled.engine.config, filled.catalogue, tmp_path / "out", NOW + timedelta(minutes=1))
    assert_equal(stored(filled, again), before)
    verify(filled.client, filled.engine.config, filled.catalogue, again, SearchParams(), Demands(queries=10))
    lifecycle.switch(filled.client, filled.catalogue, again)
    assert searched(filled) == again


@on_a_server_too
def test_what_is_written_during_an_export_is_in_it(filled: Index, tmp_path: Path) -> None:
    name, begun, failed = searched(filled), threading.Event(), []

    def write() -> None:
        begun.wait(60)
        try:
            for number in range(0, 300, 20):
                numbers = range(number, number + 20)
                filled.writer().write(
                    [row(f"image-{n:04}", price=-1, row_sha256="5" * 64, updated_at=5_000) for n in numbers]
                )
                filled.writer().write([row(f"added-{n:04}") for n in numbers])
                filled.writer().delete([f"image-{300 + n:04}" for n in numbers])
        except Exception as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    writing = threading.Thread(target=write)
    writing.start()
    export(filled.client, filled.catalogue, name, tmp_path / "out", tell=lambda _: begun.set(), part_rows=100)
    writing.join()
    about = export(filled.client, filled.catalogue, name, tmp_path / "out", part_rows=100)
    assert not failed
    assert about.changed == 0
    again = restore(filled.client, filled.engine.config, filled.catalogue, tmp_path / "out", NOW + timedelta(minutes=2))
    found = stored(filled, name)
    assert_equal(stored(filled, again), found)
    assert about.rows == len(found)
    assert sum(key.startswith("added-") for key in found) == 300
    lifecycle.drop(filled.client, filled.catalogue, again)


class Killed(Exception):
    pass


def test_an_export_and_a_restore_go_on_where_they_were(filled: Index, tmp_path: Path) -> None:
    name, out, left = searched(filled), tmp_path / "out", 2

    def die(_: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Killed

    with pytest.raises(Killed):
        export(filled.client, filled.catalogue, name, out, tell=die, part_rows=100)
    with pytest.raises(BadInput, match="is not finished"):
        restore(filled.client, filled.engine.config, filled.catalogue, out, NOW)
    parts = {part: part.stat().st_mtime_ns for part in out.glob("part-*.parquet")}
    assert parts
    export(filled.client, filled.catalogue, name, out, part_rows=100)
    assert all(part.stat().st_mtime_ns == made for part, made in parts.items())
    left = 1
    with pytest.raises(Killed):
        restore(filled.client, filled.engine.config, filled.catalogue, out, NOW + timedelta(minutes=3), tell=die)
    half = {target.collection for target in targets.read_all(filled.client, filled.catalogue)}
    again = restore(filled.client, filled.engine.config, filled.catalogue, out, NOW + timedelta(minutes=4))
    assert again in half
    assert_equal(stored(filled, again), stored(filled, name))
    lifecycle.drop(filled.client, filled.catalogue, again)


def test_an_export_is_plain_parquet(filled: Index, tmp_path: Path) -> None:
    export(filled.client, filled.catalogue, searched(filled), tmp_path / "out")
    table = pq.read_table(tmp_path / "out/part-000000.parquet")
    assert table.column_names == list(ALL)
    assert read(tmp_path / "out").fingerprint == FINGERPRINT
    assert alias(filled.catalogue, FINGERPRINT) == filled.alias


@pytest.mark.parametrize("content", [None, "{", "{}", json.dumps({"format": 2})])
def test_a_folder_without_an_export_is_refused(filled: Index, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / INDEX).write_text(content)
    with pytest.raises(BadInput, match="holds no export"):
        restore(filled.client, filled.engine.config, filled.catalogue, tmp_path, NOW)


def test_a_folder_with_other_things_is_left_alone(filled: Index, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(BadInput, match="is not empty"):
        export(filled.client, filled.catalogue, searched(filled), tmp_path)
