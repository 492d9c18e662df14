"""The environment that Ray's processes run in; to be set before ray is imported."""

from __future__ import annotations

from collections.abc import Mapping

_EVERYWHERE: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(64 * 2**20),
    # Ray starts its processes by forks, and gRPC's fork handlers may hang once a connection to Milvus stands.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    # Threads that wait for work sleep, so that one stage's idle threads don't slow another's busy ones. But not at
    # once: between two layers of a network work comes within microseconds, and waking up takes longer than that. On
    # two cores an embedding of one crop took 69 ms, with a short wait 59.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "3000",
}

LAPTOP: Mapping[str, str] = {
    **_EVERYWHERE,
    # Without it a local start would write a token that later Ray commands of this user stumble over.
    "RAY_AUTH_MODE": "disabled",
    # The address of a network would be taken otherwise, and listened on. The name means that it is off by
    # default on Windows and macOS; ray.init turns a given 127.0.0.1 into the network's (ray/_private/services.py).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Stage calls by gRPC on the replica's own loop: 2 to 3 times the requests of Serve's defaults (README).
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}

CLUSTER: Mapping[str, str] = {
    **_EVERYWHERE,
    # On every node, and always both: the second alone leaves proxies on the head only. HAProxy listens on every
    # interface, so a laptop goes without.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The second of them silences logs that a cluster's log agent reads.
    "RAY_SERVE_LOG_TO_STDERR": "1",
    "RAY_LOG_TO_STDERR": "1",
    # Else Ray's processes write their statistics to those logs, dozens of pages a minute.
    "RAY_event_stats": "0",
    # A pod that is killed answers nothing, not even a refusal: Ray counts a node as lost after four unanswered checks.
    # By default that takes up to 40 s, in which calls still go to its replicas (README).
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    # What is written to files all the same stays below 100 MiB a process.
    "RAY_ROTATION_MAX_BYTES": str(32 * 2**20),
    "RAY_ROTATION_BACKUP_COUNT": "2",
}
