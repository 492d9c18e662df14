"""Helm, and our chart without the upstream chart, which no test can fetch."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.check_upstream import helm

CHART = Path(__file__).parents[2] / "helm" / "milvus"
SHAPES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Document = dict[str, Any]


class Refused(Exception):
    """Helm refused the values; holds what it said."""


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("chart") / "milvus"
    shutil.copytree(CHART, copy)
    described = yaml.safe_load((copy / "Chart.yaml").read_text())
    del described["dependencies"]
    (copy / "Chart.yaml").write_text(yaml.safe_dump(described))
    return copy


@pytest.fixture(scope="session")
def render(chart: Path) -> Callable[..., list[Document]]:
    def rendered(shape: str, *values: str) -> list[Document]:
        command = [helm(), "template", "shop", chart, "--namespace", "milvus", "-f", chart / f"ci/{shape}-values.yaml"]
        for value in values:
            command += ["--set-json" if value.endswith(("]", "}", '"')) else "--set", value]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Refused(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return rendered


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    assert found, "promtool is missing: apt-get install prometheus, or run the tests by ./scripts/test"
    return found
