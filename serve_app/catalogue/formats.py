"""The rows of a manifest file, as its format gives them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from serve_app.errors import BadManifest

Raw = tuple[int, Mapping[str, Any] | str]
"""Number of a row and its values by column, or the reason why it can't be read."""

REQUIRED = ("image", "product_id")
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")
)
"""What counts as an image in a folder; those that can't be decoded are listed with their reason."""

PARQUET_ROWS = 256
"""Rows of a table that are held as Python values at once."""
QUARANTINE_FILE = "quarantine.json"
"""What tells a quarantine from other folders."""
DUPLICATE_IMAGE_ID = "duplicate_image_id"
ICEBERG_SUFFIX = ".metadata.json"
EXAMPLE = "the first line of a CSV is like `image,product_id,title,price,currency`"


def raw_rows(path: Path) -> Iterator[Raw]:
    """Yield the rows of a manifest in order, without holding it in memory.

    CSV and JSON lines are numbered by line, Parquet rows and images of a folder from 1. Raises BadManifest
    where the path is no manifest.
    """
    if path.is_dir():
        kinds = {QUARANTINE_FILE: _quarantine, "_delta_log": _delta}
        return next((read for name, read in kinds.items() if (path / name).exists()), _folder)(path)
    if path.name.endswith(ICEBERG_SUFFIX):
        return _iceberg(path)
    if not path.exists():
        raise BadManifest(f"{path} doesn't exist; give a CSV, JSON lines or Parquet file, or a folder of images")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join((*_READERS, ICEBERG_SUFFIX))
        raise BadManifest(
            f"{path} has a suffix that tells no format; it may be one of {known}, a Delta table, or a folder of images"
        )
    return reader(path)


def _csv(path: Path) -> Iterator[Raw]:
    with _text(path) as lines:
        reader = csv.reader(lines)
        header = [name.strip() for name in next(reader, [])]
        _need_columns(path, header, hint=EXAMPLE)
        while True:
            row = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield row, f"the line is no CSV: {error}"
                continue
            if not cells:
                continue
            if len(cells) > len(header):
                yield row, f"the line has {len(cells)} cells, but the header has {len(header)} columns"
                continue
            yield row, dict(zip(header, cells, strict=False))


def _json_lines(path: Path) -> Iterator[Raw]:
    first = True
    with _text(path) as lines:
        for row, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line, parse_float=Decimal, parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                yield row, f"the line is no JSON: {error}"
                continue
            if not isinstance(values, dict):
                yield row, "the line is no JSON object"
                continue
            if first:
                _need_columns(path, values, hint='a line is like {"image": "1.jpg", "product_id": "1"}')
                first = False
            yield row, values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")


def _parquet(path: Path) -> Iterator[Raw]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadManifest("Parquet needs pyarrow; install shoplens[import]") from error
    with _read_errors(path, "Parquet", OSError, pyarrow.ArrowException), parquet.ParquetFile(path) as file:
        _need_columns(path, file.schema_arrow.names, hint="")
        yield from _numbered(file.iter_batches(PARQUET_ROWS))


def _delta(path: Path) -> Iterator[Raw]:
    """Read the newest version of a Delta table."""
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as error:
        raise BadManifest("a Delta table needs deltalake; install shoplens[import,tables]") from error
    with _read_errors(path, "a Delta table", OSError, DeltaError):
        data = DeltaTable(path).to_pyarrow_dataset()
        _need_columns(path, data.schema.names, hint="")
        yield from _numbered(data.to_batches(batch_size=PARQUET_ROWS))


def _iceberg(path: Path) -> Iterator[Raw]:
    """Read the current snapshot of the Iceberg table that a metadata file describes."""
    try:
        from pyiceberg.exceptions import ValidationError
        from pyiceberg.table import StaticTable
    except ImportError as error:
        raise BadManifest("an Iceberg table needs pyiceberg; install shoplens[import,tables]") from error
    with _read_errors(path, "an Iceberg table", OSError, ValueError, LookupError, ValidationError):
        scan = StaticTable.from_metadata(str(path)).scan()
        _need_columns(path, scan.projection().column_names, hint="")
        yield from _numbered(scan.to_arrow_batch_reader())


def _quarantine(path: Path) -> Iterator[Raw]:
    """Read the rows of a quarantine that may be tried again: not those that can't be read, or that came twice."""
    from pyarrow import dataset

    parts = sorted(map(str, path.glob("part-*.parquet")))
    with _read_errors(path, "a quarantine", OSError, ValueError):
        for batch in dataset.dataset(parts).to_batches(batch_size=PARQUET_ROWS):
            for values in batch.to_pylist():
                columns = json.loads(values["columns"])
                if columns and values["code"] != DUPLICATE_IMAGE_ID:
                    yield values["row"], columns


def _numbered(batches: Iterable[Any]) -> Iterator[Raw]:
    """Yield the rows of Arrow batches, numbered from 1, and few of them as Python values at a time."""
    row = 0
    for batch in batches:
        for start in range(0, batch.num_rows, PARQUET_ROWS):
            for values in batch.slice(start, PARQUET_ROWS).to_pylist():
                row += 1
                yield row, values


@contextmanager
def _read_errors(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise BadManifest(f"{path} can't be read as {what}: {error}") from error


def _folder(path: Path) -> Iterator[Raw]:
    row = 0
    for entry in _visible(path):
        for image in _visible(entry) if entry.is_dir() else [entry]:
            if image.is_dir():
                row += 1
                yield row, f"{image.relative_to(path)} is a folder inside a product's folder; move its images up"
            elif image.suffix.lower() in IMAGE_SUFFIXES:
                row += 1
                product_id = entry.name if entry.is_dir() else entry.stem
                yield row, {"image": image.relative_to(path).as_posix(), "product_id": product_id}


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise BadManifest(f"{folder} can't be read: {error.strerror}") from error


_READERS: Mapping[str, Callable[[Path], Iterator[Raw]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}


@contextmanager
def _text(path: Path) -> Iterator[Iterable[str]]:
    """Open a UTF-8 file, with or without a byte order mark; what can't be read is raised as BadManifest."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise BadManifest(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadManifest(f"{path} isn't written in UTF-8; save it as UTF-8") from error


def _need_columns(path: Path, columns: Iterable[str], *, hint: str) -> None:
    found = list(columns)
    missing = [name for name in REQUIRED if name not in found]
    if missing and not found:
        raise BadManifest(f"{path} is empty; {hint}")
    if missing:
        text = f"{path} lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
        raise BadManifest(f"{text}; it has {', '.join(found)}" + (f"; {hint}" if hint else ""))
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise BadManifest(f"{path} has the column {', '.join(twice)} twice; name each column once")
