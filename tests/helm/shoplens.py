"""The Shoplens chart, rendered."""

import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from scripts.check_upstream import helm
from tests.helm.conftest import Document, Refused

CHART = Path(__file__).parents[2] / "helm" / "shoplens"
SHAPES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
PROFILES = sorted(path.stem.removeprefix("values-") for path in CHART.glob("values-*.yaml"))
RELEASE, NAMESPACE = "shop", "search"


def values_of(shape: str) -> list[Path]:
    """Return the files of a shape: the profile of its name, if there is one, and its own."""
    profile = CHART / f"values-{shape}.yaml"
    return [*([profile] if profile.exists() else []), CHART / f"ci/{shape}-values.yaml"]


def arguments(shape: str) -> list[str]:
    return [f"--values={path}" for path in values_of(shape)]


@functools.cache
def text(shape: str, *values: str) -> str:
    """Return what Helm makes of a shape with further values, as `name=value`; raises Refused."""
    command = [helm(), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *arguments(shape)]
    for value in values:
        command += ["--set-json" if re.search(r'[]}"]$|=[0-9]+\.[0-9]+$', value) else "--set", value]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(shape: str, *values: str) -> list[Document]:
    return [document for document in yaml.safe_load_all(text(shape, *values)) if document]


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def rayservice(shape: str, *values: str) -> Document:
    (found,) = of_kind(render(shape, *values), "RayService").values()
    return found


def rayjob(shape: str, *values: str) -> Document | None:
    """Return the RayJob that an import makes; None where there is no import."""
    configmap = of_kind(render(shape, *values), "ConfigMap").get(f"{RELEASE}-import")
    return None if configmap is None else yaml.safe_load(configmap["data"]["rayjob.yaml"])


def pods(shape: str, *values: str) -> Iterator[tuple[str, Document]]:
    """Yield every pod template of a shape with its place, those of Ray's clusters and the import's submitter too."""
    for document in render(shape, *values):
        yield from _pods(document)
    if job := rayjob(shape, *values):
        yield from _pods(job)


def _pods(document: Document) -> Iterator[tuple[str, Document]]:
    kind, spec = document["kind"], document.get("spec", {})
    where = f"{kind} {document['metadata'].get('name', '')}"
    if kind in ("Job", "Deployment"):
        yield where, spec["template"]
    elif kind == "CronJob":
        yield where, spec["jobTemplate"]["spec"]["template"]
    elif kind in ("RayService", "RayJob"):
        cluster: dict[str, Any] = spec["rayClusterConfig" if kind == "RayService" else "rayClusterSpec"]
        yield f"{where} head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{where} {group['groupName']}", group["template"]
        if kind == "RayJob":
            yield f"{where} submitter", spec["submitterPodTemplate"]
