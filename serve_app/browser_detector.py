"""What browsers find objects with before the service answers: a folder of files, read."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve_app.config import Config
from serve_app.weights.chosen import detector_sha256

log = logging.getLogger(__name__)

RUNTIME = "ort.wasm.bundle.min.mjs"
WASM = "ort-wasm-simd-threaded.wasm"
MODEL = "yolo26n.onnx"
DESCRIPTION = "yolo26n.onnx.json"
MEDIA_TYPES = {
    RUNTIME: "text/javascript",
    WASM: "application/wasm",
    MODEL: "application/octet-stream",
    DESCRIPTION: "application/json",
}
"""The files, as `shoplens weights browser` makes them, and what each is served as."""
PACKED = ".gz"
"""Ends the name of a file that lies compressed beside another: nobody compresses 24 MB for each shopper."""
WAY_ON = "run `shoplens weights browser` again"


@dataclass(frozen=True, slots=True)
class BrowserDetector:
    """Say where the files lie, and what a page has to know; `version` changes with any of them."""

    folder: Path
    version: str
    min_confidence: float
    most: int
    """Objects of a photo."""


def read_browser_detector(config: Config) -> BrowserDetector | None:
    """Return what lies in the folder of the settings; None where it is not there, or finds others than the service."""
    folder = config.browser_detector_folder
    if not folder.is_dir():
        return None
    try:
        told = json.loads((folder / DESCRIPTION).read_bytes())
        version = _digest(folder)
    except (OSError, ValueError) as error:
        log.warning("the page's own detector can't be read", extra={"cause": str(error), "way_on": WAY_ON})
        return None
    reason = _differs(told, detector_sha256(config), config.detector.side_px)
    if reason:
        log.warning("the page's own detector is another one", extra={"cause": reason, "way_on": WAY_ON})
        return None
    return BrowserDetector(folder, version, config.detector.min_confidence, config.limits.max_objects)


def pack(folder: Path) -> None:
    """Put a compressed file beside each; raises OSError."""
    for name in MEDIA_TYPES:
        with (folder / name).open("rb") as whole, gzip.open(folder / f"{name}{PACKED}", "wb") as packed:
            shutil.copyfileobj(whole, packed)


def _differs(told: object, sha256: str, side_px: int) -> str:
    """Return in what a description is not of the service's own detector, '' where it is."""
    if not isinstance(told, Mapping) or told.get("detector_sha256") != sha256:
        return "it was made of other weights"
    shape = [1, 3, side_px, side_px]
    given = told.get("input", {}).get("shape")
    return "" if given == shape else f"it takes {given}, and detector.side_px makes {shape}"


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for name in MEDIA_TYPES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]
