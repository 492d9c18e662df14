"""The rows of a manifest that could not be imported, kept with their reasons, to be looked at and tried again."""

from __future__ import annotations

import json
import time
from pathlib import Path

from serve_app.catalogue.formats import QUARANTINE_FILE
from serve_app.catalogue.report import Outcome
from serve_app.errors import BadManifest

ROWS_A_PART = 1_000
PART_EVERY_S = 10.0
"""What an import that is killed has not written yet, it finds again."""


class Quarantine:
    """Write problems to a folder of Parquet files, made by the first one; `flush` before it is left."""

    def __init__(self, folder: Path, manifest: str, base: str) -> None:
        self.folder = folder
        self._about = {"manifest": manifest, "base": base}
        self._waiting: list[Outcome] = []
        self._parts = 0
        self._written_s = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Keep a problem; it is on the disk at the latest when the next one comes after PART_EVERY_S."""
        self._waiting.append(outcome)
        if len(self._waiting) >= ROWS_A_PART or time.monotonic() - self._written_s > PART_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        import pyarrow as pa
        from pyarrow import parquet

        names = ("row", "image", "product_id", "code", "reason")
        values = {name: [getattr(each, name) for each in self._waiting] for name in names}
        columns = [json.dumps(dict(each.columns), ensure_ascii=False) for each in self._waiting]
        if not self._parts:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / QUARANTINE_FILE).write_text(json.dumps(self._about), encoding="utf-8")
        path = self.folder / f"part-{self._parts:05}.parquet"
        # Read by others while it is written: it is there whole, or not at all.
        unfinished = path.with_suffix(".unfinished")
        parquet.write_table(pa.table({**values, "columns": columns}), unfinished)
        unfinished.rename(path)
        self._waiting.clear()
        self._parts += 1
        self._written_s = time.monotonic()


def base(folder: Path) -> str:
    """Return what the images of a quarantine's rows are relative to; raises BadManifest."""
    try:
        about = json.loads((folder / QUARANTINE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadManifest(f"{folder} is no quarantine: {error}") from error
    return str(about["base"])
