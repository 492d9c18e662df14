"""The check against the upstream chart, on small charts that stand for it."""

from pathlib import Path

import pytest
import yaml

from scripts import check_upstream
from scripts.check_upstream import Findings, Upstream, matches

RELEASE_LABELS = {"app.kubernetes.io/name": "milvus", "app.kubernetes.io/instance": "shop"}


def workload(component: str, replicas: int = 2) -> check_upstream.Document:
    labels = RELEASE_LABELS | {"component": component}
    return {
        "kind": "Deployment",
        "metadata": {"name": f"shop-milvus-{component}"},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": labels}, "spec": {"containers": []}}},
    }


def budget(name: str, labels: dict[str, str], away: int = 1) -> check_upstream.Document:
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "labels": {"helm.sh/chart": "shoplens-milvus-0.1.0"}},
        "spec": {"maxUnavailable": away, "selector": {"matchLabels": labels}},
    }


def problems(documents: list[check_upstream.Document]) -> list[str]:
    findings = Findings()
    pods = list(check_upstream.workloads(documents))
    check_upstream.check_selectors(documents, pods, findings)
    check_upstream.check_budgets(documents, pods, findings)
    return findings.problems


def test_one_budget_per_pod_is_in_order() -> None:
    assert problems([workload("proxy"), budget("proxy", RELEASE_LABELS | {"component": "proxy"})]) == []


def test_a_pod_under_two_budgets_is_told() -> None:
    found = problems([workload("proxy"), budget("a", RELEASE_LABELS), budget("b", {"component": "proxy"})])
    assert found == ["Deployment shop-milvus-proxy: matched by 2 budgets: PodDisruptionBudget a, PodDisruptionBudget b"]


def test_a_pod_without_a_budget_is_told() -> None:
    assert problems([workload("proxy")]) == ["Deployment shop-milvus-proxy: matched by 0 budgets: none"]


def test_a_selector_that_matches_no_pod_is_told() -> None:
    (found,) = problems(
        [workload("proxy"), budget("proxy", {"component": "proxy"}), budget("typo", {"component": "prox"})]
    )[:1]
    assert found.startswith("PodDisruptionBudget typo")
    assert "matches no pod" in found


@pytest.mark.parametrize("away", [0, 2])
def test_a_budget_that_guards_nothing_or_everything_is_told(away: int) -> None:
    assert problems([workload("proxy"), budget("proxy", {"component": "proxy"}, away)]) == [
        f"PodDisruptionBudget proxy: lets {away} of 2 pods be evicted"
    ]


def test_a_value_that_upstream_lacks_is_told(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump({"version": "1.0.0", "appVersion": "3.0.1"}))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"proxy": {"replicas": 1, "resources": {}}}))
    upstream = check_upstream.read_upstream(tmp_path)
    assert isinstance(upstream, Upstream)
    ours = {"proxy": {"replicas": 2, "replica": 2, "resources": {"limits": {"memory": "1Gi"}}}, "proxies": {"x": 1}}
    assert check_upstream.unknown_keys(ours, upstream) == ["proxies.x", "proxy.replica"]


@pytest.mark.parametrize(
    ("expression", "selects"),
    [
        ({"key": "a", "operator": "In", "values": ["1", "2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "b", "operator": "DoesNotExist"}, True),
    ],
)
def test_expressions_select_as_in_kubernetes(expression: check_upstream.Document, selects: bool) -> None:
    assert matches({"matchExpressions": [expression]}, {"a": "1"}) is selects


def test_a_folder_without_a_chart_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["check_upstream", str(tmp_path)])
    assert check_upstream.main() == 2
    assert "holds no Chart.yaml" in capsys.readouterr().out
