"""Files in a folder of this machine, or below a prefix of an object store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.errors import BadConfig, ShoplensError, Unavailable

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STORES = ("s3", "gs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_UNFINISHED = ".unfinished"


class NoSuchFile(ShoplensError):
    """The folder has no file of that name."""


@dataclass(frozen=True, slots=True)
class File:
    """Name a file relative to its folder."""

    name: str
    size_bytes: int


def is_remote(place: str) -> bool:
    """Tell a prefix of an object store from a path."""
    return _SCHEME.match(place) is not None


class Folder:
    """Read and write whole files, a few at a time; names are relative and use `/`.

    Credentials of an object store are those of the environment (AWS_…, GOOGLE_…). All calls raise Unavailable where
    the folder can't be had.
    """

    def __init__(self, place: str) -> None:
        """Take a path, or a URL as s3://BUCKET/PREFIX; raises BadConfig, also where pyarrow is not installed."""
        self.place = place
        self._system, self._root = _system(place)
        self._is_local = not is_remote(place)

    def write(self, name: str, data: bytes) -> None:
        """Store a file, whole or not at all, in place of one of that name."""
        path = self._path(name)
        with self._errors(name):
            if not self._is_local:
                with self._system.open_output_stream(path) as file:
                    file.write(data)
                return
            self._system.create_dir(path.rpartition("/")[0], recursive=True)
            # Another process may read it meanwhile: a file appears once all of it is there.
            with self._system.open_output_stream(path + _UNFINISHED) as file:
                file.write(data)
            self._system.move(path + _UNFINISHED, path)

    def read(self, name: str) -> bytes:
        """Return a file; raises NoSuchFile."""
        with self._errors(name), self._system.open_input_stream(self._path(name), compression=None) as file:
            data: bytes = file.read()
            return data

    def exists(self, name: str) -> bool:
        from pyarrow.fs import FileType

        with self._errors(name):
            return bool(self._system.get_file_info(self._path(name)).type == FileType.File)

    def files(self, below: str = "") -> list[File]:
        """Return all files of a folder, or of one in it, and of the folders in that, by name."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(below), allow_not_found=True, recursive=True)
        with self._errors(below):
            found = self._system.get_file_info(selector)
        start = len(self._root) + 1
        return sorted(
            (
                File(info.path[start:], info.size)
                for info in found
                if info.type == FileType.File and not info.path.endswith(_UNFINISHED)
            ),
            key=lambda file: file.name,
        )

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone already is no error, as several processes may tidy one folder."""
        try:
            with self._errors(name):
                self._system.delete_file(self._path(name))
        except NoSuchFile:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NoSuchFile(f"there is no {name or 'such folder'} in {self.place}") from error
        except OSError as error:
            raise Unavailable(f"{name or 'the folder'} in {self.place} can't be used: {error}") from error


def need_pyarrow(place: str) -> None:
    """Raise BadConfig where what opens folders is not installed; costs no import."""
    if find_spec("pyarrow") is None:
        raise BadConfig(f"{place} needs pyarrow; install shoplens[import]")


def _system(place: str) -> tuple[FileSystem, str]:
    need_pyarrow(place)
    from pyarrow import fs

    if not is_remote(place):
        return fs.LocalFileSystem(), Path(place).absolute().as_posix().rstrip("/")
    if place.partition("://")[0].lower() not in STORES:
        raise BadConfig(f"{place} is neither a path nor an address like s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(place)
    except (OSError, ValueError) as error:
        raise BadConfig(f"{place} can't be used: {error}") from error
    return found[0], found[1].rstrip("/")
