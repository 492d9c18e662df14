"""The detector in the formats that phones run."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from serve_app.errors import BadConfig, ExportFailed
from serve_app.weights.formats import Format
from serve_app.weights.loader import verify

TIMEOUT_S = 1200
SUPPRESSION_IOU = 0.7
"""Of two boxes of one kind that overlap more, the less sure one goes: what Ultralytics does by default."""
RESULT = "result.json"
"""What the process that exports leaves beside the model."""
MOST_FOUND = 300
"""Rows of the one-to-one head, surest first."""
PADDING = 114
"""The grey that YOLO was trained with around a photo that is not square."""
LAST_LINES = 3
"""Of a converter's own words, as many are told where it fails."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """Name what was made, and the file that describes it."""

    model: Path
    description: Path
    size_bytes: int


NEEDED: Mapping[Format, tuple[str, ...]] = {
    Format.ONNX: ("onnx", "onnxslim", "onnxruntime"),
    Format.NCNN: ("ncnn", "pnnx"),
    Format.LITERT: ("litert_torch", "ai_edge_litert"),
    Format.COREML: ("coremltools",),
}
"""Modules of the extras `export` and `export-litert`."""
EXTRA = "pip install 'shoplens[export]'"
BRINGS: Mapping[Format, str] = {
    # Its requirements and pydantic's contradict each other (pyproject.toml).
    Format.LITERT: "pip install --no-deps --require-hashes -r scripts/locks/export.txt",
}
"""What to run, where that is not the extra."""
NUMPY_OF_COREML: Version = (2, 4)
"""coremltools 9 fails from this numpy on: https://github.com/apple/coremltools/issues/2633."""


def export_detector(weights: Path, sha256: str, kind: Format, folder: Path, side_px: int) -> Exported:
    """Make the detector for squares of `side_px`, in a process of its own: converters print much, and may crash.

    Raises BadWeights, BadConfig where something is missing, and ExportFailed with what the converter said.
    """
    verify(weights, sha256)
    check_means(kind, _is_there, metadata.version)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as work:
        # Ultralytics writes beside the weights.
        copy = Path(shutil.copy(weights, work))
        result = _run(copy, kind, side_px)
        made = Path(result["model"])
        model = folder / made.name
        _remove(model)
        made.replace(model)
    description = folder / f"{weights.stem}.{kind}.json"
    told = described(kind, model.name, sha256, side_px, result["labels"])
    description.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return Exported(model, description, _size(model))


def check_means(kind: Format, is_there: Callable[[str], bool], version: Callable[[str], str]) -> None:
    """Raise BadConfig where a package that a format needs is missing, or can't do it."""
    for module in NEEDED[kind]:
        if not is_there(module):
            raise BadConfig(f"{kind} needs {module}, which is not installed; {BRINGS.get(kind, EXTRA)} brings it")
    numpy = version("numpy")
    if kind is Format.COREML and tuple(int(part) for part in numpy.split(".")[:2]) >= NUMPY_OF_COREML:
        raise BadConfig(
            f"coremltools can't convert with numpy {numpy}; pip install 'numpy<2.4', in an environment of "
            "its own where something else needs a newer one"
        )


def described(kind: Format, model: str, sha256: str, side_px: int, labels: list[str]) -> dict[str, Any]:
    """Return what an app has to know of the model to feed it and to read what it says."""
    one_to_one = kind is not Format.NCNN
    cells = sum((side_px // stride) ** 2 for stride in (8, 16, 32))
    rows: dict[str, Any] = {
        "head": "one_to_one",
        "shape": [1, MOST_FOUND, 6],
        "row": ["x0", "y0", "x1", "y1", "confidence", "label"],
    }
    columns: dict[str, Any] = {
        "head": "one_to_many",
        "shape": [1, 4 + len(labels), cells],
        "column": ["x", "y", "width", "height", "confidence of each label"],
        "suppress": {"iou": SUPPRESSION_IOU, "within": "label"},
    }
    return {
        "model": model,
        "format": kind,
        "detector_sha256": sha256,
        "licence": "AGPL-3.0",
        "input": {
            "shape": [1, 3, side_px, side_px],
            "values": "RGB, 0 to 255, scaled by the model" if kind is Format.COREML else "RGB, 0 to 1",
            "fit": "the upright photo, its long side resized to the square's, centred on grey",
            "grey": PADDING,
        },
        "output": {"unit": "px of the square", **(rows if one_to_one else columns)},
        "labels": labels,
    }


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _run(weights: Path, kind: Format, side_px: int) -> dict[str, Any]:
    """Export in another process; return the path of the model and the labels."""
    command = [sys.executable, "-m", "serve_app.exporting", str(weights), str(kind), str(side_px)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise ExportFailed(f"{kind} was not made within {TIMEOUT_S} s") from error
    result = weights.with_name(RESULT)
    if done.returncode or not result.is_file():
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()][-LAST_LINES:]
        raise ExportFailed(
            f"{kind} can't be made here (exit code {done.returncode}): {' | '.join(said) or 'no reason'}"
        )
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())


def _export(weights: Path, kind: Format, side_px: int) -> None:
    """Export beside the weights, and leave the result there; raises whatever the converter raises."""
    from serve_app.yolo import set_switches

    set_switches(weights)
    from ultralytics.models.yolo.model import YOLO

    network: Any = YOLO(str(weights))
    # `nms=False` keeps the one-to-one head, where the format can hold what it does.
    model = network.export(format=str(kind), imgsz=side_px, nms=False, device="cpu")
    labels = [name for _, name in sorted(network.names.items())]
    weights.with_name(RESULT).write_text(json.dumps({"model": str(model), "labels": labels}), encoding="utf-8")


if __name__ == "__main__":
    _export(Path(sys.argv[1]), Format(sys.argv[2]), int(sys.argv[3]))
