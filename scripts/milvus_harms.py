"""The harm that the drills do to a Milvus cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from scripts.drill_counts import Promise
from scripts.measuring import wait_until
from scripts.milvus_cluster import BROKER, COORDINATORS, ETCD, MilvusCluster
from serve_app.collection import alias
from serve_app.config import MilvusConfig, SearchParams
from serve_app.milvus import lifecycle
from serve_app.milvus.backfill import backfill
from serve_app.milvus.verify import Demands, verify

SERVES_TIMEOUT_S = 120.0
BETWEEN_RESTARTS_S = 3.0
CALL_TIMEOUT_S = 2.0
LEASE_MARGIN_S = 3.0

Mend = Callable[[], None]
"""Undo the harm, and return when the roles are healthy."""


@dataclass(frozen=True, slots=True)
class Index:
    """Name the index that is searched, and how others for the same rows are made."""

    catalogue: str
    fingerprint: str
    config: MilvusConfig


class Site:
    """Look at a cluster as those who do harm to it must."""

    def __init__(self, cluster: MilvusCluster, clients: Sequence[MilvusClient], index: Index) -> None:
        self.cluster = cluster
        self.index = index
        self._clients = clients
        self._collection = alias(index.catalogue, index.fingerprint)

    @property
    def client(self) -> MilvusClient:
        return self._clients[0]

    def replicas(self) -> list[list[str]]:
        """Return the query nodes of each replica, the smallest replica first; [] while Milvus can't tell.

        The empty name stands for a node that is gone.
        """
        newest = {name: server_id for server_id, name in sorted(self.cluster.serving().items())}
        pids = self.cluster.status()
        alive = {server_id: name for name, server_id in newest.items() if pids[name] is not None}
        groups = [[alive.get(node, "") for node in replica.group_nodes] for replica in self._describe()]
        return sorted((sorted(group) for group in groups), key=len)

    def amiss(self) -> str:
        """Say what Milvus lacks of a complete set of replicas; '' where nothing is.

        Every query node that runs is to be in a replica, and every shard of a replica to have a leader that runs.
        """
        try:
            serving, groups = self.cluster.serving(), self.replicas()
        except OSError as error:
            return f"etcd can't be asked: {error}"
        running = [name for name, pid in self.cluster.status().items() if name.startswith("querynode") and pid]
        if sorted(name for group in groups for name in group) != sorted(running):
            return f"of {running}, these are in replicas: {groups}"
        alive = {server_id for server_id, name in serving.items() if name in running}
        for replica in self._describe():
            for shard in replica.shards:
                if shard.shard_leader not in alive:
                    return f"{shard.channel_name} has no leader in {replica.group_nodes}"
        return self._unloaded()

    def _unloaded(self) -> str:
        """Say which segment one replica holds and another lacks; '' where none."""
        try:
            stored = {segment.segment_id for segment in self.client.list_persistent_segments(self._collection)}
            nodes: dict[int, set[int]] = {}
            for segment in self.client.list_loaded_segments(self._collection):
                nodes.setdefault(segment.segment_id, set()).update(segment.node_ids)
        except MilvusException as error:
            return f"Milvus does not tell what is loaded: {error.message}"
        for replica in self._describe():
            for segment, holders in nodes.items():
                if segment in stored and not holders & set(replica.group_nodes):
                    return f"segment {segment} is not loaded in {replica.group_nodes}"
        return ""

    def wait_until_it_serves(self) -> None:
        """Return when nothing is amiss; raises TimeoutError."""
        wait_until(lambda: not self.amiss(), timeout_s=SERVES_TIMEOUT_S, what="a complete set of replicas")

    def _describe(self) -> list[Any]:
        for client in self._clients:
            try:
                return list(client.describe_replica(self._collection, timeout=CALL_TIMEOUT_S))
            except MilvusException:
                continue
        return []


@dataclass(frozen=True, slots=True)
class Drill:
    """Hold what is harmed, for how long at least, and what the answers are to be meanwhile."""

    name: str
    harm: Callable[[Site], Mend]
    promise: Promise
    held_s: float
    deadline_s: float
    quick: bool = True
    needs_kafka: bool = False


def drills(lease_s: float, deadline_s: float) -> list[Drill]:
    """Return all drills, in the order in which they are done.

    Query nodes (one that is a whole replica, one of two), the data node, a proxy, active coordinators that have a
    standby, all proxies and the broker are killed by SIGKILL; in the rolling restart each query node is ended by
    SIGTERM; etcd is paused. In the blue/green drill nothing is harmed: the index is replaced and put back.
    """
    over_lease_s = lease_s + LEASE_MARGIN_S
    strict, leased, recovery = Promise.NO_FAILURE, Promise.WITHIN_LEASE, Promise.RECOVERY
    long_s = lease_s * 1.5
    return [
        Drill("whole replica", kill_whole_replica, strict, over_lease_s, deadline_s),
        Drill("one of two", kill_one_of_two, strict, over_lease_s, deadline_s, quick=False),
        Drill("data node", kill("datanode1"), strict, over_lease_s, deadline_s, quick=False),
        Drill("proxy 1 of 2", kill("proxy1"), strict, over_lease_s, deadline_s),
        Drill("rolling restart", restart_query_nodes, strict, 0, deadline_s, quick=False),
        Drill("blue/green", switch_to_another_index, strict, over_lease_s, deadline_s, quick=False),
        *(
            Drill(kind, kill_active(kind), leased, over_lease_s, deadline_s, quick=quick)
            for kind, quick in zip(COORDINATORS, (False, False, True), strict=True)
        ),
        *(
            Drill(f"{kind}, long deadline", kill_active(kind), leased, over_lease_s, long_s, quick=False)
            for kind in ("rootcoord", "querycoord")
        ),
        Drill("all proxies 10 s", kill("proxy1", "proxy2"), recovery, 10, deadline_s),
        Drill("etcd paused 5 s", pause(ETCD), recovery, 5, deadline_s),
        Drill("broker 5 s", kill(BROKER), recovery, 5, deadline_s, needs_kafka=True),
    ]


def kill(*names: str) -> Callable[[Site], Mend]:
    """Kill roles, and start them again."""

    def harm(site: Site) -> Mend:
        for name in names:
            site.cluster.kill(name)
        return lambda: _start(site.cluster, names)

    return harm


def pause(name: str) -> Callable[[Site], Mend]:
    """Let a role hang, and go on."""

    def harm(site: Site) -> Mend:
        site.cluster.pause(name)
        return lambda: site.cluster.resume(name)

    return harm


def kill_active(kind: str) -> Callable[[Site], Mend]:
    """Kill the coordinator that works; it comes back as the standby of the other one."""
    return lambda site: kill(site.cluster.active(kind))(site)


def kill_whole_replica(site: Site) -> Mend:
    smallest = site.replicas()[0]
    assert len(smallest) == 1, f"no replica is on one node: {site.replicas()}"
    return kill(*smallest)(site)


def kill_one_of_two(site: Site) -> Mend:
    largest = site.replicas()[-1]
    assert len(largest) > 1, f"no replica is on two nodes: {site.replicas()}"
    return kill(largest[0])(site)


def restart_query_nodes(site: Site) -> Mend:
    """End and start each query node; the next one's turn comes when the last one serves again."""
    names = [name for name in site.cluster.roles if name.startswith("querynode")]
    for name in names:
        site.cluster.end(name)
        site.cluster.start_role(name)
        site.wait_until_it_serves()
        time.sleep(BETWEEN_RESTARTS_S)
    return lambda: None


def switch_to_another_index(site: Site) -> Mend:
    """Make another index of the same rows, switch to it, and back again."""
    client, index = site.client, site.index
    made = lifecycle.create(client, index.config, index.catalogue, index.fingerprint, datetime.now(UTC))
    backfill(client, site.cluster.uris[0], index.config, index.catalogue, made)
    verify(client, index.config, index.catalogue, made, SearchParams(), Demands(queries=20))
    lifecycle.switch(client, index.catalogue, made)

    def back() -> None:
        lifecycle.rollback(client, index.catalogue, index.fingerprint)
        lifecycle.drop(client, index.catalogue, made)

    return back


def _start(cluster: MilvusCluster, names: Sequence[str]) -> None:
    for name in names:
        cluster.start_role(name)
