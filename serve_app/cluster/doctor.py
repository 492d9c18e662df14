"""Whether a cluster has what an install and an upgrade need, judged from what was seen of it."""

from __future__ import annotations

from collections.abc import Iterator

from serve_app.cluster.check import Check, unread
from serve_app.cluster.facts import Operator, RayService, Survey
from serve_app.cluster.headroom import quotas, rooms
from serve_app.cluster.room import GPU

LEAST_OPERATOR = (1, 7)
KINDS = ("RayCluster", "RayJob", "RayService")
ROCKSDB_GATE, INCREMENTAL_GATE = "GCSFaultToleranceEmbeddedStorage", "RayServiceIncrementalUpgrade"
INCREMENTAL = "NewClusterWithIncrementalUpgrade"


def checks(survey: Survey, *, before: bool) -> tuple[Check, ...]:
    """Return all checks, before an install or of what is installed."""
    return (
        _kinds(survey),
        *_operators(survey),
        _gpus(survey),
        _storage(survey),
        *_secrets(survey),
        _security(survey),
        _gateway(survey),
        *quotas(survey, clusters=2 if before else 1),
        *rooms(survey, before=before),
    )


def _kinds(survey: Survey) -> Check:
    name = "KubeRay's CRDs"
    missing = [kind for kind in KINDS if kind not in survey.kinds]
    if not missing:
        return Check(name, "ok", f"ray.io {', '.join(survey.ray_versions)}")
    return Check(
        name,
        "failed",
        f"{', '.join(missing)} of ray.io/v1 {'is' if len(missing) == 1 else 'are'} missing (served: "
        f"{', '.join(survey.ray_versions) or 'nothing'}); install KubeRay's operator with its CRDs",
    )


def _operators(survey: Survey) -> Iterator[Check]:
    name = "KubeRay's operator"
    if survey.operators is None:
        yield unread(survey, "operator", name)
    elif not survey.operators:
        yield Check(
            name,
            "failed",
            "no deployment of it is in that namespace; install it, or name its namespace with --operator-namespace",
        )
    for operator in survey.operators or ():
        yield _operator(name, operator)
        yield from _gates(survey.wanted, operator)


def _operator(name: str, operator: Operator) -> Check:
    numbers = operator.version.split(".")
    if not operator.ready:
        return Check(
            name,
            "failed",
            f"{operator.name} {operator.version} is not ready: `kubectl describe deployment {operator.name}`",
        )
    if not all(each.isdecimal() for each in numbers[:2]) or len(numbers) < 2:
        return Check(
            name,
            "warning",
            f"{operator.name} is ready, its version {operator.version!r} says nothing; at least 1.7 is needed",
        )
    if (int(numbers[0]), int(numbers[1])) < LEAST_OPERATOR:
        return Check(name, "failed", f"{operator.name} is {operator.version}; upgrade it to 1.7 or later, CRDs first")
    gates = ", ".join(f"{gate}={'true' if on else 'false'}" for gate, on in operator.gates.items())
    return Check(name, "ok", f"{operator.name} {operator.version}, feature gates: {gates or 'as by default'}")


def _gates(wanted: RayService | None, operator: Operator) -> Iterator[Check]:
    """Judge the gates that a RayService needs, against their defaults in 1.7."""
    name = "feature gates"
    if wanted is None:
        return
    needed = [(ROCKSDB_GATE, False)] if wanted.head_state == "rocksdb" else []
    needed += [(INCREMENTAL_GATE, True)] if wanted.upgrade == INCREMENTAL else []
    for gate, default in needed:
        if operator.hidden:
            yield Check(
                name,
                "warning",
                f"{gate} is needed; the operator's gates stand in its own file, where this does not look",
            )
        elif operator.gates.get(gate, default):
            yield Check(name, "ok", f"{gate} is on")
        else:
            yield Check(
                name,
                "failed",
                f"{gate} is off; start the operator with --feature-gates={gate}=true, or choose another value",
            )


def _gpus(survey: Survey) -> Check:
    name = "GPUs"
    if survey.nodes is None:
        return unread(survey, "nodes", name)
    count = sum(node.allocatable.gpus for node in survey.nodes if node.usable)
    groups = [group for group in (survey.wanted.groups if survey.wanted else ()) if group.requests.gpus]
    if count:
        holders = sum(1 for node in survey.nodes if node.usable and node.allocatable.gpus)
        return Check(name, "ok", f"{count} {GPU} on {holders} of {len(survey.nodes)} nodes")
    if survey.wanted is not None and not groups:
        return Check(name, "ok", "none is there and none is asked for")
    fix = "install the device plugin (NVIDIA's GPU operator) and drivers, or choose a profile without GPUs"
    if any(group.least for group in groups):
        return Check(name, "failed", f"no node announces {GPU}; {fix}")
    return Check(name, "warning", f"no node announces {GPU}; right where a pool of them starts from zero, else {fix}")


def _storage(survey: Survey) -> Check:
    name = "storage class"
    if survey.storage_class is None:
        return unread(survey, "storage classes", name)
    if survey.storage_class:
        return Check(name, "ok", f"{survey.storage_class} is the default")
    return Check(
        name, "warning", "none is the default: name one in the values of Milvus and of the head's state, or mark one"
    )


def _secrets(survey: Survey) -> Iterator[Check]:
    if not survey.secrets:
        yield Check(
            "Secrets", "ok", "none is named; --secret NAME:KEY or --manifest has them checked before an install"
        )
    for reference, there in survey.secrets.items():
        name = f"Secret {reference.name}" + (f", key {reference.key}" if reference.key else "")
        if there is None:
            yield unread(survey, f"Secret {reference.name}", name)
        elif there:
            yield Check(name, "ok", "is there")
        elif reference.optional:
            yield Check(name, "warning", "is missing or empty; pods start without it")
        else:
            key = f" --from-literal={reference.key}=…" if reference.key else ""
            yield Check(name, "failed", f"is missing or empty; `kubectl create secret generic {reference.name}{key}`")


def _security(survey: Survey) -> Check:
    name = "pod security"
    if survey.security is None:
        return unread(survey, "namespace", name)
    if not survey.security:
        return Check(
            name, "warning", "the namespace is not there yet; k8s/ makes it, or `helm install --create-namespace`"
        )
    if survey.security == "restricted":
        return Check(name, "ok", "the namespace enforces restricted")
    return Check(
        name,
        "warning",
        f"the namespace enforces {survey.security}; Shoplens runs at restricted: "
        "`kubectl label namespace NAME pod-security.kubernetes.io/enforce=restricted`",
    )


def _gateway(survey: Survey) -> Check:
    name = "Gateway API"
    if survey.gateway:
        return Check(name, "ok", "is there: incremental upgrades are possible")
    if survey.wanted is not None and survey.wanted.upgrade == INCREMENTAL:
        return Check(name, "failed", "is missing, and the upgrade strategy needs it; install it, or choose NewCluster")
    return Check(name, "ok", "is missing; only incremental upgrades need it")
