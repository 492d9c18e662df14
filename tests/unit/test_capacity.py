"""What `shoplens plan` says, held against numbers worked out by hand."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.capacity import Load, plan
from serve_app.cli import app

ROOT = Path(__file__).parents[2]
GPUS = Load(
    images=30_000_000,
    new_images_per_day=100_000,
    searches_per_s=300,
    gpu_images_per_s=500,
    gpu_searches_per_s=100,
    price=2.0,
)


def planned(load):
    return {line.name: line.figure for line in plan(load)}


def value(load, name):
    return planned(load)[name].value


def test_memory_disk_and_nodes_of_an_index():
    memory = 2 * 2 * 60e6 * (4 * 256 + int(8.8 * 16) + 200) * 1.3 / 2**30
    assert value(GPUS, "memory of the query nodes") == pytest.approx(memory)
    assert value(GPUS, "query nodes of a copy") == math.ceil(memory / 2 / 32) + 1 == 8
    assert value(GPUS, "query nodes") == 16
    assert value(GPUS, "object storage") == pytest.approx(2 * 60e6 * (1024 + 700 + 1164) * 1.3 / 2**30)


def test_gpus_hours_and_cost():
    found = {name: figure.value for name, figure in planned(GPUS).items()}
    assert found["import, or re-index by a new model"] == pytest.approx(30e6 / 500 / 3600)
    assert found["import of what is new, a month"] == pytest.approx(100_000 * 30 / 500 / 3600)
    assert found["detectors and embedders at the peak"] == math.ceil(300 / 100 / 0.7) + 1 == 6
    assert found["serving at the peak all month, at most"] == 6 * 730
    assert found["searchers at the peak"] == 2
    assert found["cost of an import or re-index"] == pytest.approx(2 * 30e6 / 500 / 3600)
    assert found["cost of models a month, at most"] == pytest.approx(2 * (6 * 730 + 3e6 / 500 / 3600))


def test_cores_are_counted_from_what_was_measured_here():
    load = Load(images=19_080, searches_per_s=9.2, gpus=False)
    assert value(load, "import, or re-index by a new model") == pytest.approx(2.0)
    assert value(load, "detectors and embedders at the peak") == math.ceil(2 / 0.7) + 1


def test_what_nobody_measured_has_no_number_and_says_how_to_get_one():
    found = planned(Load(images=1000, searches_per_s=5, price=2.0))
    unknown = {name for name, figure in found.items() if figure.value is None}
    assert unknown == {name for name, figure in found.items() if figure.missing} == {
        "import, or re-index by a new model",
        "import of what is new, a month",
        "detectors and embedders at the peak",
        "serving at the peak all month, at most",
        "cost of an import or re-index",
        "cost of models a month, at most",
    }  # fmt: skip
    assert "--gpu-images-per-second" in found["import, or re-index by a new model"].missing
    for script in re.findall(r"scripts/\w+\.py", " ".join(figure.missing for figure in found.values())):
        assert (ROOT / script).is_file()


def test_formulas_compute_what_they_show():
    for name, figure in planned(GPUS).items():
        text = re.sub(r"⌈(.*?)⌉(, at least \d+)?", r"ceil(\1)", figure.formula.replace(",", ""))
        text = re.sub(r"(?<=[\d.)]) [A-Za-z_][^×÷+()⌉]*", " ", text).replace("×", "*").replace("÷", "/")
        assert figure.value is not None
        computed = eval(text, {"ceil": math.ceil})
        scale = 2**30 if figure.unit == "GiB" else 1
        assert max(computed, 2 if "at least" in figure.formula else 0) == pytest.approx(
            figure.value * scale, rel=0.01
        ), name


def test_sources_are_headings_of_this_repository():
    for load in (GPUS, Load(images=1000, searches_per_s=5, gpus=False)):
        for figure in planned(load).values():
            for source in figure.sources:
                file, _, heading = source.partition(", ")
                text = (ROOT / (file if "." in file else f"{file}.md")).read_text(encoding="utf-8")
                assert re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE), source


def test_the_command_prints_numbers_formulas_and_what_is_missing():
    said = CliRunner().invoke(app, ["plan", "--images", "30000000", "--copies", "2"])
    assert said.exit_code == 0
    assert "60,000,000" in said.output
    assert "--gpu-images-per-second" in said.output
    asked = ["plan", "--images", "1000", "--cpu", "--hour-price", "0.1", "--json"]
    lines = json.loads(CliRunner().invoke(app, asked).output)
    assert lines[0]["value"] == 2000
    assert all(line["formula"] and line["missing"] is None for line in lines)
    assert CliRunner().invoke(app, ["plan", "--images", "0"]).exit_code == 2
