"""What Milvus has loaded of a collection, as its coordinators tell it."""

from __future__ import annotations

from pymilvus import MilvusClient

from serve_app.coverage import Loading, Replica
from serve_app.milvus.client import translated


def read_loading(client: MilvusClient, collection: str, timeout_s: float) -> Loading:
    """Return which replicas there are, what each node holds, and what is stored; raises MilvusUnavailable."""
    with translated():
        replicas = client.describe_replica(collection, timeout=timeout_s)
        stored = client.list_persistent_segments(collection, timeout=timeout_s)
        loaded = client.list_loaded_segments(collection, timeout=timeout_s)
    nodes: dict[int, frozenset[int]] = {}
    for segment in loaded:
        nodes[segment.segment_id] = nodes.get(segment.segment_id, frozenset()) | frozenset(segment.node_ids)
    return Loading(
        replicas=frozenset(
            Replica(
                replica.id,
                frozenset(replica.group_nodes),
                tuple(sorted((shard.channel_name, shard.shard_leader) for shard in replica.shards)),
            )
            for replica in replicas
        ),
        loaded=nodes,
        stored=frozenset(segment.segment_id for segment in stored),
    )
