"""Compiled networks on disk.

    DATA_DIR/weights/compiled/STAGE-BACKEND-PRECISION-KEY/
        model.xml, model.bin | model.onnx
        artefact.json    what it was made of, the digests of its files, and how near it comes to PyTorch

A folder is there only if it passed parity: it is made beside and moved. Its name tells everything that would make
another one of it, so a new release, package, model or kind of CPU finds none rather than a wrong one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.config import Compiler, Config, Precision, Stage
from serve_app.errors import BadConfig, BadWeights
from serve_app.images import PREPROCESSING_VERSION
from serve_app.runtimes.cpu import cpu_features
from serve_app.weights.chosen import detector_sha256, model_of

GRAPH_VERSION: Final = 2
"""Changes when this release would make another graph of the same weights."""
COMPILED = Path("weights/compiled")
"""Where the data directory holds them."""
DESCRIPTION = "artefact.json"
MODEL: Mapping[Compiler, str] = {"openvino": "model.xml", "onnxruntime": "model.onnx"}
COMMAND = "shoplens weights compile --photos FOLDER"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Key:
    """Name everything that decides what an artefact holds."""

    stage: Stage
    model: str
    """Fingerprint of the embedder; digest and long side of the detector."""
    backend: Compiler
    version: str
    precision: Precision
    cpu: tuple[str, ...]
    graph: int = GRAPH_VERSION
    preprocessing: int = PREPROCESSING_VERSION

    @property
    def folder(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return f"{self.stage}-{self.backend}-{self.precision}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Description(BaseModel):
    """Hold what artefact.json says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, Sha256]
    labels: tuple[str, ...]
    made: str
    parity: dict[str, float] = {}
    photos: int = 0
    """That parity was found on."""
    ms_per_item: float = 0
    """Of its photos or crops, on the threads of the stage."""
    torch_ms_per_item: float = 0
    """The same of PyTorch, in the same run."""


def installed(backend: Compiler) -> bool:
    return util.find_spec(backend) is not None


def need_package(backend: Compiler) -> None:
    """Raise BadConfig where a backend's package is not there."""
    if not installed(backend):
        raise BadConfig(f"{backend} is not installed; pip install 'shoplens[{backend}]' brings it")


def key_of(config: Config, stage: Stage, backend: Compiler, precision: Precision) -> Key:
    """Return the key of what this machine would run; raises BadConfig where the package is missing, and BadWeights."""
    need_package(backend)
    model = model_of(config) if stage == "embedder" else f"{detector_sha256(config)[:12]}/{config.detector.side_px}"
    return Key(stage, model, backend, metadata.version(backend), precision, cpu_features())


def read(folder: Path) -> Description | None:
    """Return what a folder holds; None where there is none, BadWeights where it can't be read."""
    path = folder / DESCRIPTION
    try:
        return Description.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BadWeights(f"{path} can't be read; make it again: `{COMMAND}`") from error


def check(folder: Path) -> Description:
    """Return what a folder holds, once its files are known to be whole; raises BadWeights."""
    description = read(folder)
    if description is None:
        raise BadWeights(f"{folder} is gone; make it again: `{COMMAND}`")
    for name, sha256 in description.files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != sha256:
            raise BadWeights(f"{folder / name} is damaged; make it again: `{COMMAND}`")
    return description


def describe(made: Path, labels: tuple[str, ...]) -> Description:
    """Write down what was made in a folder, before it is known how near it comes."""
    files = {path.name: _sha256(path) for path in sorted(made.iterdir())}
    description = Description(files=files, labels=labels, made=datetime.now(UTC).isoformat(timespec="seconds"))
    _write(made, description)
    return description


def keep(made: Path, folder: Path, description: Description) -> None:
    """Move what was made to its place, instead of what is there."""
    _write(made, description)
    shutil.rmtree(folder, ignore_errors=True)
    made.replace(folder)


def _write(folder: Path, description: Description) -> None:
    (folder / DESCRIPTION).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
