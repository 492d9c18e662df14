"""What the commands of `shoplens cluster` do."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape

from serve_app.cli.cluster_screen import check_lines, log_line, screen
from serve_app.cluster.doctor import checks
from serve_app.cluster.facts import SecretRef
from serve_app.cluster.logs import lines_of
from serve_app.cluster.observing import Api, Observer, Target
from serve_app.cluster.rollout import wait
from serve_app.cluster.status import findings
from serve_app.cluster.surveying import Surveyor
from serve_app.errors import BadInput

EXIT_WRONG = 4
EXIT_LACKING = 3


@dataclass(frozen=True, slots=True)
class Where:
    """Say which release is meant; None is the kubeconfig's own, or the release's namespace."""

    context: str | None
    namespace: str | None
    release: str
    milvus_namespace: str | None
    operator_namespace: str

    def open(self) -> tuple[Api, Target]:
        """Connect; raises NoKubeconfig."""
        from serve_app.cluster.kubernetes_api import KubernetesApi

        api = KubernetesApi(self.context)
        namespace = self.namespace or api.namespace
        return api, Target(namespace, self.release, self.milvus_namespace or namespace, self.operator_namespace)


def show_status(where: Where, console: Console, *, as_json: bool) -> None:
    """Print what was seen and what is wrong; ends with `EXIT_WRONG` where something is."""
    api, target = where.open()
    seen = Observer(api, target).look()
    found = findings(seen)
    if as_json:
        document = {**dataclasses.asdict(seen), "findings": [dataclasses.asdict(each) for each in found]}
        _print_json(console, document)
    else:
        console.print(screen(target, seen, found))
    if any(each.wrong for each in found):
        raise typer.Exit(EXIT_WRONG)


def wait_for(where: Where, timeout_s: float, console: Console) -> None:
    """Wait until the release runs; raises RolloutFailed or DeadlineExceeded."""
    api, target = where.open()
    observer = Observer(api, target)
    told = ""

    def tell(reason: str) -> None:
        nonlocal told
        if reason != told:
            console.print(f"{time.strftime('%H:%M:%S')} {reason}", markup=False)
            told = reason

    console.print(wait(observer.look, timeout_s, time.monotonic, time.sleep, tell), markup=False)


def run_doctor(
    where: Where,
    manifest: Path | None,
    secrets: Iterable[SecretRef],
    console: Console,
    *,
    before: bool,
    as_json: bool,
) -> None:
    """Print every check; ends with `EXIT_LACKING` where one failed."""
    planned = None if manifest is None else planned_service(manifest)
    api, target = where.open()
    made = checks(Surveyor(api, target).survey(planned, secrets, before=before), before=before)
    if as_json:
        _print_json(console, {"checks": [dataclasses.asdict(each) for each in made]})
    else:
        console.print(check_lines(made))
    if any(each.level == "failed" for each in made):
        raise typer.Exit(EXIT_LACKING)


def planned_service(manifest: Path) -> dict[str, Any]:
    """Return the RayService out of a rendered chart; raises BadInput."""
    try:
        text = sys.stdin.read() if str(manifest) == "-" else manifest.read_text(encoding="utf-8")
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{manifest} can't be read as YAML: {error}") from error
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "RayService":
            return document
    raise BadInput(f"there is no RayService in {manifest}; give what `helm template` prints")


def show_logs(where: Where, request_id: str, since_s: int, console: Console, *, as_json: bool) -> None:
    """Print the lines of one request, and on standard error what could not be read."""
    api, target = where.open()
    observer = Observer(api, target)
    found = lines_of(api, target, observer.pods(observer.service()), request_id, since_s)
    for line in found.lines:
        if as_json:
            record = {**dataclasses.asdict(line), "at": line.at.isoformat()}
            console.print(json.dumps(record), markup=False, soft_wrap=True)
        else:
            console.print(log_line(line), soft_wrap=True)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in found.notes:
        notes.print(f"[yellow]{escape(note)}[/]")
    if not found.lines:
        notes.print(f"no line of the last {since_s} s names {request_id}", markup=False)


def _print_json(console: Console, document: dict[str, Any]) -> None:
    console.print_json(json.dumps(document, default=str))
