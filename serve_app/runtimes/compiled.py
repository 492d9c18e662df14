"""Compiled networks as they run on this machine's CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from serve_app.config import Compiler, Precision
from serve_app.domain import Pixels
from serve_app.runtimes.artefacts import MODEL, check, need_package
from serve_app.runtimes.runtime import Floats, Runtime

Run = Callable[[Pixels], Floats]
"""Takes (n, height, width, 3) and returns the network's rows."""

SHAPES_KEPT = 512
"""Primitives that OpenVINO keeps for sizes of batches and boards it has met; those of an own use about 100 each."""
PRECISION_HINTS: dict[Precision, str] = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}
"""What is left to compute in floating point; OpenVINO would choose bf16 by itself where the CPU has it."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Hold a network that is ready to run; one thread at a time may use it."""

    labels: tuple[str, ...]
    run: Run


def load(runtime: Runtime, threads: int | None) -> Compiled:
    """Load what the runtime names, once it is known to be whole; raises BadWeights, BadConfig."""
    assert runtime.backend != "torch"
    assert runtime.folder is not None
    need_package(runtime.backend)
    description = check(runtime.folder)
    run = open_model(runtime.folder / MODEL[runtime.backend], runtime.backend, runtime.precision, threads)
    return Compiled(description.labels, run)


def open_model(model: Path, backend: Compiler, precision: Precision, threads: int | None) -> Run:
    """Open a model's file with so many threads, by default as many as there are cores."""
    return _openvino(model, precision, threads) if backend == "openvino" else _onnxruntime(model, threads)


def _openvino(model: Path, precision: Precision, threads: int | None) -> Run:
    core: Any = import_openvino().Core()
    properties = openvino_properties(precision, threads)
    request: Any = core.compile_model(core.read_model(model), "CPU", properties).create_infer_request()

    def run(pixels: Pixels) -> Floats:
        rows: Floats = request.infer({0: pixels}, share_inputs=True)[0]
        return rows

    return run


def _onnxruntime(model: Path, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime_options(threads)
    session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(pixels: Pixels) -> Floats:
        rows: Floats = session.run(None, {given.name: pixels})[0]
        return rows

    return run


def import_openvino() -> Any:
    """Import OpenVINO without what tells Intel of every import, and writes an id into the user's home.

    It goes on where that package is missing (openvino/tools/ovc/telemetry_utils.py). To be removed once it asks first.
    """
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))
    return importlib.import_module("openvino")


def openvino_properties(precision: Precision, threads: int | None) -> dict[str, Any]:
    """Return what OpenVINO is told of a network's numbers and threads."""
    # Pinned threads of several processes, each of which counts the cores from the first, would share that one.
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    return properties if threads is None else properties | {"INFERENCE_NUM_THREADS": threads}


def onnxruntime_options(threads: int | None) -> Any:
    """Return what ONNX Runtime is told of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Threads that wait by spinning take the other stages' cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
