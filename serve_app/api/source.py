"""The source of the running version, for whoever uses it over a network: AGPL-3.0, section 13."""

from __future__ import annotations

import gzip
import io
import tarfile
from functools import lru_cache
from importlib import metadata
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from serve_app import __version__
from serve_app.config import PageConfig

ARCHIVE = "page/source.tar.gz"
"""Where the service hands out its own source, relative to the page."""
LEFT_OUT = ("__pycache__", ".pyc", ".safetensors")
"""Ends of names of what is no source: what Python makes of it, and weights, whose sources MODEL_CARD.md names."""


def source_address(settings: PageConfig) -> str:
    """Return where readers of the page get the source."""
    return settings.source_url or ARCHIVE


@lru_cache(maxsize=1)
def source_archive() -> bytes:
    """Return the package as it is installed, with changes that were made to it, and its licences, as tar.gz."""
    folder = f"shoplens-{__version__}"
    buffer = io.BytesIO()
    # Without a time, so that the same source is the same bytes on every replica.
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, entry in sorted({**_files(files("serve_app"), "serve_app"), **_licences()}.items()):
            data = entry if isinstance(entry, bytes) else entry.read_bytes()
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _files(folder: Traversable, path: str) -> dict[str, Traversable | bytes]:
    found: dict[str, Traversable | bytes] = {}
    for entry in folder.iterdir():
        if entry.name.endswith(LEFT_OUT):
            continue
        if entry.is_dir():
            found |= _files(entry, f"{path}/{entry.name}")
        else:
            found[f"{path}/{entry.name}"] = entry
    return found


def _licences() -> dict[str, Traversable | bytes]:
    """Return what the installer keeps beside the package: licences, and the names of what it needs."""
    try:
        installed = metadata.distribution("shoplens")
    except metadata.PackageNotFoundError:
        return {}
    kept = [path for path in installed.files or () if "licenses" in path.parts or path.name == "METADATA"]
    return {path.name: path.read_binary() for path in kept if Path(path.locate()).is_file()}
