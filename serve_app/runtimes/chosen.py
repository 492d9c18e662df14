"""What runs each stage's network, as the settings and what was compiled here say.

Nothing is compiled while a stage starts: whether the result is near enough to PyTorch's shows on photos, which a
starting replica does not have, and a replica that meets load has no minute to spare for it.
"""

from __future__ import annotations

import logging

from serve_app.config import PRECISIONS, Compiler, Config, Stage
from serve_app.errors import BadConfig
from serve_app.runtimes.artefacts import COMMAND, COMPILED, installed, key_of, read
from serve_app.runtimes.runtime import TORCH, Runtime

log = logging.getLogger(__name__)


def runtime_for(config: Config, stage: Stage, device: str | None = None) -> Runtime:
    """Return what runs a stage's network on `device`, by default the stage's own.

    On a GPU that is PyTorch. Raises BadConfig, with what to do, where what the settings name was not compiled for this
    model, package and kind of CPU.
    """
    own = getattr(config, stage)
    if (device or own.device) != "cpu" or own.backend == "torch":
        return TORCH
    if own.backend == "auto":
        return _fastest(config, stage)
    runtime = _compiled(config, stage, own.backend)
    if runtime is None:
        raise BadConfig(
            f"{stage}.backend is {own.backend}, but no {own.precision} model was compiled with it for this model, "
            f"version and kind of CPU; `{COMMAND} --backend {own.backend} --precision {own.precision}` does it, "
            f"or set {stage}.backend: torch"
        )
    return runtime


def _fastest(config: Config, stage: Stage) -> Runtime:
    precision = getattr(config, stage).precision
    chosen, gain = TORCH, 1.0
    for backend, known in PRECISIONS.items():
        runtime = _compiled(config, stage, backend) if precision in known and installed(backend) else None
        if runtime is not None and (own := _gain(runtime)) > gain:
            chosen, gain = runtime, own
    log.info("runtime chosen", extra={"stage": stage, "backend": chosen.backend, "precision": chosen.precision})
    return chosen


def _compiled(config: Config, stage: Stage, backend: Compiler) -> Runtime | None:
    precision = getattr(config, stage).precision
    folder = config.data_dir / COMPILED / key_of(config, stage, backend, precision).folder
    return None if read(folder) is None else Runtime(backend, precision, folder)


def _gain(runtime: Runtime) -> float:
    """Return how many times as fast as PyTorch it was when it was made."""
    assert runtime.folder is not None
    description = read(runtime.folder)
    return description.torch_ms_per_item / description.ms_per_item if description else 0.0
