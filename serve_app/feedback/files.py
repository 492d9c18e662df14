"""The log's files: Parquet and crops, named by their time, and gone after it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from serve_app.errors import BadConfig
from serve_app.feedback.records import Act, Done, Shown
from serve_app.folders import File, Folder, NoSuchFile

LOG, CROPS = "log", "crops"
"""Folders of the two kinds of files."""
STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?:log|crops)/(\d{8}T\d{6}Z)-[0-9a-z-]+\.(?:parquet|jpg)")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say how long files of one kind are kept, and how many of them."""

    days: float
    max_bytes: int
    max_files: int


def log_name(now: datetime, writer: str, number: int) -> str:
    return f"{LOG}/{now.strftime(STAMP)}-{writer}-{number}.parquet"


def crop_name(now: datetime, asked: str, object_id: str) -> str:
    """Name the crop of a list: sent again on the same day, it takes the place of the first."""
    own = re.sub(r"[^0-9a-z]", "", object_id.lower())[:8]
    return f"{CROPS}/{now.strftime('%Y%m%dT000000Z')}-{asked}-{own}.jpg"


def outdated(files: Iterable[File], now: datetime, bounds: Bounds) -> list[str]:
    """Return which files have to go: those that are too old, then the oldest of too many or too large ones.

    What is not named as the log names its files is nobody's to delete.
    """
    gone: list[str] = []
    kept: list[File] = []
    oldest = now - timedelta(days=bounds.days)
    for file in sorted(files, key=lambda each: each.name):
        match = _NAME.fullmatch(file.name)
        if match is None:
            continue
        at = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)
        (gone.append(file.name) if at < oldest else kept.append(file))
    size_bytes = sum(file.size_bytes for file in kept)
    for place, file in enumerate(kept):
        if size_bytes <= bounds.max_bytes and len(kept) - place <= bounds.max_files:
            break
        gone.append(file.name)
        size_bytes -= file.size_bytes
    return gone


def sweep(folder: Folder, now: datetime, log: Bounds, crops: Bounds) -> int:
    """Delete what is outdated; return how many files that were."""
    gone = outdated(folder.files(LOG), now, log) + outdated(folder.files(CROPS), now, crops)
    for name in gone:
        folder.delete(name)
    return len(gone)


def to_parquet(shown: Sequence[Shown], done: Sequence[Done]) -> bytes:
    """Return one Parquet file; `kind` tells what was shown from what was done."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [_row("shown", each) for each in shown] + [_row("done", each) for each in done]
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=_schema()), buffer, compression="zstd")
    return buffer.getvalue()


def read_parquet(data: bytes) -> tuple[list[Shown], list[Done]]:
    """Return what a file holds; raises BadConfig for one that is none of the log's."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_table(io.BytesIO(data)).to_pylist()
        return (
            [_shown(row) for row in rows if row["kind"] == "shown"],
            [_done(row) for row in rows if row["kind"] == "done"],
        )
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise BadConfig(f"a file of the feedback log can't be read: {error}") from error


def read_log(folder: Folder) -> Iterator[tuple[list[Shown], list[Done]]]:
    """Yield what the files hold, the oldest first; what is swept meanwhile is left out."""
    for file in folder.files(LOG):
        try:
            yield read_parquet(folder.read(file.name))
        except NoSuchFile:
            continue


_SHOWN = ("at_ms", "asked", "object_id", "source", "main", "further", "like", "model", "collection")
_DONE = ("at_ms", "asked", "object_id", "product_id", "position", "role", "crop")


def _row(kind: str, each: Shown | Done) -> dict[str, Any]:
    if isinstance(each, Shown):
        lists = {"products": list(each.products), "images": list(each.images)}
        return {"kind": kind, **{name: getattr(each, name) for name in _SHOWN}, **lists}
    return {"kind": kind, "act": each.act.value, **{name: getattr(each, name) for name in _DONE}}


def _shown(row: dict[str, Any]) -> Shown:
    return Shown(**{name: row[name] for name in _SHOWN}, products=tuple(row["products"]), images=tuple(row["images"]))


def _done(row: dict[str, Any]) -> Done:
    return Done(act=Act(row["act"]), **{name: row[name] for name in _DONE})


def _schema() -> Any:
    import pyarrow as pa

    text, flag, texts = pa.string(), pa.bool_(), pa.list_(pa.string())
    return pa.schema(
        [
            ("kind", text), ("at_ms", pa.int64()), ("asked", text), ("object_id", text), ("source", text),
            ("main", flag), ("further", flag), ("like", text), ("model", text), ("collection", text),
            ("products", texts), ("images", texts), ("act", text), ("product_id", text),
            ("position", pa.int32()), ("role", text), ("crop", text),
        ],
        metadata={"shoplens": json.dumps({"feedback": 1})},
    )  # fmt: skip
