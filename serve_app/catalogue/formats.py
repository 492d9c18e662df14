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
"""Rows of Parquet that are held in memory at once."""
EXAMPLE = "the first line of a CSV is like `image,product_id,title,price,currency`"


def raw_rows(path: Path) -> Iterator[Raw]:
    """Yield the rows of a manifest in order, without holding it in memory.

    CSV and JSON lines are numbered by line, Parquet rows and images of a folder from 1. Raises BadManifest
    where the path is no manifest.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise BadManifest(f"{path} doesn't exist; give a CSV, JSON lines or Parquet file, or a folder of images")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise BadManifest(f"{path} has a suffix that tells no format; it may be one of {known}, or a folder of images")
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
    try:
        with parquet.ParquetFile(path) as file:
            _need_columns(path, file.schema_arrow.names, hint="")
            row = 0
            for batch in file.iter_batches(PARQUET_ROWS):
                for values in batch.to_pylist():
                    row += 1
                    yield row, values
    except (OSError, pyarrow.ArrowException) as error:
        raise BadManifest(f"{path} can't be read as Parquet: {error}") from error


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
