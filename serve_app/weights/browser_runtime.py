"""ONNX Runtime as browsers run it, fetched from npm by name, version and hash."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from serve_app.errors import BadWeights
from serve_app.weights.fetching import npm_pack, reason
from serve_app.weights.loader import verify

PACKAGE = "onnxruntime-web@1.30.0"
ARCHIVE_MB = 33
SHA256 = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files of the package that a browser needs where it runs on one thread, without a GPU."""


def fetch_browser_runtime(folder: Path, tell: Callable[[str], None]) -> bool:
    """Put the runtime's files into a folder; returns whether they had to be fetched. Raises BadWeights."""
    if all(_is_whole(folder / name, sha256) for name, sha256 in SHA256.items()):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        tell(f"fetching ONNX Runtime for browsers ({ARCHIVE_MB} MB) from npm package {PACKAGE}")
        try:
            archive = npm_pack(PACKAGE, Path(scratch))
            fresh = [_taken(archive, name, Path(scratch)) for name in SHA256]
            for path in fresh:
                verify(path, SHA256[path.name])
        except (OSError, KeyError, subprocess.SubprocessError, tarfile.TarError, BadWeights) as error:
            said = f"ONNX Runtime for browsers can't be fetched (npm package {PACKAGE}: {reason(error)})"
            raise BadWeights(said) from error
        for path in fresh:
            path.replace(folder / path.name)
    return True


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        verify(path, sha256)
    except BadWeights:
        return False
    return True


def _taken(archive: Path, name: str, folder: Path) -> Path:
    target = folder / name
    with tarfile.open(archive) as package:
        content = package.extractfile(f"package/dist/{name}")
        assert content is not None
        with content, target.open("wb") as file:
            shutil.copyfileobj(content, file)
    return target
