"""Hold the Milvus chart against the upstream chart it wraps.

Renders helm/milvus with a downloaded upstream chart in the place of its dependency, once per ci/*-values.yaml, and
fails on a value that upstream does not know, a selector of ours that matches no pod, a pod that two budgets match or
none, a pod of Milvus whose storage keys come from elsewhere than a Secret, and a Service not called as NOTES.txt says.

    python -m scripts.check_upstream CHART_DIR
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "helm" / "milvus"
RELEASE = "shop"
NAMESPACE = "milvus"

# Upstream's values.yaml does not list these, but its templates read them.
UNLISTED = {
    "proxy.volumes",
    "proxy.volumeMounts",
    "streamingNode.topologySpreadConstraints",
}
# Their content is the user's: whatever stands below is no key of the chart.
FREE = {
    "affinity",
    "containerSecurityContext",
    "extraConfigFiles",
    "extraEnv",
    "nodeSelector",
    "resources",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
    "annotations",
    "labels",
}

Document = dict[str, Any]


@dataclass
class Upstream:
    """The upstream chart: its version and every value it knows."""

    folder: Path
    version: str
    app_version: str
    values: dict[str, Any]


@dataclass
class Findings:
    """What is wrong, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    keys: int = 0
    selectors: int = 0
    pods: int = 0

    def add(self, where: str, what: str) -> None:
        self.problems.append(f"{where}: {what}")


def main() -> int:
    """Print what was found; exit with 0 where nothing is wrong, 1 where something is, 2 for a wrong CHART_DIR."""
    arguments = _arguments()
    if not (arguments.chart_dir / "Chart.yaml").exists():
        print(f"{arguments.chart_dir} holds no Chart.yaml")
        return 2
    upstream = read_upstream(arguments.chart_dir)
    pinned = _load(CHART / "Chart.yaml")["dependencies"][0]["version"]
    print(f"upstream chart {upstream.version}, Milvus {upstream.app_version}; shoplens-milvus names chart {pinned}")
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        chart = with_dependency(Path(folder), upstream)
        for shape in sorted((CHART / "ci").glob("*-values.yaml")):
            findings = check(chart, shape, upstream)
            failed |= bool(findings.problems)
            looked_at = f"{findings.keys} values, {findings.selectors} selectors, {findings.pods} workloads"
            print(f"{shape.name}: {looked_at}: {'wrong' if findings.problems else 'ok'}")
            for problem in findings.problems:
                print(f"  {problem}")
    return int(failed)


def read_upstream(folder: Path) -> Upstream:
    """Read a chart's folder; its own dependencies lie packed or unpacked in charts/."""
    chart = _load(folder / "Chart.yaml")
    values = _load(folder / "values.yaml")
    requirements = chart.get("dependencies")
    if requirements is None and (folder / "requirements.yaml").exists():
        requirements = _load(folder / "requirements.yaml")["dependencies"]
    for requirement in requirements or ():
        name = requirement.get("alias", requirement["name"])
        values[name] = _merge(_dependency_values(folder, requirement), values.get(name) or {})
    return Upstream(folder, chart["version"], str(chart["appVersion"]), values)


def with_dependency(folder: Path, upstream: Upstream) -> Path:
    """Return a copy of our chart that holds the upstream chart, whatever version the copy had named."""
    chart = folder / CHART.name
    shutil.copytree(CHART, chart)
    shutil.rmtree(chart / "charts", ignore_errors=True)
    (chart / "Chart.lock").unlink(missing_ok=True)
    shutil.copytree(upstream.folder, chart / "charts" / "milvus")
    described = _load(chart / "Chart.yaml")
    described["dependencies"][0] |= {"version": upstream.version}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(described))
    return chart


def check(chart: Path, shape: Path, upstream: Upstream) -> Findings:
    """Render one shape and look for what the module's first sentences name."""
    findings = Findings()
    ours = [_load(CHART / "values.yaml").get("milvus") or {}, _load(shape).get("milvus") or {}]
    for values in ours:
        findings.keys += len(list(_keys(values)))
        for key in unknown_keys(values, upstream):
            findings.add("values", f"milvus.{key} is unknown to upstream")
    documents = render(chart, shape)
    pods = list(workloads(documents))
    findings.pods = len(pods)
    check_selectors(documents, pods, findings)
    check_budgets(documents, pods, findings)
    _check_secrets(pods, findings)
    _check_service(documents, findings)
    return findings


def unknown_keys(values: dict[str, Any], upstream: Upstream) -> list[str]:
    """Return the values that upstream does not know, as dotted paths."""
    return sorted(key for key in _keys(values) if not _known(key, upstream.values))


def render(chart: Path, shape: Path) -> list[Document]:
    """Return what Helm makes of a chart with the values of a file. Raises CalledProcessError."""
    command = [helm(), "template", RELEASE, str(chart), "--namespace", NAMESPACE, "--values", str(shape)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def helm() -> str:
    """Return the path of helm: the one installed beside this Python, else the one on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "helm"
    found = str(beside) if beside.exists() else shutil.which("helm")
    if found is None:
        raise SystemExit("helm is missing: install the dependencies of scripts/locks/test.txt")
    return found


def matches(selector: Document, labels: dict[str, str]) -> bool:
    """Say whether a label selector selects a pod of these labels."""
    for expression in selector.get("matchExpressions") or ():
        value = labels.get(expression["key"])
        fits = {
            "In": value in expression.get("values", ()),
            "NotIn": value not in expression.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not fits[expression["operator"]]:
            return False
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())


def check_selectors(documents: list[Document], pods: list[Document], findings: Findings) -> None:
    """Add the selectors of ours that match no pod."""
    for document in documents:
        if not _is_ours(document) or document["kind"] not in ("PodDisruptionBudget", "NetworkPolicy"):
            continue
        spec = document["spec"]
        selectors = [spec.get("selector"), spec.get("podSelector")]
        for rule in [*spec.get("ingress", ()), *spec.get("egress", ())]:
            peers = [*rule.get("from", ()), *rule.get("to", ())]
            # Clients are no pods of this release.
            selectors += [peer["podSelector"] for peer in peers if _names_release(peer)]
        for selector in filter(None, selectors):
            findings.selectors += 1
            if not any(matches(selector, _labels(pod)) for pod in pods):
                findings.add(_name(document), f"{selector} matches no pod")


def check_budgets(documents: list[Document], pods: list[Document], findings: Findings) -> None:
    """Add the pods that not exactly one budget matches, and the budgets that guard nothing or everything."""
    budgets = [document for document in documents if document["kind"] == "PodDisruptionBudget"]
    for pod in pods:
        if pod["kind"] == "Job":
            continue
        names = [_name(budget) for budget in budgets if matches(budget["spec"]["selector"], _labels(pod))]
        if len(names) != 1:
            findings.add(_name(pod), f"matched by {len(names)} budgets: {', '.join(names) or 'none'}")
    for budget in budgets:
        replicas = sum(
            pod["spec"].get("replicas", 1) for pod in pods if matches(budget["spec"]["selector"], _labels(pod))
        )
        away = int(budget["spec"]["maxUnavailable"])
        if away < 1 or (replicas > 1 and away >= replicas):
            findings.add(_name(budget), f"lets {away} of {replicas} pods be evicted")


def _check_secrets(pods: list[Document], findings: Findings) -> None:
    # Milvus reads the storage's keys from its environment; a pod without them would use those of the ConfigMap.
    for pod in pods:
        spec = pod["spec"]["template"]["spec"]
        for container in spec["containers"]:
            environment = {entry["name"]: entry for entry in container.get("env") or ()}
            if not str(container.get("image", "")).startswith(("milvusdb/milvus:", "milvusdb/woodpecker:")):
                continue
            names = {"MINIO_ACCESS_KEY_ID", "MINIO_SECRET_ACCESS_KEY"}
            if "woodpecker:" in container["image"]:
                names = {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"}
            for name in sorted(names):
                if "valueFrom" not in environment.get(name, {}):
                    findings.add(_name(pod), f"{name} does not come from a Secret")


def _check_service(documents: list[Document], findings: Findings) -> None:
    wanted = f"{RELEASE}-milvus"
    for document in documents:
        if document["kind"] == "Service" and document["metadata"]["name"] == wanted:
            ports = [port["port"] for port in document["spec"]["ports"]]
            if 19530 not in ports:
                findings.add(f"Service {wanted}", f"port 19530 is not among {ports}")
            return
    findings.add(f"Service {wanted}", "upstream calls it otherwise")


def _known(key: str, values: dict[str, Any]) -> bool:
    if key in UNLISTED:
        return True
    at: Any = values
    for part in key.split("."):
        if not isinstance(at, dict) or part not in at:
            return False
        if part in FREE:
            return True
        at = at[part]
    return True


def _keys(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{above}{key}"
        if isinstance(value, dict) and value and key not in FREE:
            yield from _keys(value, f"{path}.")
        else:
            yield path


def workloads(documents: list[Document]) -> Iterator[Document]:
    """Yield what makes pods."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job")
    yield from (document for document in documents if document["kind"] in kinds)


def _labels(pod: Document) -> dict[str, str]:
    own: dict[str, str] = (pod["spec"]["template"].get("metadata") or {}).get("labels") or {}
    # Kubernetes adds this one.
    return own | ({"batch.kubernetes.io/job-name": pod["metadata"]["name"]} if pod["kind"] == "Job" else {})


def _is_ours(document: Document) -> bool:
    labels = document["metadata"].get("labels") or {}
    return str(labels.get("helm.sh/chart", "")).startswith("shoplens-milvus-")


def _names_release(peer: Document) -> bool:
    return RELEASE in str(peer.get("podSelector", ""))


def _name(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def _dependency_values(folder: Path, requirement: Document) -> dict[str, Any]:
    unpacked = folder / "charts" / requirement["name"] / "values.yaml"
    if unpacked.exists():
        return _load(unpacked)
    for packed in sorted((folder / "charts").glob(f"{requirement['name']}-{requirement['version']}.tgz")):
        # The chart's own values come first; those of charts inside it follow.
        listed = subprocess.run(["tar", "-tzf", str(packed)], check=True, capture_output=True, text=True).stdout
        member = min(
            (name for name in listed.split() if name.endswith("/values.yaml")), key=lambda name: name.count("/")
        )
        command = ["tar", "-xOzf", str(packed), member]
        loaded: dict[str, Any] = yaml.safe_load(subprocess.run(command, check=True, capture_output=True).stdout)
        return loaded
    return {}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        held = merged.get(key)
        merged[key] = _merge(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return loaded


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.check_upstream", description=__doc__.splitlines()[0])
    parser.add_argument("chart_dir", type=Path, metavar="CHART_DIR", help="folder of the upstream chart")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
