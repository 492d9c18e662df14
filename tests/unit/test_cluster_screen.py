import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from serve_app.cli.cluster import seconds, secret_ref
from serve_app.cli.cluster_commands import planned_service
from serve_app.cli.cluster_screen import check_lines, screen
from serve_app.cluster.check import Check
from serve_app.cluster.facts import SecretRef
from serve_app.cluster.observing import Observer
from serve_app.cluster.status import findings
from serve_app.errors import BadInput
from tests.unit.cluster_fakes import CORE, TARGET, FakeApi, healthy, pod


def printed(*renderables: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(*renderables)
    return console.file.getvalue()


def status_screen(api: FakeApi) -> str:
    seen = Observer(api, TARGET).look()
    return printed(screen(TARGET, seen, findings(seen)))


def test_one_screen_holds_stages_pods_index_and_milvus():
    text = status_screen(healthy())
    for words in ("shoplens-a", "Ingress", "2/2", "cpu-2", "0123456789ab", "1 of 2 taken", "6 searches", "all is well"):
        assert words in text
    assert len(text.splitlines()) < 24


def test_fault_and_remedy_are_printed_as_they_are():
    api = healthy()
    waiting = pod("gpu-1", phase="Pending", unscheduled="no [bold]node[/] has nvidia.com/gpu")
    api.put(f"{CORE}/pods", waiting, labels="ray.io/cluster in (shoplens-a)")
    text = status_screen(api)
    assert "wrong: pod gpu-1 has no node: no [bold]node[/] has nvidia.com/gpu" in text
    assert "→ free GPUs" in text


def test_missing_right_is_printed():
    api = healthy()
    api.denied.add("/api/v1/nodes")
    assert "not read: GPUs: /api/v1/nodes is forbidden" in status_screen(api)


def test_checks_are_one_a_line():
    text = printed(check_lines([Check("quota [a]", "failed", "no room")]))
    assert text.split() == ["failed", "quota", "[a]", "no", "room"]


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400)])
def test_durations_are_read(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0s", "-5m", "5w", "m"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadInput, match="no duration"):
        seconds(text)


def test_secret_is_named_with_its_key():
    assert secret_ref("milvus:password") == SecretRef("milvus", "password")
    with pytest.raises(BadInput, match="NAME:KEY"):
        secret_ref("milvus")


def test_service_is_found_in_a_rendered_chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = "kind: Role\n---\n---\nkind: RayService\nmetadata: {name: a}\n"
    path = tmp_path / "chart.yaml"
    path.write_text(text)
    assert planned_service(path)["metadata"] == {"name": "a"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert planned_service(Path("-"))["metadata"] == {"name": "a"}


@pytest.mark.parametrize(("text", "words"), [("kind: Role\n", "no RayService"), ("{a", "can't be read")])
def test_what_is_no_rendered_chart_is_refused(tmp_path, text, words):
    path = tmp_path / "chart.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        planned_service(path)
