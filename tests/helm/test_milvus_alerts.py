"""The alert rules and the dashboard of the Milvus chart."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.helm.conftest import CHART, Document

HERE = Path(__file__).parent
# Not Milvus's: Prometheus's own and kube-state-metrics'.
OTHERS = {"up", "kube_pod_container_resource_limits"}
# Milvus's, that only newer servers have and nobody checked here. None so far.
UNCHECKED: set[str] = set()


def test_promtool_accepts_the_rules_and_their_tests(
    render: Callable[..., list[Document]], promtool: str, tmp_path: Path
) -> None:
    (rule,) = [document for document in render("team") if document["kind"] == "PrometheusRule"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    shutil.copy(HERE / "rules-test.yaml", tmp_path)
    subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], check=True)
    subprocess.run([promtool, "test", "rules", tmp_path / "rules-test.yaml"], check=True)


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tested = (HERE / "rules-test.yaml").read_text()
    for rule in _rules():
        assert rule["alert"] in tested
        assert rule["annotations"].keys() == {"summary", "runbook"}
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_rules_and_dashboard_name_metrics_that_a_server_showed() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [rule["expr"] for rule in _rules()]
    named = {name for expression in expressions for name in re.findall(r"([a-z][a-z0-9_]+)\{", expression)}
    scrapes = ("metrics-2.3.5.txt", "metrics-etcd-3.4.23.txt")
    seen = {line for name in scrapes for line in (HERE / name).read_text().splitlines() if not line.startswith("#")}
    assert named - OTHERS - seen == UNCHECKED
    assert not UNCHECKED & seen


def test_etcds_metrics_have_a_port_that_is_open_to_monitoring_alone(render: Callable[..., list[Document]]) -> None:
    documents = render("team")
    (monitor,) = [each for each in documents if each["kind"] == "PodMonitor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    values = yaml.safe_load((CHART / "values.yaml").read_text())["milvus"]
    environment = {each["name"]: each["value"] for each in values["etcd"]["extraEnvVars"]}
    assert environment["ETCD_LISTEN_METRICS_URLS"] == f"http://0.0.0.0:{endpoint['targetPort']}"
    (policy,) = [each for each in documents if each["kind"] == "NetworkPolicy" and "etcd" in each["metadata"]["name"]]
    opened = {
        port["port"]
        for rule in policy["spec"]["ingress"]
        for port in rule.get("ports", ())
        if "namespaceSelector" in str(rule)
    }
    assert opened == {endpoint["targetPort"]}
    labels = monitor["spec"]["selector"]["matchLabels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_every_panel_shows_one_release() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert 'namespace="$namespace",app_kubernetes_io_instance="$release"' in target["expr"]


def _rules() -> list[Document]:
    groups = yaml.safe_load((CHART / "files/rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
