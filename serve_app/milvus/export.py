"""An index as Parquet files, with its vectors, and back.

A folder holds `index.json` and parts, each of the rows between two keys. Parts are written under another name first,
so that a run that is killed goes on after the last whole one. What was written to the index meanwhile is found by
comparing each part with the index once more, until nothing differs.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.collection import FIELDS, Kind
from serve_app.config import MilvusConfig
from serve_app.domain import EMBEDDING_DIM
from serve_app.errors import BadInput
from serve_app.milvus import indexing, targets
from serve_app.milvus.client import is_lite, translated
from serve_app.milvus.scanning import (
    ALL,
    BATCH,
    DIGEST,
    SETTLED_S,
    TIMEOUT_S,
    Values,
    differing,
    digest,
    rows_by_key,
    scan,
)
from serve_app.milvus.targets import State

FORMAT = 1
INDEX = "index.json"
PART_ROWS = 10_000
MOST_PASSES = 5
ORIGIN = "shoplens.restored_from"

_TYPES = {
    Kind.VARCHAR: pa.string(),
    Kind.JSON: pa.string(),
    Kind.INT64: pa.int64(),
    Kind.BOOL: pa.bool_(),
    Kind.FLOAT_VECTOR: pa.list_(pa.float32(), EMBEDDING_DIM),
}
SCHEMA = pa.schema([pa.field(field.name, _TYPES[field.kind], nullable=False) for field in FIELDS])

Tell = Callable[[int], None]
"""Hear of the rows that were read or written."""


@dataclass(frozen=True, slots=True)
class Export:
    """Describe an export; `changed` rows were written while its last pass ran, so they may be older or newer."""

    export_id: str
    collection: str
    fingerprint: str
    properties: dict[str, str]
    rows: int | None = None
    changed: int | None = None
    finished: str | None = None
    format: int = FORMAT


def export(
    client: MilvusClient,
    catalogue: str,
    name: str,
    folder: Path,
    *,
    tell: Tell = lambda _: None,
    part_rows: int = PART_ROWS,
) -> Export:
    """Write all rows of a collection to a folder, or go on with that; return what was written.

    Raises BadInput for a folder that holds something else.
    """
    about = _begin(client, catalogue, name, folder)
    # What was acknowledged before this call is to be found by its reads.
    time.sleep(0.0 if is_lite(client) else SETTLED_S)
    _append(client, name, folder, part_rows, tell)
    changed = 0
    for _ in range(MOST_PASSES):
        changed = _compare(client, name, folder) + _append(client, name, folder, part_rows, tell)
        if not changed:
            break
    rows = sum(pq.read_metadata(part).num_rows for part in _parts(folder))
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    values = asdict(about) | {"rows": rows, "changed": changed, "finished": finished}
    about = Export(**values)
    _write_json(folder / INDEX, values)
    return about


def restore(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    folder: Path,
    now: datetime,
    *,
    tell: Tell = lambda _: None,
) -> str:
    """Make a collection of an export's rows, or go on with that; return its name. It is to be verified and switched.

    Raises BadInput for a folder without a finished export.
    """
    about = read(folder)
    if about.finished is None:
        raise BadInput(f"the export in {folder} is not finished; run `shoplens index export {folder}` again")
    name = _restoring(client, catalogue, about) or _make(client, config, catalogue, about, now)
    for part in _parts(folder):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=BATCH):
            _store(client, name, _values(batch))
            tell(batch.num_rows)
    with translated():
        client.flush(name, timeout=config.write_deadline_s)
    targets.remember(client, name, state=State.MIRRORED)
    return name


def read(folder: Path) -> Export:
    """Return what a folder's export is; raises BadInput."""
    try:
        values = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        about = Export(**values)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{folder} holds no export of an index: {error}") from error
    if about.format != FORMAT:
        raise BadInput(f"the export in {folder} is of format {about.format}; this Shoplens reads {FORMAT}")
    return about


def _begin(client: MilvusClient, catalogue: str, name: str, folder: Path) -> Export:
    target = targets.read(client, catalogue, name)
    if (folder / INDEX).exists():
        about = read(folder)
        if about.collection != name:
            raise BadInput(f"{folder} holds an export of {about.collection}; name another folder")
        return about
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name another folder")
    with translated():
        described = client.describe_collection(name, timeout=TIMEOUT_S)
    kept = {key: value for key, value in described["properties"].items() if key not in _OF_ITS_TIME}
    about = Export(uuid.uuid4().hex, name, target.fingerprint, kept)
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / INDEX, asdict(about))
    return about


_OF_ITS_TIME = {targets.STATE, targets.VERIFIED, targets.PREVIOUS, ORIGIN}
"""Properties that say what became of one collection, not how it was made."""


def _append(client: MilvusClient, name: str, folder: Path, part_rows: int, tell: Tell) -> int:
    """Write the rows after the last part's last key; return their number."""
    last = _last_key(_parts(folder))
    waiting: list[Values] = []
    added = 0
    for rows in scan(client, name, ALL, after=last):
        waiting += rows
        tell(len(rows))
        while len(waiting) >= part_rows:
            _write_part(folder, waiting[:part_rows])
            added += part_rows
            waiting = waiting[part_rows:]
    if waiting:
        _write_part(folder, waiting)
    return added + len(waiting)


def _compare(client: MilvusClient, name: str, folder: Path) -> int:
    """Make each part like the rows of the index between its keys; return how many differed."""
    changed = 0
    before: str | None = None
    for part in _parts(folder):
        last = _last_key([part])
        live = {row["row_id"]: row for rows in scan(client, name, after=before, to=last) for row in rows}
        table = pq.read_table(part)
        held = {row["row_id"]: row for row in table.select(list(DIGEST)).to_pylist()}
        write, remove = differing(live, held)
        if write or remove:
            _patch(client, name, part, table, write, set(remove) | set(write))
            changed += len(write) + len(remove)
        before = last
    return changed


def _patch(client: MilvusClient, name: str, part: Path, table: pa.Table, write: Sequence[str], away: set[str]) -> None:
    kept = table.filter(pa.array([key not in away for key in table["row_id"].to_pylist()]))
    fresh = list(rows_by_key(client, name, write, ALL).values())
    rows = pa.concat_tables([kept, _table(fresh)]).sort_by("row_id")
    if not rows.num_rows:
        # Its last key bounds what is compared, so a part that lost all its rows stays as it is named.
        part.unlink()
        return
    _write_table(part, rows)


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _last_key(parts: Sequence[Path]) -> str | None:
    if not parts:
        return None
    keys = pq.read_table(parts[-1], columns=["row_id"])["row_id"]
    return str(keys[len(keys) - 1])


def _write_part(folder: Path, rows: Sequence[Values]) -> None:
    parts = _parts(folder)
    number = int(parts[-1].stem.rpartition("-")[2]) + 1 if parts else 0
    _write_table(folder / f"part-{number:06}.parquet", _table(rows))


def _table(rows: Sequence[Values]) -> pa.Table:
    columns: dict[str, Any] = {}
    for field in FIELDS:
        values = [row[field.name] for row in rows]
        if field.kind is Kind.JSON:
            values = [json.dumps(value, ensure_ascii=False) for value in values]
        elif field.kind is Kind.FLOAT_VECTOR:
            flat = np.asarray(values, np.float32).reshape(-1)
            columns[field.name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), EMBEDDING_DIM)
            continue
        columns[field.name] = pa.array(values, _TYPES[field.kind])
    return pa.table(columns, schema=SCHEMA)


def _write_table(path: Path, table: pa.Table) -> None:
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(table, unfinished, compression="zstd")
    _keep(unfinished, path)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _keep(unfinished, path)


def _keep(unfinished: Path, path: Path) -> None:
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def _restoring(client: MilvusClient, catalogue: str, about: Export) -> str | None:
    """Return the collection that an earlier run of this restore made and did not finish."""
    for target in targets.read_all(client, catalogue):
        with translated():
            properties = client.describe_collection(target.collection, timeout=TIMEOUT_S)["properties"]
        if properties.get(ORIGIN) == about.export_id and target.state is State.FILLING:
            if not indexing.is_loaded(client, target.collection):
                indexing.load(client, target.collection)
            return target.collection
    return None


def _make(client: MilvusClient, config: MilvusConfig, catalogue: str, about: Export, now: datetime) -> str:
    made = json.loads(about.properties.get(indexing.SETTINGS, "{}"))
    settings = config.model_copy(update={key: value for key, value in made.items() if key in MilvusConfig.model_fields})
    properties = about.properties | {ORIGIN: about.export_id}
    name = indexing.make(client, settings, catalogue, about.fingerprint, now, properties)
    targets.remember(client, name, state=State.FILLING)
    return name


def _values(batch: pa.RecordBatch) -> list[Values]:
    vectors = np.asarray(batch.column("vector").flatten(), np.float32).reshape(-1, EMBEDDING_DIM)
    rows: list[Values] = batch.drop_columns(["vector"]).to_pylist()
    return [
        row | {"vector": vector, "data": json.loads(row["data"])} for row, vector in zip(rows, vectors, strict=True)
    ]


def _store(client: MilvusClient, name: str, rows: Sequence[Values]) -> None:
    """Write rows that are not there yet; what writers wrote since the export is newer and stays."""
    there = rows_by_key(client, name, [row["row_id"] for row in rows])
    todo = [
        row
        for row in rows
        if row["row_id"] not in there
        or (digest(row) != digest(there[row["row_id"]]) and row["updated_at"] > there[row["row_id"]]["updated_at"])
    ]
    if todo:
        with translated():
            client.upsert(name, todo, timeout=TIMEOUT_S)


def default_collection(client: MilvusClient, catalogue: str, fingerprint: str) -> str:
    """Return the collection that a model's searches use; raises BadInput where there is none."""
    found = indexing.resolve(client, naming.alias(catalogue, fingerprint))
    if found is None:
        raise BadInput(f"the model {fingerprint} has no index; name a collection, see `shoplens index`")
    return found
