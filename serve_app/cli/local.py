"""What several commands need on this machine: the index, the weights, the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from rich.console import Console

from serve_app.config import Config, Stage
from serve_app.errors import BadWeights
from serve_app.ray_environment import LAPTOP
from serve_app.runtimes.chosen import runtime_for


@contextmanager
def milvus_uri(config: Config, console: Console) -> Iterator[str]:
    """Yield the address of Milvus: the one in the settings, or the local one, held open until the block ends."""
    if config.milvus.uri is not None:
        yield config.milvus.uri
        return
    from serve_app.milvus.local import LocalMilvus

    local = LocalMilvus(config.data_dir)
    with console.status("opening the index …"):
        uri = local.open()
    try:
        yield uri
    finally:
        local.close()


def need_models(config: Config, device: str | None = None) -> None:
    """Raise BadWeights or BadConfig, with the command that mends it, where a model can't be run for want of a file."""
    need_detector_weights(config)
    for stage in get_args(Stage):
        runtime_for(config, stage, device)


def need_detector_weights(config: Config) -> None:
    """Raise BadWeights, with the command that gets them, where the detector's weights are not there."""
    if not config.detector_weights.is_file():
        way = "copy your own there" if config.detector.sha256 else "`shoplens weights fetch` gets them"
        raise BadWeights(f"the detector's weights are not at {config.detector_weights}; {way}")


def set_ray_environment() -> None:
    """Set what Ray reads when it is imported; the user's own values win."""
    for name, value in LAPTOP.items():
        os.environ.setdefault(name, value)
