"""Models that were registered: each an entry that never changes, in a folder or below a prefix of an object store.

    FINGERPRINT/head.safetensors | network.onnx  card.md  evaluation.json  calibration.json  entry.json

`head.safetensors` may hold a whole network that was trained elsewhere.
`entry.json` is written last: an entry without it is none, so a registration that was killed is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.calibration import Curve
from serve_app.errors import BadConfig, BadWeights
from serve_app.folders import Folder, NoSuchFile, is_remote
from serve_app.images import CROP_RULE, CROP_SIDE_PX, PREPROCESSING_VERSION
from serve_app.weights.loader import ARCHITECTURE, BACKBONE_SHA256, DETECTOR_SHA256

HEAD, NETWORK_ONNX = "head.safetensors", "network.onnx"
CARD, EVALUATION, CALIBRATION = "card.md", "evaluation.json", "calibration.json"
ENTRY = "entry.json"
MODELS = Path("models")
"""Where the data directory holds the registry, unless the settings name another."""
FETCHED = Path("fetched")
"""Below it, the heads that were fetched from a registry elsewhere."""

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(_Kept):
    """Say what decides an embedding beside the head's weights; all of it is in the fingerprint."""

    architecture: str = ARCHITECTURE
    backbone_sha256: str = BACKBONE_SHA256
    input_side_px: int = CROP_SIDE_PX
    crop_rule: str = CROP_RULE
    preprocessing_version: int = PREPROCESSING_VERSION


class Part(_Kept):
    sha256: str
    size_bytes: int


class Entry(_Kept):
    """Hold what is known of a model; `detector_sha256` is that of the settings which it was registered with."""

    format: Literal[1] = 1
    fingerprint: Fingerprint
    name: str = Field(min_length=1, max_length=100)
    registered: str = Field(description="RFC 3339")
    preprocessing: Preprocessing = Preprocessing()
    detector_sha256: str = DETECTOR_SHA256
    files: dict[str, Part]

    @property
    def weights(self) -> str:
        """Return the name of the file that an embedder is loaded from."""
        return NETWORK_ONNX if NETWORK_ONNX in self.files else HEAD


class Registry:
    """Add entries, and read them; all calls raise Unavailable where the folder can't be had."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Return all entries, the newest first."""
        names = [file.name for file in self.folder.files() if file.name.endswith(f"/{ENTRY}")]
        found = [self._entry(name.partition("/")[0]) for name in names if name.count("/") == 1]
        return sorted(found, key=lambda entry: (entry.registered, entry.fingerprint), reverse=True)

    def find(self, named: str) -> Entry:
        """Return the entry of a fingerprint, or of a name that one alone has; raises BadConfig."""
        entries = self.entries()
        found = [each for each in entries if each.fingerprint == named] or [e for e in entries if e.name == named]
        if len(found) != 1:
            what = "no model" if not found else f"{len(found)} models"
            raise BadConfig(f"{self.folder.place} has {what} {named}; `shoplens model list` shows what there is")
        return found[0]

    def add(
        self,
        fingerprint: str,
        name: str,
        now: str,
        files: Mapping[str, bytes],
        detector_sha256: str = DETECTOR_SHA256,
        preprocessing: Preprocessing | None = None,
    ) -> tuple[Entry, bool]:
        """Register a model with its weights, HEAD or NETWORK_ONNX, and what else is known.

        Return its entry, and whether it is new.
        `detector_sha256` is the detector beside it, by default the release's; `preprocessing` that of a head on this
        release's backbone unless it is given.

        Raises BadConfig where another one has the name, or this model is there with other files or another name.
        """
        parts = {each: part_of(data) for each, data in files.items()}
        entry = Entry(
            fingerprint=fingerprint,
            name=name,
            registered=now,
            preprocessing=preprocessing or Preprocessing(),
            detector_sha256=detector_sha256,
            files=parts,
        )
        for other in self.entries():
            if other.fingerprint == fingerprint:
                if (other.files, other.name) != (parts, name):
                    raise BadConfig(
                        f"{fingerprint} is registered as {other.name!r} with other files; an entry never changes"
                    )
                return other, False
            if other.name == name:
                raise BadConfig(f"the model {other.fingerprint} is named {name!r}; choose another name")
        for each, data in files.items():
            self.folder.write(f"{fingerprint}/{each}", data)
        self.folder.write(f"{fingerprint}/{ENTRY}", (entry.model_dump_json(indent=2) + "\n").encode())
        return entry, True

    def read(self, entry: Entry, name: str) -> bytes:
        """Return a file of an entry; raises BadWeights where it is not what was registered."""
        part = entry.files.get(name)
        if part is None:
            raise BadConfig(f"the model {entry.fingerprint} was registered without {name}")
        try:
            data = self.folder.read(f"{entry.fingerprint}/{name}")
        except NoSuchFile as error:
            raise BadWeights(f"{error.message}; the entry is damaged") from error
        if part_of(data) != part:
            raise BadWeights(
                f"{name} of {entry.fingerprint} in {self.folder.place} was changed since it was registered"
            )
        return data

    def calibration(self, fingerprint: str) -> Curve | None:
        """Return a model's curve; None where it was registered without one, or not at all.

        Raises BadConfig and BadWeights where the entry holds another one.
        """
        if not self.folder.exists(f"{fingerprint}/{ENTRY}"):
            return None
        entry = self._entry(fingerprint)
        return check_calibration(self.read(entry, CALIBRATION), fingerprint) if CALIBRATION in entry.files else None

    def fetch(self, fingerprint: str, to: Path) -> Path:
        """Return the head, or the whole network, as a file of this machine, below `to` where the registry is elsewhere.

        Raises BadWeights where it is not what was registered.
        """
        entry = self._entry(fingerprint)
        if not is_remote(self.folder.place):
            self.read(entry, entry.weights)
            return Path(self.folder.place).absolute() / fingerprint / entry.weights
        path = to / fingerprint / entry.weights
        if path.is_file() and part_of(path.read_bytes()) == entry.files[entry.weights]:
            return path
        data = self.read(entry, entry.weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several replicas of a machine may do so at once.
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_bytes(data)
        unfinished.rename(path)
        return path

    def _entry(self, fingerprint: str) -> Entry:
        try:
            entry = Entry.model_validate_json(self.folder.read(f"{fingerprint}/{ENTRY}"))
        except NoSuchFile as error:
            raise BadConfig(
                f"{self.folder.place} has no model {fingerprint}; `shoplens model register` adds one"
            ) from error
        except ValidationError as error:
            raise BadWeights(f"{fingerprint}/{ENTRY} in {self.folder.place} can't be read: {error}") from error
        if entry.fingerprint != fingerprint or entry.weights not in entry.files:
            raise BadWeights(f"{fingerprint}/{ENTRY} in {self.folder.place} is not that model's")
        return entry


def part_of(data: bytes) -> Part:
    return Part(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def check_evaluation(data: bytes, fingerprint: str) -> None:
    """Raise BadConfig unless this is what `shoplens evaluate search --json` wrote of that model."""
    try:
        models = {run["model"] for run in json.loads(data)["runs"]}
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig("the evaluation is not what `shoplens evaluate search --json` writes") from error
    if fingerprint not in models:
        raise BadConfig(f"the evaluation is of {', '.join(sorted(models))}, the model is {fingerprint}")


def check_calibration(data: bytes, fingerprint: str) -> Curve:
    """Return the curve; raises BadConfig unless this is what `shoplens evaluate search --fit` wrote of that model."""
    try:
        curve = Curve.model_validate_json(data)
    except ValidationError as error:
        raise BadConfig("the calibration is not what `shoplens evaluate search --fit` writes") from error
    if curve.model != fingerprint:
        raise BadConfig(f"the calibration is of {curve.model}, the model is {fingerprint}")
    return curve
