"""Environments of their own for peers that come from the package index.

Each holds a peer and what it depends on. All else is looked up in the environment of Shoplens after it, by a `.pth`
file, so that torch, numpy, OpenCV and pymilvus are the same builds for all.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from scripts.peer_list import Environment

INSTALL_TIMEOUT_S = 600
SHARED = ("numpy", "psutil")
"""Compiled packages that peers would bring in another version than that which torch runs with here."""


class CantInstall(RuntimeError):
    """Say why a peer can't be installed."""


def folder_of(environment: Environment, root: Path) -> Path:
    """Return where an environment of these very versions is kept."""
    pinned = "+".join(environment.requirements).replace("==", "-")
    return root / f"{pinned}-python{sys.version_info.major}.{sys.version_info.minor}"


def install(environment: Environment, root: Path) -> None:
    """Make the environment unless it is there; what hinders it is kept for `find`."""
    folder = folder_of(environment, root)
    root.mkdir(parents=True, exist_ok=True)
    try:
        if not (folder / "versions").exists():
            _make(environment, folder)
    except CantInstall as error:
        (root / f"{folder.name}.missing").write_text(str(error), encoding="utf-8")
    else:
        (root / f"{folder.name}.missing").unlink(missing_ok=True)
        _share(folder)


def find(environment: Environment, root: Path) -> tuple[Path, list[str]]:
    """Return the interpreter and what is installed beside it, `NAME==VERSION`; raises CantInstall."""
    folder = folder_of(environment, root)
    versions = folder / "versions"
    if versions.exists():
        return folder / "bin" / "python", versions.read_text(encoding="utf-8").split()
    missing = root / f"{folder.name}.missing"
    raise CantInstall(missing.read_text(encoding="utf-8") if missing.exists() else f"{folder} is not there")


def _make(environment: Environment, folder: Path) -> None:
    python = str(folder / "bin" / "python")
    shared = [f"{name}=={metadata.version(name)}" for name in SHARED]
    _uv("venv", "--clear", "--no-project", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--python", python, *environment.requirements, *shared)
    (folder / "versions").write_text(_uv("pip", "freeze", "--python", python), encoding="utf-8")


def _share(folder: Path) -> None:
    """Let the environment find what this one has; each time, as another checkout may have made it."""
    here = sysconfig.get_paths()
    own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    own.mkdir(parents=True, exist_ok=True)
    (own / "shoplens.pth").write_text("\n".join(dict.fromkeys((here["purelib"], here["platlib"]))), encoding="utf-8")


def _uv(*arguments: str) -> str:
    command = [sys.executable, "-m", "uv", "--quiet", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CantInstall(f"`uv {arguments[0]}` took more than {INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        raise CantInstall(done.stderr.strip() or f"`uv {arguments[0]}` ended with {done.returncode}")
    return done.stdout
