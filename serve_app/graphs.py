"""PyTorch's networks in the form that another runtime takes."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from serve_app.config import Compiler, Config, Precision, Stage
from serve_app.detector import STRIDE_PX
from serve_app.domain import Pixels
from serve_app.errors import BadConfig
from serve_app.images import CROP_SIDE_PX
from serve_app.runtimes.artefacts import MODEL, need_package
from serve_app.runtimes.compiled import import_openvino
from serve_app.weights.chosen import detector_sha256, head_of
from serve_app.weights.loader import ONNX, embedder_files

OPSET = 18
INPUT, OUTPUT = "pixels", "rows"
ROWS = 300
"""Of the detector's head; a graph asks for as many wherever it is run, so boards have to have as many cells."""
LEAST_SIDE_PX = 288
"""Long side from which the narrowest board has ROWS cells: 288 × 64 px, 36 · 8 + 18 · 4 + 9 · 2."""


def need_means(backend: Compiler, precision: Precision) -> None:
    """Raise BadConfig where a package is missing that a network is made with."""
    need_package(backend)
    for package, extra in (("onnx", backend), ("onnxruntime", "onnxruntime")):
        if (package == "onnx" or precision == "int8") and importlib.util.find_spec(package) is None:
            raise BadConfig(f"{package} is needed to make it; pip install 'shoplens[{extra}]' brings it")


def make(
    config: Config, stage: Stage, backend: Compiler, precision: Precision, calibration: Iterator[Pixels], folder: Path
) -> tuple[str, ...]:
    """Make a stage's network in `folder`, and return its labels; raises BadConfig and BadWeights."""
    need_means(backend, precision)
    work = folder / "onnx"
    work.mkdir()
    network, example, free = _graph(config, stage)
    made = work / "float.onnx"
    _export(network, example, free, made)
    if precision == "int8":
        made = _quantised(made, calibration, work)
    if backend == "openvino":
        _to_openvino(made, folder / MODEL[backend])
    else:
        made.replace(folder / MODEL[backend])
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    return cast(tuple[str, ...], getattr(network, "labels", ()))


def _graph(config: Config, stage: Stage) -> tuple[nn.Module, Pixels, dict[int, str]]:
    """Return a network, an example of what it takes, and which of its dimensions are free."""
    if stage == "embedder":
        from serve_app.backbone import FeatureNetwork

        crops = np.zeros((2, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8)
        files = embedder_files(head_of(config))
        if files.architecture == ONNX:
            raise BadConfig("the embedder's network is an ONNX file, which ONNX Runtime runs as it is")
        return FeatureNetwork(files), crops, {0: "crops"}
    from serve_app.yolo import YoloGraph

    side_px = config.detector.side_px
    if side_px < LEAST_SIDE_PX:
        raise BadConfig(f"detector.side_px is {side_px}; other backends than torch take {LEAST_SIDE_PX} or more")
    boards = np.zeros((2, side_px, 2 * STRIDE_PX, 3), np.uint8)
    return YoloGraph(config.detector_weights, detector_sha256(config)), boards, {0: "boards", 1: "height", 2: "width"}


def _export(network: nn.Module, example: Pixels, free: dict[int, str], path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # Of Python numbers that become constants of the graph (those are meant), and of the exporter's age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.from_numpy(example),),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: free, OUTPUT: {0: free[0]}},
            opset_version=OPSET,
            dynamo=False,
        )


def _to_openvino(made: Path, path: Path) -> None:
    openvino = import_openvino()
    openvino.save_model(openvino.Core().read_model(made), path, compress_to_fp16=False)


def _quantised(made: Path, calibration: Iterable[Pixels], work: Path) -> Path:
    """Return the network with 8-bit weights and activations, whose ranges are those of the calibration's pixels."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest = iter(calibration)

        def get_next(self) -> dict[str, Pixels] | None:
            pixels = next(self._rest, None)
            return None if pixels is None else {INPUT: pixels}

    prepared, quantised = work / "prepared.onnx", work / "int8.onnx"
    quant_pre_process(made, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        quantised,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Add", "MaxPool", "Concat"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    return quantised
