"""The detector as phones run it, in the runtimes that this machine has, and the network that it was made of.

Each takes a square board and returns rows: corners in its pixels, confidence, label.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.domain import Box, Pixels
from serve_app.exporting import SUPPRESSION_IOU
from serve_app.weights.formats import Format

Floats = npt.NDArray[np.float32]
Rows = Floats
"""(n, 6): x0, y0, x1, y1, confidence, label."""
Find = Callable[[Pixels], Rows]

THREADS = 2
LEAST_CONFIDENCE = 0.25


def network(weights: Path, *, one_to_one: bool) -> Find:
    """Return the network itself with one of its heads: what an export is compared with."""
    import torch

    from serve_app.yolo import load_network

    torch.set_num_threads(THREADS)
    model = load_network(weights, one_to_one=one_to_one)

    def find(board: Pixels) -> Rows:
        with torch.inference_mode():
            output = model(torch.from_numpy(batch(board)))
        found: Floats = (output[0] if isinstance(output, (tuple, list)) else output).numpy()[0]
        return sure(found) if one_to_one else suppressed(found)

    return find


def exported(model: Path, kind: Format) -> Find:
    """Return an exported model in its runtime; raises ImportError where that is not installed."""
    return {Format.ONNX: _onnx, Format.NCNN: _ncnn, Format.LITERT: _litert}[kind](model)


def batch(board: Pixels) -> Floats:
    """Return (1, 3, side, side) in 0…1."""
    return np.ascontiguousarray(board.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def sure(rows: Floats) -> Rows:
    """Return the rows of a one-to-one head that are sure enough."""
    return rows[rows[:, 4] >= LEAST_CONFIDENCE]


def suppressed(columns: Floats) -> Rows:
    """Return what is left of a one-to-many head, (4 + labels, cells), once doubles are gone."""
    centres, scores = columns[:4].T, columns[4:]
    labels, confidences = scores.argmax(0), scores.max(0)
    order = [int(i) for i in np.argsort(-confidences) if confidences[i] >= LEAST_CONFIDENCE]
    kept: list[tuple[Box, int, float]] = []
    for i in order:
        x, y, width, height = (float(value) for value in centres[i])
        box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        label = int(labels[i])
        if all(other != label or box.iou(known) <= SUPPRESSION_IOU for known, other, _ in kept):
            kept.append((box, label, float(confidences[i])))
    rows = [(*box.as_tuple(), confidence, label) for box, label, confidence in kept]
    return np.array(rows, np.float32).reshape(-1, 6)


def _onnx(model: Path) -> Find:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda board: sure(session.run(None, {name: batch(board)})[0][0])


def _litert(model: Path) -> Find:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(model), num_threads=THREADS)
    interpreter.allocate_tensors()
    (given,), (told,) = interpreter.get_input_details(), interpreter.get_output_details()

    def find(board: Pixels) -> Rows:
        interpreter.set_tensor(given["index"], batch(board))
        interpreter.invoke()
        return sure(interpreter.get_tensor(told["index"])[0])

    return find


def _ncnn(model: Path) -> Find:
    import ncnn

    net: Any = ncnn.Net()
    net.opt.num_threads = THREADS
    net.load_param(str(model / "model.ncnn.param"))
    net.load_model(str(model / "model.ncnn.bin"))

    def find(board: Pixels) -> Rows:
        with net.create_extractor() as extractor:
            extractor.input(net.input_names()[0], ncnn.Mat(batch(board)[0]))
            _, output = extractor.extract(net.output_names()[0])
            return suppressed(np.array(output, np.float32))

    return find
