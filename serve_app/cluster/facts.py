"""What was seen of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.cluster.room import Resources

RUNNING = "RUNNING"
DEPLOY_FAILED = "DEPLOY_FAILED"


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    holds: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold one Serve deployment; how many replicas there are is known from Ray's dashboard only."""

    name: str
    status: str
    message: str
    wanted: int | None = None
    ready: int | None = None


@dataclass(frozen=True, slots=True)
class Application:
    name: str
    status: str
    message: str
    stages: tuple[Stage, ...]
    settled: bool = True
    """It runs with the settings of the RayService; not known where Ray's dashboard was not read."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    name: str
    head_service: str
    applications: tuple[Application, ...]
    from_dashboard: bool = False
    refused: str = ""
    """Why Kubernetes makes no further pods for it."""


@dataclass(frozen=True, slots=True)
class PodGroup:
    """Hold the head or a group of workers: how many pods at least, at most and at first, and what one asks for."""

    name: str
    least: int
    most: int
    first: int
    requests: Resources
    limits: Resources


@dataclass(frozen=True, slots=True)
class SecretRef:
    name: str
    key: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class RayService:
    name: str
    generation: int
    observed_generation: int
    conditions: tuple[Condition, ...]
    endpoints: int
    active: RayCluster | None
    pending: RayCluster | None
    groups: tuple[PodGroup, ...]
    secrets: tuple[SecretRef, ...]
    upgrade: str
    head_state: str
    serve_service: str
    wanted: Mapping[str, Any] = field(repr=False)
    """The Serve config of its spec."""

    def condition(self, kind: str) -> Condition | None:
        return next((each for each in self.conditions if each.type == kind), None)

    def holds(self, kind: str) -> bool:
        found = self.condition(kind)
        return found is not None and found.holds

    @property
    def coming(self) -> RayCluster | None:
        """The cluster that is to serve, or does already."""
        return self.pending or self.active


@dataclass(frozen=True, slots=True)
class Trouble:
    """Hold what keeps a container from running, in Kubernetes' words."""

    container: str
    reason: str
    message: str
    image: str


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    group: str
    cluster: str
    phase: str
    ready: bool
    unscheduled: str
    """The scheduler's reason; empty where the pod has a node."""
    restarts: int
    out_of_memory: bool
    troubles: tuple[Trouble, ...]
    containers: tuple[str, ...]
    """Those that have a log."""
    gpus: int
    token: SecretRef | None = field(default=None, repr=False)
    """Where the token of Ray's dashboard is."""


@dataclass(frozen=True, slots=True)
class Health:
    """Hold the service's own answer; `ready` is None where it gave none."""

    ready: bool | None
    model: str | None
    collection: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Import:
    name: str
    status: str
    started: str
    ended: str
    message: str


@dataclass(frozen=True, slots=True)
class Gpus:
    allocatable: int
    used: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Hold all that `status` shows; None is what was not read, and `unread` says why."""

    service: RayService
    pods: tuple[Pod, ...]
    health: Health
    gpus: Gpus | None
    in_work: int | None
    milvus: tuple[Pod, ...]
    last_import: Import | None
    unread: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    usable: bool
    allocatable: Resources


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    version: str
    gates: Mapping[str, bool]
    ready: bool
    hidden: bool
    """Its gates stand in a file of its own, not on its command line."""


@dataclass(frozen=True, slots=True)
class Quota:
    name: str
    hard: Mapping[str, str]
    used: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold what `doctor` judges; None is what was not read, and `unread` says why.

    `wanted` is the RayService that is installed or, before that, will be; its clusters are empty then.
    """

    kinds: frozenset[str]
    """Kinds of ray.io/v1 that the API server knows."""
    ray_versions: tuple[str, ...]
    gateway: bool
    operators: tuple[Operator, ...] | None
    nodes: tuple[Node, ...] | None
    taken: Mapping[str, Resources] | None
    """What the pods of each node ask for."""
    storage_class: str | None
    secrets: Mapping[SecretRef, bool | None]
    quotas: tuple[Quota, ...] | None
    security: str | None
    wanted: RayService | None
    unread: Mapping[str, str]
