"""The life of an index: a collection is made, loaded and found by its alias."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pymilvus import CollectionSchema, DataType, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from serve_app import collection as naming
from serve_app.collection import FIELDS, IndexInfo, Kind
from serve_app.config import MilvusConfig
from serve_app.domain import EMBEDDING_DIM
from serve_app.errors import BadConfig, IndexMissing, MilvusUnavailable, ShoplensError, Unavailable
from serve_app.milvus import index_types
from serve_app.milvus.client import CONNECT_TIMEOUT_S, server_version, translated

log = logging.getLogger(__name__)

FINGERPRINT = "shoplens.fingerprint"
SETTINGS = "shoplens.settings"

PARTITIONED = "shoplens.partitioned_by_category"
"""Property of collections whose rows lie in the partitions of their categories."""

CALL_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 600.0
NAME_ATTEMPTS = 5
"""Names tell seconds: as many indexes of one model may be made within one."""


def ensure(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    fingerprint: str,
    now: datetime,
    properties: Mapping[str, str] | None = None,
) -> str:
    """Return the collection that the model's alias stands for, loaded; make both where the alias doesn't exist.

    Of several processes that do so at once, one makes the alias; the others drop what they made.
    Raises BadConfig for an index that the engine would replace, MilvusUnavailable, DeadlineExceeded.
    """
    alias = naming.alias(catalogue, fingerprint)
    standing = resolve(client, alias)
    if standing is None:
        made = make(client, config, catalogue, fingerprint, now, properties or {})
        standing = _claim(client, alias, made)
        if standing != made:
            with translated():
                client.drop_collection(made, timeout=CALL_TIMEOUT_S)
    if not is_loaded(client, standing):
        load(client, standing, config.replica_number)
    return standing


def resolve(client: MilvusClient, alias: str) -> str | None:
    """Return the name of the collection that the alias stands for; None where there is no such alias."""
    try:
        with translated():
            return str(client.describe_alias(alias, timeout=CALL_TIMEOUT_S)["collection_name"])
    except IndexMissing:
        return None


def exists(client: MilvusClient, name: str) -> bool:
    """Tell whether there is an alias, or a collection, of that name."""
    if resolve(client, name) is not None:
        return True
    with translated():
        return bool(client.has_collection(name, timeout=CALL_TIMEOUT_S))


def load(client: MilvusClient, name: str, replicas: int = 1) -> None:
    """Load a collection into memory and wait until it can be searched."""
    with translated():
        client.load_collection(name, replica_number=replicas, timeout=LOAD_TIMEOUT_S)


def is_loaded(client: MilvusClient, alias: str) -> bool:
    """Tell whether an alias, or a collection, can be searched."""
    try:
        with translated():
            state = client.get_load_state(alias, timeout=CONNECT_TIMEOUT_S)
    except IndexMissing:
        return False
    return bool(state["state"] == LoadState.Loaded)


def describe(client: MilvusClient, catalogue: str) -> list[IndexInfo]:
    """Describe all collections of a catalogue, the newest first."""
    with translated():
        names = client.list_collections(timeout=CALL_TIMEOUT_S)
    found = [_describe(client, catalogue, name) for name in names]
    return sorted((info for info in found if info), key=lambda info: info.created, reverse=True)


def _describe(client: MilvusClient, catalogue: str, name: str) -> IndexInfo | None:
    parsed = naming.parse_collection_name(catalogue, name)
    if parsed is None:
        return None
    fingerprint, created = parsed
    alias = naming.alias(catalogue, fingerprint)
    loaded = is_loaded(client, name)
    return IndexInfo(
        alias=alias if resolve(client, alias) == name else None,
        collection=name,
        fingerprint=fingerprint,
        rows=count(client, name) if loaded else None,
        loaded=loaded,
        index_type=index_type_of(client, name),
        created=created,
    )


def index_type_of(client: MilvusClient, name: str) -> str | None:
    """Return the kind of a collection's index; None where it has none."""
    with translated():
        index: Any = client.describe_index(name, "vector", timeout=CALL_TIMEOUT_S)
    return str(index["index_type"]) if index else None


def prunes(client: MilvusClient, name: str) -> bool:
    """Tell whether a search for a category may be kept to that category's partitions."""
    with translated():
        described = client.describe_collection(name, timeout=CALL_TIMEOUT_S)
    return bool(described["properties"].get(PARTITIONED) == "true")


def count(client: MilvusClient, name: str) -> int:
    """Return how many rows a loaded collection holds, with all that was acknowledged."""
    with translated():
        rows = client.query(name, output_fields=["count(*)"], consistency_level="Strong", timeout=CALL_TIMEOUT_S)
    return int(rows[0]["count(*)"])


def make(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    fingerprint: str,
    now: datetime,
    properties: Mapping[str, str],
) -> str:
    """Make and load a collection of its own name; without an alias, nobody searches it."""
    version = server_version(client)
    lite = version is None
    index_type = index_types.choose(config.index_type, version)
    settings = config.model_dump(mode="json", include=set(_SETTINGS)) | {"index_type": index_type}
    properties = {**properties, FINGERPRINT: fingerprint, SETTINGS: json.dumps(settings, sort_keys=True)}
    if version is None or version >= PARTITIONS_UPSERTS:
        properties[PARTITIONED] = "true"
    name = _create_collection(client, config, catalogue, fingerprint, now, properties)
    _create_index(client, config, name, index_type)
    load(client, name, 1 if lite else config.replica_number)
    log.info("index made", extra={"collection": name, "index_type": index_type, "lite": lite})
    return name


_TAKEN = re.compile(r"already exist|File exists")
"""What the engines say where another process took a name just now; `File exists` is Milvus Lite's."""

_SETTINGS = ("hnsw_m", "hnsw_ef_construction", "ivf_nlist", "num_shards", "num_partitions", "replica_number")

PARTITIONS_UPSERTS = (2, 4)
"""Older servers may put an upserted row into another partition than its category's:
https://github.com/milvus-io/milvus/issues/30607."""


def _create_collection(
    client: MilvusClient,
    config: MilvusConfig,
    catalogue: str,
    fingerprint: str,
    now: datetime,
    properties: Mapping[str, str],
) -> str:
    for attempt in range(NAME_ATTEMPTS):
        name = naming.collection_name(catalogue, fingerprint, now + timedelta(seconds=attempt))
        with translated():
            if client.has_collection(name, timeout=CALL_TIMEOUT_S):
                continue
        try:
            client.create_collection(
                name,
                schema=_schema(),
                num_shards=config.num_shards,
                num_partitions=config.num_partitions,
                consistency_level="Bounded",
                properties=dict(properties),
                timeout=CALL_TIMEOUT_S,
            )
        except MilvusException as error:
            if _TAKEN.search(str(error.message)):
                continue
            with translated():
                raise
        return name
    raise MilvusUnavailable(f"all names near {name} are taken; try again in a few seconds")


def _schema() -> CollectionSchema:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    for field in FIELDS:
        options: dict[str, Any] = {"is_primary": field.primary, "is_partition_key": field.partition_key}
        if field.kind is Kind.VARCHAR:
            options["max_length"] = field.max_bytes
        elif field.kind is Kind.FLOAT_VECTOR:
            options["dim"] = EMBEDDING_DIM
        schema.add_field(field.name, DataType[field.kind.value], **options)
    return schema


def _create_index(client: MilvusClient, config: MilvusConfig, name: str, index_type: str) -> None:
    """Declare the index; a collection without the asked index is dropped again."""
    index = MilvusClient.prepare_index_params()
    index.add_index(
        "vector", index_type=index_type, metric_type="COSINE", params=index_types.build_params(index_type, config)
    )
    try:
        with translated():
            client.create_index(name, index, timeout=CALL_TIMEOUT_S)
        made = index_type_of(client, name)
        if made != index_type:
            raise BadConfig(f"milvus.index_type: asked for {index_type}, Milvus made {made}; use another type")
    except Unavailable:
        raise
    except ShoplensError as error:
        with translated():
            client.drop_collection(name, timeout=CALL_TIMEOUT_S)
        raise BadConfig(f"milvus.index_type: Milvus can't make {index_type}: {error.message}") from error


def _claim(client: MilvusClient, alias: str, name: str) -> str:
    """Make the alias for `name` unless another process was faster; return the collection that it stands for."""
    try:
        with translated():
            client.create_alias(name, alias, timeout=CALL_TIMEOUT_S)
    except ShoplensError:
        if resolve(client, alias) is None:
            raise
    # Asked for even after a success: Milvus Lite lets two processes that are at it at once both succeed.
    return resolve(client, alias) or name
