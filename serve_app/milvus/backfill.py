"""A new collection filled from the one that is searched, while both take writes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.collection import quote
from serve_app.config import MilvusConfig
from serve_app.errors import BadConfig, IndexMissing, MilvusUnavailable
from serve_app.milvus import indexing, memory, targets
from serve_app.milvus.client import is_lite, translated
from serve_app.milvus.scanning import (
    ALL,
    BATCH,
    MOST_LOOKS,
    SETTLED_S,
    TIMEOUT_S,
    VECTORS_A_CALL,
    Look,
    Values,
    look,
    rows_by_key,
    scan,
)
from serve_app.milvus.targets import State, Target

MOST_PASSES = 10


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
    collections meanwhile; what was written is compared with its source once more, and the whole at the end, until a
    pass finds nothing to mend. Raises BadConfig, IndexMissing, MilvusUnavailable.
    """
    target = open_target(client, uri, config, catalogue, name, force=force)
    source = indexing.resolve(client, naming.alias(catalogue, target.fingerprint))
    if source is None:
        raise IndexMissing(
            f"no collection of the model {target.fingerprint} is searched; fill {name} with --manifest MANIFEST"
        )
    settled_s = 0.0 if is_lite(client) else SETTLED_S
    # What was written before writers saw the open target is to be found by the first reads.
    time.sleep(settled_s)
    progress = Progress()
    copier = _Copier(client, source, name, progress, settled_s)
    for _ in range(MOST_PASSES):
        before = progress.copied + progress.removed
        progress.passes += 1
        for rows in scan(client, source, batch=batch):
            progress.seen += len(rows)
            copier.compare({row["row_id"]: row for row in rows}, copy_at_once=progress.passes == 1)
            tell(progress)
        for rows in scan(client, name, batch=batch):
            copier.doubt({row["row_id"]: row for row in rows})
        copier.settle(everything=True)
        if progress.copied + progress.removed == before:
            with translated():
                client.flush(name, timeout=config.write_deadline_s)
            targets.remember(client, name, state=State.MIRRORED)
            return progress
    raise MilvusUnavailable(f"{name} still differed after {MOST_PASSES} passes; run the same backfill again")


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Hold what a row looked like, None before the first look, and how often it was looked at."""

    row_id: str
    look: Look | None = None
    looks: int = 0


class _Copier:
    """Make rows of a target like those of the source, whatever writers do to both meanwhile.

    What differs is mended once a second look finds it as it was.
    """

    def __init__(self, client: MilvusClient, source: str, name: str, progress: Progress, settled_s: float) -> None:
        self._client = client
        self._source = source
        self._name = name
        self._progress = progress
        self._settled_s = settled_s
        self._waiting: deque[tuple[float, list[_Doubt]]] = deque()

    def compare(self, wanted: dict[str, Values], *, copy_at_once: bool) -> None:
        """Doubt those of the source's rows that differ in the target or are missing there, or copy the missing."""
        found = rows_by_key(self._client, self._name, list(wanted))
        missing = [row_id for row_id in wanted if row_id not in found] if copy_at_once else []
        self._copy(missing)
        self._wait([_Doubt(row_id) for row_id in missing])
        self._doubt([row_id for row_id in wanted if row_id not in missing], wanted, found)

    def doubt(self, found: dict[str, Values]) -> None:
        """Doubt rows of the target that the source doesn't have."""
        there = rows_by_key(self._client, self._source, list(found))
        self._doubt([row_id for row_id in found if row_id not in there], {}, found)

    def _doubt(self, row_ids: Sequence[str], wanted: dict[str, Values], found: dict[str, Values]) -> None:
        looks = {row_id: look(row_id, wanted, found) for row_id in row_ids}
        self._wait([_Doubt(row_id, seen, 1) for row_id, seen in looks.items() if seen[0] != seen[1]])
        self.settle()

    def settle(self, *, everything: bool = False) -> None:
        """Look again at what was doubted long enough ago, or wait for all of it."""
        while self._waiting and (everything or self._waiting[0][0] <= time.monotonic()):
            due_s, doubts = self._waiting.popleft()
            time.sleep(max(0.0, due_s - time.monotonic()))
            self._look_again(doubts)

    def _look_again(self, doubts: Sequence[_Doubt]) -> None:
        row_ids = [doubt.row_id for doubt in doubts]
        wanted = rows_by_key(self._client, self._source, row_ids)
        found = rows_by_key(self._client, self._name, row_ids)
        write: list[str] = []
        remove: list[str] = []
        doubted: list[_Doubt] = []
        for before in doubts:
            now = look(before.row_id, wanted, found)
            if now[0] == now[1]:
                continue
            if now == before.look:
                (write if now[0] else remove).append(before.row_id)
                doubted.append(_Doubt(before.row_id))
            elif before.looks < MOST_LOOKS:
                doubted.append(_Doubt(before.row_id, now, before.looks + 1))
        # An upsert doesn't replace a row of another category on every server.
        moved = [key for key in write if key in found and found[key]["category_root"] != wanted[key]["category_root"]]
        self._delete([*remove, *moved])
        self._progress.removed += len(remove)
        self._copy(write)
        self._wait(doubted)

    def _copy(self, row_ids: Sequence[str]) -> None:
        rows = list(rows_by_key(self._client, self._source, row_ids, ALL).values())
        for start in range(0, len(rows), VECTORS_A_CALL):
            with translated():
                self._client.upsert(self._name, rows[start : start + VECTORS_A_CALL], timeout=TIMEOUT_S)
        self._progress.copied += len(rows)

    def _wait(self, doubts: list[_Doubt]) -> None:
        if doubts:
            self._waiting.append((time.monotonic() + self._settled_s, doubts))

    def _delete(self, row_ids: Sequence[str]) -> None:
        for start in range(0, len(row_ids), BATCH):
            keys = ", ".join(map(quote, row_ids[start : start + BATCH]))
            with translated():
                self._client.delete(self._name, filter=f"row_id in [{keys}]", timeout=TIMEOUT_S)
