"""The weights that this release was made for.

Importing it costs no torch: the import command and the API read the fingerprint without a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from serve_app.errors import BadWeights
from serve_app.images import CROP_RULE, CROP_SIDE_PX, PREPROCESSING_VERSION

DETECTOR_SHA256: Final = "9b09cc8bf347f0fc8a5f7657480587f25db09b34bf33b0652110fb03a8ad4fef"
DETECTOR_SIZE_BYTES: Final = 5_544_453
BACKBONE_SHA256: Final = "0dd482d5fe3f1e891d7fe144a56d35f29a645e7b0da7c060972eb1693b6d7b54"
HEAD_SHA256: Final = "1fa127d085a432a17527755fb280ae30d7b0adeef0e1ab2b337a1576ea2db2ea"

ARCHITECTURE: Final = "resnet50-keras-strides+pooled-stages-linear-256/2"
"""Changes when the same weights would give other embeddings."""
NETWORK: Final = "resnet50-torchvision-strides+average-linear-256/1"
"""The same of a whole network that was trained elsewhere, as `serve_app.conversion` writes it."""
ONNX: Final = "onnx-rgb-imagenet-256/1"
"""The same of a whole network that ONNX Runtime runs, see `serve_app.runtimes.foreign`."""
ONNX_SUFFIX = ".onnx"
LONGEST_HEADER_BYTES = 2**20

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class EmbedderFiles:
    """Name the two files that an embedder is made of; of a whole network, both are its one file."""

    backbone: Path
    head: Path
    architecture: str = ARCHITECTURE

    @property
    def is_whole(self) -> bool:
        return self.architecture != ARCHITECTURE


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Name everything that decides what an embedding looks like."""

    backbone_sha256: str
    head_sha256: str
    architecture: str = ARCHITECTURE
    input_side_px: int = CROP_SIDE_PX
    crop_rule: str = CROP_RULE
    preprocessing_version: int = PREPROCESSING_VERSION

    def fingerprint(self) -> str:
        """Return 12 hex digits that two embedders share only if their embeddings can be compared."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Hold a file's tensors by name, with the texts stored beside them."""

    tensors: Mapping[str, npt.NDArray[Any]]
    metadata: Mapping[str, str]


def embedder_files(head: Path | None = None) -> EmbedderFiles:
    """Return the files of this release, its backbone with a shop's own head, or a shop's own network."""
    if head is not None and head.suffix == ONNX_SUFFIX:
        return EmbedderFiles(head, head, ONNX)
    if head is not None and architecture_in(head) == NETWORK:
        return EmbedderFiles(head, head, NETWORK)
    return EmbedderFiles(_HERE / "resnet50.safetensors", head or _HERE / "starter.safetensors")


def fingerprint(files: EmbedderFiles | None = None) -> str:
    """Return the fingerprint of the embedder made of these files.

    The release's own files count by their pinned digests and are not read; raises BadWeights where
    another one can't be.
    """
    files = files or embedder_files()
    backbone = digest(files.backbone)
    head = backbone if files.is_whole else digest(files.head)
    return Ingredients(backbone, head, files.architecture).fingerprint()


def digest(path: Path) -> str:
    """Return the sha256 that a file has to have: pinned for the release's own, computed for others."""
    pinned = {_HERE / "resnet50.safetensors": BACKBONE_SHA256, _HERE / "starter.safetensors": HEAD_SHA256}
    return pinned.get(path) or _sha256(path)


def architecture_in(path: Path) -> str:
    """Return the architecture that a safetensors file says it is of; '' where it says none, or is no such file.

    Reads the header alone: https://huggingface.co/docs/safetensors/index#format.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LONGEST_HEADER_BYTES else {}
        return str(header["__metadata__"]["architecture"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def verify(path: Path, sha256: str) -> None:
    """Raise BadWeights unless the file has exactly these bytes."""
    found = _sha256(path)
    if found != sha256:
        raise BadWeights(
            f"{path} is not the weights file it should be (sha256 {found[:12]}…, expected {sha256[:12]}…); "
            "it is damaged or of another release: reinstall Shoplens, or fetch the file again"
        )


def load_tensors(path: Path, sha256: str) -> Weights:
    """Verify a safetensors file, then read it; raises BadWeights."""
    from safetensors import SafetensorError, safe_open

    verify(path, sha256)
    try:
        with safe_open(path, framework="np") as file:
            return Weights({name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise BadWeights(f"{path} is no safetensors file; train a head with scripts/train_embedder.py") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadWeights(
            f"the weights file {path} can't be read ({error.strerror}); reinstall Shoplens, or correct the path"
        ) from error
