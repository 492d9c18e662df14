"""What a model's alias stands for: made, switched, switched back, dropped."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime

from pymilvus import MilvusClient

from serve_app import collection as naming
from serve_app.config import MilvusConfig
from serve_app.coverage import lacking
from serve_app.errors import BadConfig, FailingOver, NotVerified
from serve_app.milvus import indexing, targets
from serve_app.milvus.client import is_lite, translated
from serve_app.milvus.loading import read_loading
from serve_app.milvus.targets import Marks, State, Target

log = logging.getLogger(__name__)

WHOLE_DEADLINE_S = 120.0
WHOLE_PAUSE_S = 0.5
WHOLE_LOOKS = 3
"""So many looks in a row have to find all segments loaded."""


def create(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    fingerprint: str,
    now: datetime,
    properties: Mapping[str, str] | None = None,
) -> str:
    """Make an empty collection for a model, with the index that the settings name; nobody searches or fills it yet."""
    return indexing.make(client, config, catalogue, fingerprint, now, properties or {})


def switch(client: MilvusClient, catalogue: str, name: str) -> str | None:
    """Let the model's alias stand for `name` from now on; return the collection that it stood for.

    Raises NotVerified unless `name` is loaded, complete and verified, and no marks are left. The old collection
    goes on taking writes, so that `rollback` loses none.
    """
    target = targets.read(client, catalogue, name)
    alias = naming.alias(catalogue, target.fingerprint)
    searched = indexing.resolve(client, alias)
    if searched == name:
        return searched
    _need_ready(client, catalogue, target, verified=True)
    if searched is not None:
        # Before the switch: a write that sees the alias changed must find the old collection open.
        targets.remember(client, searched, state=State.MIRRORED)
        targets.remember(client, name, previous=searched)
    _point(client, alias, name, standing=searched is not None)
    return searched


def rollback(client: MilvusClient, catalogue: str, fingerprint: str) -> str:
    """Let a model's alias stand for the collection that it stood for before the last switch; return its name."""
    alias = naming.alias(catalogue, fingerprint)
    searched = indexing.resolve(client, alias)
    previous = targets.read(client, catalogue, searched).previous if searched else None
    if searched is None or previous is None:
        raise BadConfig(f"{alias} was never switched, so there is nothing to go back to; see `shoplens index`")
    if not indexing.exists(client, previous):
        raise BadConfig(f"{previous}, which {alias} stood for before, was dropped")
    _need_ready(client, catalogue, targets.read(client, catalogue, previous), verified=False)
    targets.remember(client, searched, state=State.MIRRORED)
    targets.remember(client, previous, previous=searched)
    _point(client, alias, previous, standing=True)
    return previous


def retire(client: MilvusClient, catalogue: str, name: str, running: str) -> None:
    """Take away the alias of a model that no longer runs; raises BadConfig for the `running` model's."""
    target = targets.read(client, catalogue, name)
    alias = naming.alias(catalogue, target.fingerprint)
    if indexing.resolve(client, alias) != name:
        raise BadConfig(f"{name} is not searched; `shoplens index drop {name}` deletes it")
    if target.fingerprint == running:
        raise BadConfig(f"{name} is searched by the running model {running}; switch to another collection instead")
    with translated():
        client.drop_alias(alias, timeout=indexing.CALL_TIMEOUT_S)
    log.info("alias dropped", extra={"alias": alias, "collection": name})


def drop(client: MilvusClient, catalogue: str, name: str) -> None:
    """Delete a collection with its rows; raises BadConfig for one that is searched, and for anything but its name.

    Milvus Lite would delete the collection behind an alias's name, and Milvus 2.3 leave an alias without a target.
    """
    targets.read(client, catalogue, name)
    for other in targets.read_all(client, catalogue):
        alias = naming.alias(catalogue, other.fingerprint)
        if indexing.resolve(client, alias) == name:
            raise BadConfig(f"{name} is searched as {alias}; switch, roll back or retire it first")
    Marks(client, catalogue).drop(name)
    with translated():
        client.drop_collection(name, timeout=indexing.CALL_TIMEOUT_S)
    log.info("index dropped", extra={"collection": name})


def _need_ready(client: MilvusClient, catalogue: str, target: Target, *, verified: bool) -> None:
    name = target.collection
    if not indexing.is_loaded(client, name):
        raise NotVerified(f"{name} is not loaded: every search would fail; `shoplens index backfill {name}` loads it")
    if target.state is not State.MIRRORED:
        raise NotVerified(f"{name} lacks writes; run `shoplens index backfill {name}`, then verify it")
    marks = Marks(client, catalogue).count(name)
    if marks:
        raise NotVerified(f"{name} lacks {marks:,} images that writers of another model changed; run its backfill")
    if verified and target.verified is None:
        raise NotVerified(f"{name} is not verified; `shoplens index verify {name}` does it")
    if not is_lite(client):
        _wait_until_whole(client, name)


def _wait_until_whole(client: MilvusClient, name: str) -> None:
    """Wait until every replica holds every segment; raises NotVerified.

    A collection counts as loaded before that: what a backfill wrote last is searched in memory while its segments are
    indexed and loaded, and searches must not meet that change.
    """
    deadline_s = time.monotonic() + WHOLE_DEADLINE_S
    looks = 0
    while looks < WHOLE_LOOKS:
        try:
            loading = read_loading(client, name, indexing.CALL_TIMEOUT_S)
        except FailingOver:
            # A segment that was compacted away between two calls, for one.
            if time.monotonic() > deadline_s:
                raise
            looks = 0
            time.sleep(WHOLE_PAUSE_S)
            continue
        missing = lacking(loading, loading.stored)
        looks = 0 if missing else looks + 1
        if missing and time.monotonic() > deadline_s:
            raise NotVerified(
                f"{len(missing)} of {len(loading.stored)} segments of {name} are not loaded by every replica after "
                f"{WHOLE_DEADLINE_S:.0f} s; see whether all query nodes run and have memory left, then try again"
            )
        time.sleep(WHOLE_PAUSE_S)


def _point(client: MilvusClient, alias: str, name: str, *, standing: bool) -> None:
    with translated():
        if standing:
            client.alter_alias(name, alias, timeout=indexing.CALL_TIMEOUT_S)
        else:
            client.create_alias(name, alias, timeout=indexing.CALL_TIMEOUT_S)
    log.info("alias switched", extra={"alias": alias, "collection": name})
