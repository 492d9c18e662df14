"""What several commands have in common on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file of settings; SHOPLENS_A__B variables win over it."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where weights, local index and logs lie; default: SHOPLENS_DATA_DIR, or XDG's."),
]

PIPED_WIDTH = 200
"""Columns where the output is no terminal: names are not to be cut."""


def console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
