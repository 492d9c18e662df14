"""How a cluster is shown on a screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from serve_app.cluster.check import Check
from serve_app.cluster.facts import Application, Pod, RayCluster, RayService, Snapshot
from serve_app.cluster.logs import Line
from serve_app.cluster.observing import Target
from serve_app.cluster.status import Finding

LEVELS = {"ok": "green", "warning": "yellow", "failed": "red"}


def screen(target: Target, seen: Snapshot, found: tuple[Finding, ...]) -> Group:
    """Return the whole screen of `status`."""
    return Group(
        *_head(target, seen),
        _stages(seen.service),
        _pods(seen.pods),
        *_findings(found, seen.unread),
        *_unread(seen.unread),
    )


def _head(target: Target, seen: Snapshot) -> Iterator[RenderableType]:
    service = seen.service
    facts = Table.grid(padding=(0, 2))
    facts.add_row("release", escape(f"{target.release} in namespace {target.namespace}"))
    conditions = ", ".join(
        f"{each.type} {'yes' if each.holds else 'no'} ({each.reason})" for each in service.conditions
    )
    facts.add_row("service", escape(conditions or "nothing is known yet"))
    facts.add_row(
        "generation", f"{service.generation}, observed {service.observed_generation}; {service.endpoints} endpoints"
    )
    facts.add_row("clusters", escape(_clusters(service)))
    facts.add_row("index", escape(_index(seen)))
    if seen.in_work is not None:
        facts.add_row("in work", f"{seen.in_work} searches")
    if seen.gpus is not None:
        facts.add_row(
            "GPUs", f"{seen.gpus.used} of {seen.gpus.allocatable} taken; {_own_gpus(seen.pods)} by this release"
        )
    facts.add_row("Milvus", _ready(seen.milvus) if seen.milvus else "no pods of it in that namespace")
    if seen.last_import is not None:
        last = seen.last_import
        facts.add_row("last import", escape(f"{last.name} {last.status}, {last.started} to {last.ended or 'now'}"))
    yield facts


def _clusters(service: RayService) -> str:
    active = service.active.name if service.active else "none"
    return f"active {active}" + (f", pending {service.pending.name}" if service.pending else "")


def _index(seen: Snapshot) -> str:
    health = seen.health
    if health.ready:
        return f"{health.collection}, model {health.model}"
    return health.reason or "not known"


def _own_gpus(pods: Iterable[Pod]) -> int:
    return sum(pod.gpus for pod in pods if not pod.unscheduled and pod.phase in ("Running", "Pending"))


def _ready(pods: Iterable[Pod]) -> str:
    counts: dict[str, list[bool]] = {}
    for pod in pods:
        if pod.phase != "Succeeded":
            counts.setdefault(pod.group or "pods", []).append(pod.ready)
    return escape(", ".join(f"{group} {sum(each)}/{len(each)}" for group, each in sorted(counts.items())))


def _stages(service: RayService) -> Table:
    table = Table("cluster", "stage", "state", "replicas", "message", box=None, title="Stages", title_justify="left")
    for cluster in (service.active, service.pending):
        if cluster is not None:
            for application in cluster.applications:
                for row in _stage_rows(cluster, application):
                    table.add_row(*row)
    return table


def _stage_rows(cluster: RayCluster, application: Application) -> Iterator[tuple[str, ...]]:
    yield escape(cluster.name), escape(application.name), application.status, "", _first(application.message)
    for stage in application.stages:
        replicas = "?" if stage.wanted is None else f"{stage.ready}/{stage.wanted}"
        yield "", f"  {escape(stage.name)}", stage.status, replicas, _first(stage.message)


def _first(message: str) -> str:
    return escape(message.partition("\n")[0][:80])


def _pods(pods: Iterable[Pod]) -> Table:
    table = Table("pod", "group", "state", "ready", "restarts", box=None, title="Pods", title_justify="left")
    for pod in pods:
        state = pod.troubles[0].reason if pod.troubles else "Unschedulable" if pod.unscheduled else pod.phase
        ready = "yes" if pod.ready else "no"
        table.add_row(escape(pod.name), escape(pod.group), escape(state), ready, str(pod.restarts))
    return table


def _findings(found: tuple[Finding, ...], unread: tuple[str, ...]) -> Iterator[RenderableType]:
    if not any(each.wrong for each in found):
        yield Text("all that could be read is well" if unread else "all is well", style="green")
    for each in found:
        style = "red" if each.wrong else "yellow"
        mark = "wrong" if each.wrong else "note"
        yield Text.assemble((f"{mark}: ", style), each.what, "\n  → ", each.todo)


def _unread(unread: Iterable[str]) -> Iterator[RenderableType]:
    for each in unread:
        yield Text.assemble(("not read: ", "dim"), (each, "dim"))


def check_lines(made: Iterable[Check]) -> Table:
    """Return the screen of `doctor`."""
    table = Table.grid(padding=(0, 2))
    for check in made:
        table.add_row(f"[{LEVELS[check.level]}]{check.level}[/]", escape(check.name), escape(check.text))
    return table


def log_line(line: Line) -> Text:
    """Return one line of a log, where it comes from first."""
    return Text.assemble(
        (f"{line.at.isoformat(timespec='milliseconds')} {line.pod}/{line.container} ", "dim"), line.text
    )
