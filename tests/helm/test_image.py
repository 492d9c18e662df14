"""What the Dockerfile promises to the charts, read off it: no Docker engine is needed."""

import ast
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from scripts.chart_settings import IN_A_CLUSTER

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "serve_app" / "Dockerfile"
WEIGHTS = "/opt/shoplens/weights/yolo26n.pt"
BROWSER = "/opt/shoplens/browser"
IN_THE_IMAGE = ("PATH", "HOME", "SHOPLENS_DETECTOR__WEIGHTS", "SHOPLENS_PAGE__DETECTOR", "PYTHONPATH")


@pytest.fixture(scope="module")
def stages() -> dict[str, list[str]]:
    """Return each stage's instructions, and those of the stages that it starts from."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    made: dict[str, list[str]] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("FROM"):
            _, parent, _, name = line.split()
            made[name] = [*made.get(parent, []), line]
        elif made:
            made[name].append(re.sub(r"\s+", " ", line))
    return made


def environment(instructions: list[str]) -> dict[str, str]:
    pairs = [pair for line in instructions if line.startswith("ENV") for pair in line.split()[1:]]
    return dict(pair.split("=", 1) for pair in pairs)


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    subprocess.run([hadolint, "--failure-threshold", "style", "--disable-ignore-pragma", DOCKERFILE], check=True)


@pytest.mark.parametrize("target", ["cpu", "gpu", "load"])
def test_each_target_runs_as_user_1000_with_their_files_where_the_charts_expect_them(
    stages: dict[str, list[str]], target: str
) -> None:
    instructions, names = stages[target], environment(stages[target])
    assert [line for line in instructions if line.startswith("USER")][-1] == "USER 1000:1000"
    assert names["HOME"] == "/home/shoplens"
    assert names["PATH"].startswith("/opt/shoplens/venv/bin:")
    assert names["SHOPLENS_DETECTOR__WEIGHTS"] == WEIGHTS
    for name, value in names.items():
        if value.startswith("/") and name not in IN_THE_IMAGE:
            assert value.startswith("/home/shoplens/"), f"{name} lies on the read-only root"
    assert any(
        line.startswith("COPY --from=") and line.endswith(" /opt/shoplens /opt/shoplens") for line in instructions
    )
    assert any("wget" in line for line in instructions), "KubeRay's probes call it"


def test_the_base_and_what_is_installed_are_pinned(stages: dict[str, list[str]]) -> None:
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm$", DOCKERFILE.read_text(), re.MULTILINE)
    lines = stages["venv"] + stages["load"]
    installs = [line for line in lines if " pip install " in line or " pip sync " in line]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or "--no-deps" in line


def test_the_detectors_weights_are_fetched_to_where_the_service_looks(stages: dict[str, list[str]]) -> None:
    assert any(f"SHOPLENS_DETECTOR__WEIGHTS={WEIGHTS}" in line and "weights fetch" in line for line in stages["venv"])


def test_the_browsers_detector_is_made_where_the_service_looks(stages: dict[str, list[str]]) -> None:
    assert any(f"weights browser --output {BROWSER}" in line for line in stages["venv"])
    assert environment(stages["runtime"])["SHOPLENS_PAGE__DETECTOR"] == IN_A_CLUSTER["page"]["detector"] == BROWSER


def test_what_makes_onnx_fits_the_service_and_is_left_out_of_the_image(stages: dict[str, list[str]]) -> None:
    added, there = pins("onnx"), pins("import")
    assert {"onnx", "onnxslim", "onnxruntime"} <= added.keys()
    assert {name: there[name] for name in added.keys() & there.keys()}.items() <= added.items()
    (line,) = [line for line in stages["venv"] if "onnx.txt" in line and line.startswith("RUN")]
    assert "--target /opt/tools/onnx -r /locks/onnx.txt" in line
    copied = [line for name in ("cpu", "gpu") for line in stages[name] if line.startswith("COPY --from=")]
    assert {line.split()[-1] for line in copied} == {"/opt/shoplens"}


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / f"scripts/locks/{lock}.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_locust_comes_on_top_of_the_service_and_changes_nothing_below() -> None:
    added, there = pins("load"), pins("import")
    assert "locust" in added.keys() - there.keys()
    assert {name: there[name] for name in added.keys() & there.keys()}.items() <= added.items()


def imported(module: Path) -> set[Path]:
    """Return the scripts that one imports, and what these import."""
    names = [node.module for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    names += [
        f"scripts.{alias.name}"
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "scripts"
        for alias in node.names
    ]
    assert not any(name and name.startswith("serve_app") for name in names), (
        "the load test's pods ask the service alone"
    )
    found = {ROOT / f"{name.replace('.', '/')}.py" for name in names if name and name.startswith("scripts.")}
    return {module}.union(*(imported(each) for each in found))


def test_the_image_of_load_tests_has_the_scripts_that_its_pods_run(stages: dict[str, list[str]]) -> None:
    (copied,) = [line.split()[1:-1] for line in stages["load"] if line.endswith(" /opt/shoplens/load/scripts/")]
    wanted = imported(ROOT / "scripts/load_pod.py") | imported(ROOT / "scripts/load_shopper.py")
    assert {ROOT / name for name in copied} == wanted
    assert environment(stages["load"])["PYTHONPATH"] == "/opt/shoplens/load"


def test_all_that_is_copied_from_the_repository_is_in_the_build_context(stages: dict[str, list[str]]) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for instructions in stages.values()
        for line in instructions
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
