"""Whether quotas and nodes have room for two clusters at once, as during an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from serve_app.cluster.check import Check, unread
from serve_app.cluster.facts import PodGroup, Quota, Survey
from serve_app.cluster.room import GPU, Resources, quantity, unplaced


def quotas(survey: Survey, clusters: int) -> Iterator[Check]:
    """Judge whether the quotas have room for so many more clusters: an upgrade without it never ends."""
    if survey.quotas is None:
        yield unread(survey, "quotas", "quota")
    elif not survey.quotas:
        yield Check("quota", "ok", "the namespace has none")
    for quota in survey.quotas or ():
        name = f"quota {quota.name}"
        if survey.wanted is None:
            yield Check(
                name,
                "warning",
                "what is needed is not known before an install; give the chart's output with --manifest",
            )
            continue
        lacking = "; ".join(_lacking(quota, _need(survey.wanted.groups), clusters))
        if lacking:
            yield Check(name, "failed", f"has no room for {_beside(clusters)}: {lacking}; raise it")
        else:
            yield Check(name, "ok", f"has room for {_beside(clusters)}")


def _beside(clusters: int) -> str:
    return "two clusters, as during an upgrade" if clusters == 2 else "a second cluster, as during an upgrade"


def _need(groups: tuple[PodGroup, ...]) -> dict[str, Decimal]:
    asked, bound = Resources(), Resources()
    for group in groups:
        asked += group.requests * group.first
        bound += group.limits * group.first
    need = {
        "requests.cpu": Decimal(asked.cpu_m) / 1000,
        "requests.memory": Decimal(asked.memory_bytes),
        f"requests.{GPU}": Decimal(asked.gpus),
        "limits.cpu": Decimal(bound.cpu_m) / 1000,
        "limits.memory": Decimal(bound.memory_bytes),
        "pods": Decimal(sum(group.first for group in groups)),
    }
    return need | {"cpu": need["requests.cpu"], "memory": need["requests.memory"], "count/pods": need["pods"]}


def _lacking(quota: Quota, need: dict[str, Decimal], clusters: int) -> Iterator[str]:
    for name, amount in need.items():
        if name in quota.hard:
            left = quantity(quota.hard[name]) - quantity(quota.used.get(name, 0))
            if amount * clusters > left:
                yield f"{name} needs {_plain(name, amount * clusters)} and has {_plain(name, left)} left"


def _plain(name: str, amount: Decimal) -> str:
    return f"{amount / 2**30:.3g} GiB" if "memory" in name else f"{amount.normalize():f}"


def rooms(survey: Survey, *, before: bool) -> Iterator[Check]:
    """Judge whether the nodes have room, for the first cluster and for the second of an upgrade."""
    name = "room"
    if survey.nodes is None or survey.taken is None:
        yield unread(survey, "nodes" if survey.nodes is None else "pods of all namespaces", name)
        return
    free = [node.allocatable - survey.taken.get(node.name, Resources()) for node in survey.nodes if node.usable]
    if survey.wanted is None:
        total = sum(free, Resources())
        yield Check(
            name,
            "warning",
            f"free: {total}; what is needed is not known before an install; give the chart's output with --manifest",
        )
        return
    pods = [group.requests for group in survey.wanted.groups for _ in range(group.first)]
    if before:
        yield _placed(f"{name} for a cluster", pods, free)
    yield _placed(f"{name} for an upgrade", pods * 2 if before else pods, free)


def _placed(name: str, pods: list[Resources], free: list[Resources]) -> Check:
    asked, left = sum(pods, Resources()), sum(free, Resources())
    homeless = unplaced(pods, free)
    if not homeless:
        return Check(name, "ok", f"{len(pods)} pods with {asked} fit; free: {left}")
    largest = homeless[0]
    return Check(
        name,
        "warning",
        f"{len(homeless)} of {len(pods)} pods find no node, the largest with {largest}; free: {left}. Unless nodes are "
        "added by themselves, enlarge the pool or lower requests: pods would stay pending",
    )
