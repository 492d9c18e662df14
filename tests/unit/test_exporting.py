"""What is checked before the detector is exported, and what is told of it afterwards."""

import json
import sys

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.errors import BadConfig, BadWeights, ExportFailed
from serve_app.exporting import NEEDED, _run, check_means, described, export_detector
from serve_app.weights.formats import Format
from serve_app.weights.loader import DETECTOR_SHA256

LABELS = [f"thing {number}" for number in range(80)]


def check(kind: Format, *missing: str, numpy: str = "2.3.5") -> None:
    check_means(kind, lambda module: module not in missing, lambda _: numpy)


@pytest.mark.parametrize("kind", Format)
def test_every_format_names_what_it_lacks(kind):
    check(kind)
    for module in NEEDED[kind]:
        way = r"locks/export\.txt" if kind is Format.LITERT else r"shoplens\[export\]"
        with pytest.raises(BadConfig, match=f"{module}.*{way}"):
            check(kind, module)


def test_numpy_that_coremltools_can_not_use_is_named():
    with pytest.raises(BadConfig, match=r"numpy<2\.4"):
        check(Format.COREML, numpy="2.4.6")
    check(Format.ONNX, numpy="2.4.6")


@pytest.mark.parametrize("kind", Format)
def test_description_tells_how_to_feed_and_read_the_model(kind):
    told = json.loads(json.dumps(described(kind, "yolo26n", DETECTOR_SHA256, 640, LABELS)))
    assert told["format"] == kind.value
    assert told["input"]["shape"] == [1, 3, 640, 640]
    assert told["labels"] == LABELS
    many = kind is Format.NCNN
    assert told["output"]["shape"] == ([1, 84, 8400] if many else [1, 300, 6])
    assert ("suppress" in told["output"]) == many


def test_weights_are_checked_before_anything_opens_them(tmp_path):
    wrong = tmp_path / "yolo26n.pt"
    wrong.write_bytes(b"not a network")
    with pytest.raises(BadWeights):
        export_detector(wrong, DETECTOR_SHA256, Format.ONNX, tmp_path / "phones", 640)
    assert not (tmp_path / "phones").exists()


def test_converter_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ExportFailed, match="exit code 1"):
        _run(tmp_path / "yolo26n.pt", Format.ONNX, 640)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'a warning' >&2\necho 'RuntimeError: no such layer' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(ExportFailed, match="RuntimeError: no such layer"):
        _run(tmp_path / "yolo26n.pt", Format.ONNX, 640)


def test_unknown_format_is_a_usage_error():
    outcome = CliRunner().invoke(app, ["weights", "export", "--format", "tensorrt"])
    assert outcome.exit_code == 2
