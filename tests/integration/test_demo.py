"""The demo itself, with the photos and weights that scripts/test fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.measuring import free_port
from tests.integration.conftest import given

TIMEOUT_S = 600
FEWEST_RIGHT = 0.3
"""Of 45 radios that are not in the catalogue; the frozen network gets 16."""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, weights) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(given("SHOPLENS_TEST_PHOTOS"), folder / "photos")
    (folder / "weights").mkdir()
    shutil.copy(weights, folder / "weights")
    return folder


def demo(data_dir: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.demo", "--once", "--data-dir", str(data_dir), "--port", str(free_port())]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)


def test_demo_finds_radios_that_are_not_in_the_catalogue(data_dir):
    outcome = demo(data_dir)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    last_line = outcome.stdout.strip().splitlines()[-1]
    shown = re.search(r"of 45 came first .* for (\d+) photos", last_line)
    assert shown, outcome.stdout
    assert int(shown[1]) / 45 >= FEWEST_RIGHT
    assert "284 embedded" in outcome.stdout


def test_demo_that_runs_again_embeds_nothing(data_dir):
    outcome = demo(data_dir)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "284 unchanged" in outcome.stdout
