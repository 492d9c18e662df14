"""The bytes of a catalogue's images and manifests: from files, web servers and object stores."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from serve_app.config import Config
from serve_app.errors import BadManifest, EmptyBody, PhotoTooLarge, ShoplensError
from serve_app.fetching import Fetcher, Validators

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

MISSING_FILE = "missing_file"
UNREADABLE_FILE = "unreadable_file"

WEB = ("http", "https")
STORES = ("s3", "gs")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
MANIFEST_BYTES = 2 * 2**30
"""A manifest of a web server is held in memory once; a larger one comes from an object store."""
MANIFEST_TIMEOUT_S = 600.0
CHUNK_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Origin:
    """Say where an image's bytes were read from, and what asks its server whether they are still the same."""

    url: str
    validators: Validators


@dataclass(frozen=True, slots=True)
class Bytes:
    """Hold an image's file as it is now."""

    data: bytes
    origin: Origin | None
    """None for a file of this machine."""
    file: str = ""
    """The absolute path of such a file; '' for what was read from elsewhere."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class NotModified:
    """Say that an image's server has what it had."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Say why an image can't be read, with the code of the problem that it is."""

    code: str
    reason: str


Found = Bytes | NotModified | Unreadable


class ImageReader:
    """Read images whose places are relative to `base`, a folder of this machine or a URL; close it when done.

    `share` is this process's part of what an import may ask of one web server, where several processes read for it.
    """

    def __init__(self, config: Config, base: str, *, share: float = 1.0) -> None:
        self._base = base
        self._most_bytes = config.limits.max_body_bytes
        self._threads = ThreadPoolExecutor(config.importing.threads, thread_name_prefix="read")
        self._web = _Web(config, share)

    def close(self) -> None:
        self._threads.shutdown()
        self._web.close()

    def is_web(self, image: str) -> bool:
        """Tell whether an image is read from a web server, which can be asked whether it changed."""
        return scheme_of(place_of(image, self._base)) in WEB

    def read(self, images: Sequence[str], known: Mapping[str, Origin]) -> list[Found]:
        """Return what became of each image, in their order; `known` are the origins of what the index holds."""
        places = [place_of(image, self._base) for image in images]
        asked = {
            i: self._web.start(self._from_web(place, known.get(image)))
            for i, (image, place) in enumerate(zip(images, places, strict=True))
            if scheme_of(place) in WEB
        }
        local = iter(list(self._threads.map(self._from_disk, [p for i, p in enumerate(places) if i not in asked])))
        return [asked[i].result() if i in asked else next(local) for i in range(len(places))]

    async def _from_web(self, url: str, known: Origin | None) -> Found:
        validators = known.validators if known is not None and known.url == url else None
        try:
            fetched = await self._web.fetcher.fetch(url, max_bytes=self._most_bytes, known=validators)
        except ShoplensError as error:
            return Unreadable(error.code, error.message)
        if fetched is None:
            return NotModified()
        return self._whole(fetched.data, Origin(url, fetched.validators))

    def _from_disk(self, place: str) -> Found:
        try:
            if scheme_of(place) in STORES:
                return self._whole(_from_store(place, self._most_bytes + 1), Origin(place, Validators()))
            with Path(place).open("rb") as file:
                return self._whole(file.read(self._most_bytes + 1), None, _named(place))
        except FileNotFoundError:
            return Unreadable(MISSING_FILE, f"there is no file {place}")
        except (OSError, ValueError) as error:
            return Unreadable(UNREADABLE_FILE, f"{place} can't be read: {error}")

    def _whole(self, data: bytes, origin: Origin | None, file: str = "") -> Found:
        if not data:
            return Unreadable(EmptyBody.code, "the file is empty")
        if len(data) > self._most_bytes:
            reason = f"the file has more than {self._most_bytes:,} bytes, limits.max_body_bytes; make it smaller"
            return Unreadable(PhotoTooLarge.code, reason)
        return Bytes(data, origin, file)


class _Web:
    """Fetch on an event loop in a thread of its own, which starts with the first call."""

    def __init__(self, config: Config, share: float) -> None:
        self._config = config
        self._share = share
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fetcher: Fetcher | None = None

    @property
    def fetcher(self) -> Fetcher:
        """Return the fetcher; on the loop's thread only."""
        self._fetcher = self._fetcher or Fetcher(self._config.fetch, share=self._share)
        return self._fetcher

    def start(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def close(self) -> None:
        if self._loop is None:
            return
        if self._fetcher is not None:
            asyncio.run_coroutine_threadsafe(self._fetcher.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None


def _named(path: str) -> str:
    """Return the absolute path of a file; '' where the index can't hold it, which is kept in UTF-8."""
    # Links are left as they are: one may lead to another version of the catalogue tomorrow.
    whole = str(Path(path).absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        return ""
    return whole


def scheme_of(place: str) -> str:
    """Return the scheme of a URL in small letters, '' for a path."""
    match = _SCHEME.match(place)
    return match[1].lower() if match else ""


def place_of(image: str, base: str) -> str:
    """Return the path or URL of an image that a manifest names relative to `base`, or by a URL of its own."""
    if scheme_of(image):
        return image
    if not scheme_of(base):
        return str(Path(base) / image)
    name = quote(image) if scheme_of(base) in WEB else image
    folder, mark, options = base.partition("?")
    return f"{folder.rstrip('/')}/{name.lstrip('/')}{mark}{options}"


def base_of(manifest: str) -> str:
    """Return the folder, or the URL of the folder, that the images of a manifest are relative to."""
    if not scheme_of(manifest):
        path = Path(manifest).resolve()
        return str(path if path.is_dir() and not (path / "_delta_log").is_dir() else path.parent)
    parts = urlsplit(manifest)
    # A store's options, such as its endpoint, hold for its images too.
    query = parts.query if parts.scheme.lower() in STORES else ""
    return parts._replace(path=str(PurePosixPath(parts.path).parent), query=query, fragment="").geturl()


def local_copy(manifest: str, folder: Path, config: Config) -> Path:
    """Return a manifest as a file of this machine, copied into `folder` where it lies elsewhere.

    Raises BadManifest where it can't be had.
    """
    if not scheme_of(manifest):
        return Path(manifest)
    copy = folder / PurePosixPath(urlsplit(manifest).path).name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if scheme_of(manifest) in WEB:
            copy.write_bytes(asyncio.run(_download(manifest, config)))
        else:
            _copy_from_store(manifest, copy)
    except (ShoplensError, OSError, ValueError) as error:
        raise BadManifest(f"{manifest} can't be read: {error}") from error
    return copy


async def _download(url: str, config: Config) -> bytes:
    settings = config.fetch.model_copy(update={"timeout_s": MANIFEST_TIMEOUT_S})
    async with Fetcher(settings) as fetcher:
        fetched = await fetcher.fetch(url, max_bytes=MANIFEST_BYTES)
    assert fetched is not None  # nothing was known of it
    return fetched.data


def _from_store(url: str, most_bytes: int) -> bytes:
    system, path = _store(url)
    with system.open_input_stream(path, compression=None) as file:
        data: bytes = file.read(most_bytes)
    return data


def _copy_from_store(url: str, copy: Path) -> None:
    system, path = _store(url)
    with system.open_input_stream(path, compression=None) as file, copy.open("wb") as local:
        while chunk := file.read(CHUNK_BYTES):
            local.write(chunk)


def _store(url: str) -> tuple[FileSystem, str]:
    """Return an object store and the path in it; credentials are those of the environment (AWS_…, GOOGLE_…)."""
    parts = urlsplit(url)
    system, bucket = _bucket(f"{parts.scheme.lower()}://{parts.netloc}", parts.query)
    return system, f"{bucket}{parts.path}"


@lru_cache(maxsize=16)
def _bucket(url: str, options: str) -> tuple[FileSystem, str]:
    try:
        from pyarrow import fs
    except ImportError as error:
        raise BadManifest("object stores need pyarrow; install shoplens[import]") from error
    system, path = fs.FileSystem.from_uri(f"{url}?{options}" if options else url)
    return system, path.strip("/")
