"""The rates that the operator loaded, in a file of the data directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from serve_app.errors import BadConfig, BadInput
from serve_app.rate_formats import MAX_BYTES, parse_rates, plain_csv
from serve_app.rates import NO_RATES, Rates
from serve_app.watched_file import WatchedFile


def read_rates(path: Path) -> Rates:
    """Return the rates of a file, none where it is not there; raises BadConfig where it can't be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return NO_RATES
    except OSError as error:
        raise BadConfig(f"the rates in {path} can't be read: {error}") from error
    try:
        return NO_RATES.updated(parse_rates(content))
    except BadInput as error:
        raise BadConfig(f"the rates in {path} can't be used: {error.message}") from error


def read_given(path: Path) -> Rates:
    """Return the rates of a file that someone wants to load; raises BadInput where there are none to be had."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"{path} holds more than {MAX_BYTES >> 20} MiB, which no file of rates does")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}") from error
    return NO_RATES.updated(parse_rates(content))


def write_rates(path: Path, rates: Rates) -> None:
    """Put rates in place of those of a file, at once for all that read it; raises BadConfig."""
    text = plain_csv(rates.by_currency.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(prefix=".rates-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(fresh).chmod(0o644)
            Path(fresh).replace(path)
        except OSError:
            Path(fresh).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadConfig(f"the rates can't be written to {path}: {error}") from error


def watch_rates(path: Path) -> WatchedFile[Rates]:
    """Return the rates of a file at each time; no rates until they can be read."""
    return WatchedFile(path, read_rates, "rates", otherwise=NO_RATES)
