"""The detector's weights, fetched where the machine can reach them.

They are not in the package: Ultralytics publishes them. Whatever the source, nothing is kept, and nothing
unpickled, before its sha256 is that of the release.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx

from serve_app.errors import BadWeights
from serve_app.weights.loader import DETECTOR_SHA256, DETECTOR_SIZE_BYTES, verify

RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0/yolo26n.pt"
PACKAGE = "yolo26-1@1.0.0"
"""An npm package that holds the same bytes, for machines that reach a package registry and nothing else."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
NPM_TIMEOUT_S = 120.0


def fetch_detector(path: Path, tell: Callable[[str], None]) -> bool:
    """Put the detector's weights at `path`; returns whether they had to be fetched.

    `tell` is told of each attempt. Raises BadWeights, with a way on, where no source has them.
    """
    if path.is_file():
        try:
            verify(path, DETECTOR_SHA256)
            return False
        except BadWeights:
            tell(f"{path} is damaged or of another release; fetching it again")
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        for name, source in (("Ultralytics' release", _from_release), (f"npm package {PACKAGE}", _from_npm)):
            tell(f"fetching the detector's weights ({DETECTOR_SIZE_BYTES / 1e6:.1f} MB) from {name}")
            try:
                fetched = source(Path(folder))
                verify(fetched, DETECTOR_SHA256)
            except (OSError, httpx.HTTPError, subprocess.SubprocessError, tarfile.TarError, BadWeights) as error:
                failures.append(f"{name}: {reason(error)}")
                continue
            fetched.replace(path)
            return True
    raise BadWeights(
        f"the detector's weights can't be fetched ({'; '.join(failures)}); "
        f"copy yolo26n.pt of Ultralytics' release v8.4.0 to {path}"
    )


def _from_release(folder: Path) -> Path:
    target = folder / "release.pt"
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    with httpx.stream("GET", RELEASE, follow_redirects=True, timeout=timeout) as answer, target.open("wb") as file:
        answer.raise_for_status()
        received = 0
        for chunk in answer.iter_bytes():
            received += len(chunk)
            if received > DETECTOR_SIZE_BYTES:
                raise BadWeights("the file is larger than the weights are")
            file.write(chunk)
    return target


def _from_npm(folder: Path) -> Path:
    archive = npm_pack(PACKAGE, folder)
    target = folder / "package.pt"
    with tarfile.open(archive) as package:
        for member in package:
            if member.isfile() and member.name.endswith(".pt") and member.size == DETECTOR_SIZE_BYTES:
                content = package.extractfile(member)
                assert content is not None
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                return target
    raise BadWeights("the package does not hold the weights")


def npm_pack(package: str, folder: Path) -> Path:
    """Put the archive of an npm package, NAME@VERSION, into an empty folder, and return it; runs nothing of it.

    Raises BadWeights where there is no npm, SubprocessError.
    """
    command = [_npm(), "pack", package, "--ignore-scripts", "--pack-destination", str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=NPM_TIMEOUT_S)  # noqa: S603
    (archive,) = folder.glob("*.tgz")
    return archive


def _npm() -> str:
    # The `weights` extra puts one beside this interpreter.
    own = Path(sys.executable).parent / "npm"
    found = str(own) if own.exists() else shutil.which("npm")
    if found is None:
        raise BadWeights("there is no npm; `pip install 'shoplens[weights]'` brings one")
    return found


def reason(error: Exception) -> str:
    """Return why something could not be fetched, in a line."""
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in str(error.stderr).splitlines() if line.strip()]
        return lines[-1] if lines else f"npm ended with {error.returncode}"
    return str(error) or type(error).__name__
