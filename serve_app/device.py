"""The device that a model computes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serve_app.errors import BadConfig, DeviceFailed, DeviceOutOfMemory


def pick(stage: str, name: str) -> torch.device:
    """Return the device; raises BadConfig where a GPU is asked for and none is seen."""
    if name != "cpu" and not torch.cuda.is_available():
        raise BadConfig(
            f"{stage}.device is {name}, but no GPU is seen here; set {stage}.device: cpu, or give it one "
            f"({stage}.num_gpus in a service)"
        )
    return torch.device(name)


@contextmanager
def translating_errors() -> Iterator[None]:
    """Raise DeviceOutOfMemory or DeviceFailed for what the device did; other errors pass."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise DeviceOutOfMemory("a batch did not fit into the GPU's memory; lower max_batch") from error
    except torch.AcceleratorError as error:
        raise DeviceFailed(f"the GPU failed: {error}") from error
