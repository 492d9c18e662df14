"""Imports that ran with this data directory, and what each left out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.catalogue import quarantine
from serve_app.catalogue.reading import place_of, scheme_of
from serve_app.catalogue.report import Summary
from serve_app.errors import BadManifest, StageUnavailable, UnknownImage

FOLDER = Path("imports")
"""Where the data directory holds what became of each import."""
SUMMARY = "summary.json"
QUARANTINE = "quarantine"
MOST_IMPORTS = 20
MOST_LEFT_OUT = 60
_NAME = re.compile(r"\d{8}T\d{6}Z")
COUNTS = ("rows", "embedded", "updated", "unchanged", "stale", "duplicates")


@dataclass(frozen=True, slots=True)
class PastImport:
    """Say what became of an import; `problems` counts what it left out, by code."""

    name: str
    manifest: str
    at: str
    seconds: float
    counts: Mapping[str, int]
    problems: Mapping[str, int]
    removed: int = 0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Hold a row that was left out, and why."""

    row: int
    image: str
    product_id: str
    code: str
    reason: str


def write(folder: Path, manifest: str, at: str, summary: Summary, removed: int) -> None:
    """Keep what an import's folder is to say of it."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "manifest": manifest,
        "at": at,
        "seconds": round(summary.seconds, 1),
        "counts": {name: getattr(summary, name) for name in COUNTS},
        "problems": dict(summary.problems),
        "removed": removed,
    }
    (folder / SUMMARY).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


class PastImports:
    """Read the folders of imports; what is asked for is a name that was listed, never a path."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def imports(self) -> list[PastImport]:
        """Return the newest imports; one that is under way is not among them."""
        names = sorted((path.parent.name for path in self._folder.glob(f"*/{SUMMARY}")), reverse=True)
        return [self._read(name) for name in names[:MOST_IMPORTS] if _NAME.fullmatch(name)]

    def left_out(self, name: str) -> list[LeftOut]:
        """Return the first rows that an import left out; raises StageUnavailable where nothing here can read them."""
        folder = self._quarantine(name)
        if not folder.is_dir():
            return []
        try:
            from pyarrow import dataset
        except ImportError as error:
            raise StageUnavailable("a quarantine is read by pyarrow; install shoplens[import]") from error
        parts = sorted(map(str, folder.glob("part-*.parquet")))
        columns = ["row", "image", "product_id", "code", "reason"]
        rows: list[dict[str, Any]] = dataset.dataset(parts).head(MOST_LEFT_OUT, columns=columns).to_pylist()
        return [LeftOut(**row) for row in rows]

    def file(self, name: str, row: int) -> str:
        """Return the path of a row's image; raises UnknownImage where it is no file of this machine."""
        found = next((each for each in self.left_out(name) if each.row == row), None)
        place = "" if found is None or not found.image else place_of(found.image, self._base(name))
        if not place or scheme_of(place):
            raise UnknownImage("there is no picture of this row here")
        return place

    def _base(self, name: str) -> str:
        try:
            return quarantine.base(self._quarantine(name))
        except BadManifest as error:
            raise UnknownImage("this import says of no folder where its images are") from error

    def _quarantine(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UnknownImage("there is no import of this name")
        return self._folder / name / QUARANTINE

    def _read(self, name: str) -> PastImport:
        values = json.loads((self._folder / name / SUMMARY).read_text(encoding="utf-8"))
        return PastImport(name, **values)
