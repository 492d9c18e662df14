"""How much CPU, memory and how many GPUs pods ask for and nodes have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

GPU = "nvidia.com/gpu"

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}


def quantity(text: str | int | float) -> Decimal:
    """Return the number that Kubernetes means by `text`, as `1500m`, `2Gi` or `1e3`."""
    value = str(text)
    digits = value.rstrip("numkKMGTPEi")
    return Decimal(digits) * _SUFFIXES[value[len(digits) :]]


@dataclass(frozen=True, slots=True)
class Resources:
    """Hold milli-CPUs, bytes and GPUs."""

    cpu_m: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpu_m + other.cpu_m, self.memory_bytes + other.memory_bytes, self.gpus + other.gpus)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpu_m - other.cpu_m, self.memory_bytes - other.memory_bytes, self.gpus - other.gpus)

    def __mul__(self, times: int) -> Resources:
        return Resources(self.cpu_m * times, self.memory_bytes * times, self.gpus * times)

    def most(self, other: Resources) -> Resources:
        return Resources(
            max(self.cpu_m, other.cpu_m), max(self.memory_bytes, other.memory_bytes), max(self.gpus, other.gpus)
        )

    def holds(self, other: Resources) -> bool:
        left = self - other
        return left.cpu_m >= 0 and left.memory_bytes >= 0 and left.gpus >= 0

    def __str__(self) -> str:
        gpus = f", {self.gpus} GPU{'' if self.gpus == 1 else 's'}" if self.gpus else ""
        return f"{self.cpu_m / 1000:.3g} CPU, {self.memory_bytes / 2**30:.3g} GiB{gpus}"


def resources(amounts: Mapping[str, Any]) -> Resources:
    """Read `cpu`, `memory` and GPUs of a Kubernetes object."""
    return Resources(
        cpu_m=math.ceil(quantity(amounts.get("cpu", 0)) * 1000),
        memory_bytes=math.ceil(quantity(amounts.get("memory", 0))),
        gpus=int(quantity(amounts.get(GPU, 0))),
    )


def requests(pod_spec: Mapping[str, Any]) -> Resources:
    """Return what the scheduler sets aside for a pod: its containers together, or its largest init container."""
    return _of_pod(pod_spec, lambda given: {**given.get("limits", {}), **given.get("requests", {})})


def limits(pod_spec: Mapping[str, Any]) -> Resources:
    """Return what the pod's containers may use at most; one without a limit counts for nothing."""
    return _of_pod(pod_spec, lambda given: dict(given.get("limits", {})))


def _of_pod(pod_spec: Mapping[str, Any], amounts: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Resources:
    running, starting = Resources(), Resources()
    # Init containers that stay (sidecars) run beside those that come after them.
    for container in pod_spec.get("initContainers") or []:
        asked = resources(amounts(container.get("resources") or {}))
        starting = starting.most(running + asked)
        if container.get("restartPolicy") == "Always":
            running += asked
    for container in pod_spec.get("containers") or []:
        running += resources(amounts(container.get("resources") or {}))
    return running.most(starting) + resources(pod_spec.get("overhead") or {})


def unplaced(pods: Iterable[Resources], free: Sequence[Resources]) -> list[Resources]:
    """Return the pods that find no node, the largest placed first, each where the least is left over.

    An estimate: taints, affinities and spreading are not looked at.
    """
    left = list(free)
    homeless = []
    for pod in sorted(pods, key=lambda pod: (pod.gpus, pod.memory_bytes, pod.cpu_m), reverse=True):
        fitting = [index for index, node in enumerate(left) if node.holds(pod)]
        if not fitting:
            homeless.append(pod)
            continue
        # Nodes with GPUs are kept for who needs them.
        chosen = min(fitting, key=lambda index: (left[index].gpus, left[index].memory_bytes))
        left[chosen] = left[chosen] - pod
    return homeless
