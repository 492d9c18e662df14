"""PyTorch's networks in the form that another runtime takes."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
EXACT = ("/backbone/conv1/", "/backbone/stages.0/stages.0.0/")
"""What the embedder's statistics of colour and texture hang on. In 8 bits, of the ten nearest .92 were the same."""
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
    graph = _graph(config, stage)
    made = work / "float.onnx"
    _export(graph, made)
    if precision == "int8":
        made = _quantised(made, graph.exact, calibration, work)
    if backend == "openvino":
        _to_openvino(made, folder / MODEL[backend])
    else:
        made.replace(folder / MODEL[backend])
    for path in work.iterdir():
        path.unlink()
    work.rmdir()
    return cast(tuple[str, ...], getattr(graph.network, "labels", ()))


@dataclass(frozen=True, slots=True)
class _Graph:
    """Hold a network, an example of what it takes, and which of its dimensions are free.

    `exact` begins the names of layers that int8 leaves in floating point.
    """

    network: nn.Module
    example: Pixels
    free: dict[int, str]
    exact: tuple[str, ...]


def _graph(config: Config, stage: Stage) -> _Graph:
    if stage == "embedder":
        from serve_app.backbone import FeatureNetwork

        crops = np.zeros((2, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8)
        files = embedder_files(head_of(config))
        if files.architecture == ONNX:
            raise BadConfig("the embedder's network is an ONNX file, which ONNX Runtime runs as it is")
        return _Graph(FeatureNetwork(files), crops, {0: "crops"}, EXACT)
    from serve_app.yolo import YoloGraph

    side_px = config.detector.side_px
    if side_px < LEAST_SIDE_PX:
        raise BadConfig(f"detector.side_px is {side_px}; other backends than torch take {LEAST_SIDE_PX} or more")
    boards = np.zeros((2, side_px, 2 * STRIDE_PX, 3), np.uint8)
    yolo = YoloGraph(config.detector_weights, detector_sha256(config))
    # With a head of 8 bits no box is found.
    head = f"/network/model.{len(yolo.network.model) - 1}/"
    return _Graph(yolo, boards, {0: "boards", 1: "height", 2: "width"}, (head,))


def _export(graph: _Graph, path: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # Of Python numbers that become constants of the graph (those are meant), and of the exporter's age.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.network.eval(),
            (torch.from_numpy(graph.example),),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: graph.free, OUTPUT: {0: graph.free[0]}},
            opset_version=OPSET,
            dynamo=False,
        )


def _to_openvino(made: Path, path: Path) -> None:
    openvino = import_openvino()
    openvino.save_model(openvino.Core().read_model(made), path, compress_to_fp16=False)


def _quantised(made: Path, exact: tuple[str, ...], calibration: Iterable[Pixels], work: Path) -> Path:
    """Return the network with 8-bit convolutions, but for the exact ones; ranges are those of the calibration's pixels.

    What lies between convolutions stays in floating point: in 8 bits it gains no time and costs neighbours.
    """
    import onnx
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
        op_types_to_quantize=["Conv"],
        nodes_to_exclude=[node.name for node in onnx.load(prepared).graph.node if node.name.startswith(exact)],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    return quantised
