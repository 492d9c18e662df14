"""Real weights and real photos, fetched by scripts/test before the network is taken away."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.demo_catalogue import by_model


def given(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).exists():
        pytest.exit(f"{variable} does not name what the tests need; run them with ./scripts/test", returncode=2)
    return Path(value)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The detector's weights."""
    return given("SHOPLENS_TEST_WEIGHTS")


@dataclass(frozen=True)
class Radios:
    """A small catalogue of the demo's photos: FOLDER/PRODUCT/*.jpg."""

    folder: Path
    images: list[Path]
    products: int


@pytest.fixture(scope="session")
def radios(tmp_path_factory) -> Radios:
    """Two photos each of twelve radio models."""
    folder = tmp_path_factory.mktemp("radios")
    images = []
    for model, paths in list(by_model(given("SHOPLENS_TEST_PHOTOS")).items())[:12]:
        (folder / model).mkdir()
        images += [Path(shutil.copy(path, folder / model)) for path in paths[:2]]
    return Radios(folder, images, len(list(folder.iterdir())))
