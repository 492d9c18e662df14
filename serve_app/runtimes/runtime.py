"""What runs a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from serve_app.config import Compiler, Precision, Stage

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Runtime:
    """Name what runs a network, and the folder of its compiled form; PyTorch has none."""

    backend: Literal["torch", Compiler] = "torch"
    precision: Precision = "fp32"
    folder: Path | None = None


TORCH = Runtime()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Name one network that is to be made."""

    stage: Stage
    backend: Compiler
    precision: Precision
