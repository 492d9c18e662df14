"""A new collection filled from the one that is searched, while both take writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.collection import quote
from serve_app.config import MilvusConfig
from serve_app.errors import BadConfig, IndexMissing, MilvusUnavailable
from serve_app.milvus import indexing, memory, targets
from serve_app.milvus.client import translated
from serve_app.milvus.scanning import ALL, BATCH, TIMEOUT_S, Values, differing, rows_by_key, scan
from serve_app.milvus.targets import State, Target

MOST_PASSES = 10
MOST_REPAIRS = 20


@dataclass
class Progress:
    """Count what a backfill has seen and done."""

    seen: int = 0
    copied: int = 0
    removed: int = 0
    passes: int = 0


def open_target(
    client: MilvusClient, uri: str, config: MilvusConfig, catalogue: str, name: str, *, force: bool = False
) -> Target:
    """Let all writers write to a collection besides, and load it; raises BadConfig where its memory isn't there.

    From here on, the collection that its model's alias stands for is kept like it, should a rollback need it.
    """
    target = targets.read(client, catalogue, name)
    alias = naming.alias(catalogue, target.fingerprint)
    if indexing.resolve(client, alias) == name:
        raise BadConfig(f"{name} is what is searched; `shoplens index create` makes a collection to fill")
    memory.check(client, uri, config, catalogue, name, force=force)
    if not indexing.is_loaded(client, name):
        indexing.load(client, name, config.replica_number)
    for other in targets.read_all(client, catalogue):
        searched = indexing.resolve(client, naming.alias(catalogue, other.fingerprint)) == other.collection
        if searched and other.state is None:
            targets.remember(client, other.collection, state=State.MIRRORED)
    if target.state is not State.FILLING:
        targets.remember(client, name, state=State.FILLING)
    return target


def backfill(
    client: MilvusClient,
    uri: str,
    config: MilvusConfig,
    catalogue: str,
    name: str,
    *,
    force: bool = False,
    tell: Callable[[Progress], None] = lambda _: None,
    batch: int = BATCH,
) -> Progress:
    """Copy all rows of the same model's searched collection, with their vectors, to `name`; return what was done.

    It can be killed at any moment and run again: rows that are there and equal are left alone. Writers write to both
    collections meanwhile; each batch is compared with its source once more after it was written, and the whole at
    the end, until nothing differs. Raises BadConfig, IndexMissing, MilvusUnavailable.
    """
    target = open_target(client, uri, config, catalogue, name, force=force)
    source = indexing.resolve(client, naming.alias(catalogue, target.fingerprint))
    if source is None:
        raise IndexMissing(
            f"no collection of the model {target.fingerprint} is searched; fill {name} with --manifest MANIFEST"
        )
    progress = Progress()
    for _ in range(MOST_PASSES):
        before = progress.copied + progress.removed
        progress.passes += 1
        for rows in scan(client, source, batch=batch):
            progress.seen += len(rows)
            _settle(client, source, name, [row["row_id"] for row in rows], progress)
            tell(progress)
        for rows in scan(client, name, batch=batch):
            _settle(client, source, name, [row["row_id"] for row in rows], progress)
        if progress.copied + progress.removed == before:
            with translated():
                client.flush(name, timeout=config.write_deadline_s)
            targets.remember(client, name, state=State.MIRRORED)
            return progress
    raise MilvusUnavailable(f"{name} still differed after {MOST_PASSES} passes; run the same backfill again")


def _settle(client: MilvusClient, source: str, name: str, row_ids: Sequence[str], progress: Progress) -> None:
    """Make the rows of those keys equal, whatever writers do to them meanwhile."""
    for _ in range(MOST_REPAIRS):
        wanted, found = rows_by_key(client, source, row_ids), rows_by_key(client, name, row_ids)
        write, remove = differing(wanted, found)
        if not write and not remove:
            return
        # An upsert doesn't replace a row of another category on every server.
        moved = [key for key in write if key in found and found[key]["category_root"] != wanted[key]["category_root"]]
        _delete(client, name, [*remove, *moved])
        copied = _copy(client, source, name, write)
        progress.copied += copied
        progress.removed += len(remove)
    raise MilvusUnavailable(f"rows of {name} are written faster than they can be compared; run the backfill again")


def _copy(client: MilvusClient, source: str, name: str, row_ids: Sequence[str]) -> int:
    rows: list[Values] = list(rows_by_key(client, source, row_ids, ALL).values())
    for start in range(0, len(rows), BATCH):
        with translated():
            client.upsert(name, rows[start : start + BATCH], timeout=TIMEOUT_S)
    return len(rows)


def _delete(client: MilvusClient, name: str, row_ids: Sequence[str]) -> None:
    for start in range(0, len(row_ids), BATCH):
        keys = ", ".join(map(quote, row_ids[start : start + BATCH]))
        with translated():
            client.delete(name, filter=f"row_id in [{keys}]", timeout=TIMEOUT_S)
