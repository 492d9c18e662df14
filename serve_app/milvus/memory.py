"""Whether a collection fits into the memory of the nodes that would load it."""

from __future__ import annotations

import base64
import json
import logging
import os
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from serve_app.config import MilvusConfig
from serve_app.errors import BadConfig
from serve_app.milvus import indexing
from serve_app.milvus.client import is_lite, token_of, translated
from serve_app.milvus.sizing import HEADROOM, free_of, row_bytes

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0


def check(client: MilvusClient, uri: str, config: MilvusConfig, catalogue: str, name: str, *, force: bool) -> None:
    """Raise BadConfig unless as many rows as are searched now fit into memory a second time; `force` only warns."""
    if indexing.is_loaded(client, name) and indexing.count(client, name):
        return
    rows = max((info.rows or 0 for info in indexing.describe(client, catalogue)), default=0)
    lite = is_lite(client)
    index_type = indexing.index_type_of(client, name) or "HNSW"
    replicas = 1 if lite else config.replica_number
    needed = int(rows * row_bytes(index_type, config.hnsw_m) * replicas * HEADROOM)
    free = machine_free_bytes() if lite else server_free_bytes(uri, config)
    if free is None:
        log.warning("memory of Milvus's nodes is unknown", extra={"collection": name, "needed_bytes": needed})
        return
    if needed <= free:
        return
    message = (
        f"{rows:,} rows as {index_type} take about {needed / 2**30:,.1f} GiB in {replicas} replicas, and "
        f"{free / 2**30:,.1f} GiB are free; add query nodes, use a smaller milvus.index_type, or give --force"
    )
    if not force:
        raise BadConfig(message)
    log.warning("memory may not suffice", extra={"collection": name, "needed_bytes": needed, "free_bytes": free})


def machine_free_bytes() -> int:
    """Return the memory of this machine that is free."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def server_free_bytes(uri: str, config: MilvusConfig) -> int | None:
    """Return the free memory of all query nodes; None where the server doesn't tell."""
    # pymilvus has no call for it; the message is the one that Milvus's own web page uses.
    address = urlsplit(uri)
    token = token_of(config)
    metadata = (("authorization", base64.b64encode(token.encode()).decode()),) if token else ()
    credentials = grpc.ssl_channel_credentials() if address.scheme == "https" else None
    target = f"{address.hostname}:{address.port or 19530}"
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel, translated():
        answer = milvus_pb2_grpc.MilvusServiceStub(channel).GetMetrics(
            milvus_pb2.GetMetricsRequest(request=json.dumps({"metric_type": "system_info"})),
            timeout=TIMEOUT_S,
            metadata=metadata,
        )
    return free_of(answer.response)
