"""The alert rules and the dashboard of the Shoplens chart."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from serve_app import pipeline, telemetry
from tests.helm.conftest import Document
from tests.helm.shoplens import CHART, of_kind, render

HERE = Path(__file__).parent
# Prometheus's own, the kubelet's and kube-state-metrics'.
OTHERS = {
    "up", "container_memory_working_set_bytes", "kube_pod_container_resource_limits",
    "kube_cronjob_status_last_successful_time", "kube_cronjob_spec_suspend",
}  # fmt: skip
COUNTERS = (telemetry.REQUESTS, telemetry.DROPPED_ITEMS, telemetry.DEGRADED, telemetry.STAGE_RETRIES)
HISTOGRAMS = (telemetry.STAGE_MS, telemetry.BATCH_ITEMS, telemetry.BATCH_WAIT_MS)
GAUGES = (telemetry.IN_FLIGHT, telemetry.CAPACITY)


def ours() -> set[str]:
    """Return the names that Ray's exporter gives to what the code measures."""
    return (
        {f"ray_{name}_total" for name in COUNTERS}
        | {f"ray_{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
        | {f"ray_{name}" for name in GAUGES}
    )


def dashboard() -> list[str]:
    panels = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def rules() -> list[Document]:
    return [
        rule for group in yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"] for rule in group["rules"]
    ]


def test_promtool_accepts_the_rules_and_their_tests(promtool: str, tmp_path: Path) -> None:
    (rule,) = of_kind(render("fleet"), "PrometheusRule").values()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    shutil.copy(HERE / "shoplens-rules-test.yaml", tmp_path)
    subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], check=True)
    subprocess.run([promtool, "test", "rules", tmp_path / "shoplens-rules-test.yaml"], check=True)


def test_every_alert_is_tested_and_has_a_section_of_the_runbook() -> None:
    tested = (HERE / "shoplens-rules-test.yaml").read_text()
    sections = set(re.findall(r"^### (\w+)$", (CHART / "README.md").read_text(), re.MULTILINE))
    for rule in rules():
        assert rule["alert"] in tested
        assert rule["annotations"]["runbook"] == f"helm/shoplens/README.md: {rule['alert']}"
        assert rule["labels"]["severity"] in ("critical", "warning")
    assert sections == {rule["alert"] for rule in rules()}


def test_rules_and_dashboard_name_metrics_that_there_are() -> None:
    expressions = dashboard() + [rule["expr"] for rule in rules()]
    named = {name for expression in expressions for name in re.findall(r"([a-z][a-z0-9_]+)\{", expression)}
    seen = {line for line in (HERE / "metrics-ray.txt").read_text().splitlines() if not line.startswith("#")}
    assert named <= OTHERS | seen | ours()
    assert seen | OTHERS <= named, "a name that nothing uses"
    assert pipeline.COLD_START == "cold_start"


def test_every_panel_shows_one_release() -> None:
    for expression in dashboard():
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors
        for selector in selectors:
            assert selector.startswith('namespace="$namespace",app_kubernetes_io_instance="$release"')


def test_no_placeholder_is_left_in_the_rules() -> None:
    (rule,) = of_kind(render("fleet"), "PrometheusRule").values()
    assert not re.search(r'"(NAMESPACE|RELEASE|IMPORT)"|STALE_SECONDS', yaml.safe_dump(rule))
