"""Catalogues imported with real models, a real Ray and Milvus Lite."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app.catalogue.driver import run
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import FIELDS, alias
from serve_app.config import Config, load_config
from serve_app.milvus.client import connect
from serve_app.milvus.local import LocalMilvus
from serve_app.weights.loader import embedder_files, fingerprint

TIMEOUT_S = 600
TIMES = {"updated_at"}


@dataclass
class Shop:
    """A catalogue with its own index, whose server runs until the end of the module."""

    manifest: Path
    data_dir: Path
    uri: str
    config: Config

    def write(self, rows: list[dict[str, str]]) -> None:
        with self.manifest.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def entries(self) -> list[dict[str, str]]:
        with self.manifest.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def shoplens_import(self) -> str:
        """Import as a person does; return what is printed."""
        command = [
            sys.executable,
            "-m",
            "serve_app.cli",
            "import",
            str(self.manifest),
            "--data-dir",
            str(self.data_dir),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def import_here(self) -> list[Outcome]:
        """Import in this process, which has no Ray: a call of it would show."""
        outcomes = [outcome for some in run(self.config, self.manifest, self.uri) for outcome in some]
        assert "serve_app.catalogue.flow" not in sys.modules
        return outcomes

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all rows of the index by key."""
        client = connect(self.config.milvus, self.uri)
        name = alias(self.config.catalogue, fingerprint(embedder_files(self.config.embedder.head)))
        fields = [field.name for field in FIELDS]
        found = client.query(name, filter='row_id != ""', output_fields=fields, limit=1000, consistency_level="Strong")
        client.close()
        rows = {row["row_id"]: {name: row[name] for name in fields} for row in found}
        assert len(rows) == len(found)
        return rows


def new_shop(folder: Path, images: list[Path], weights: Path) -> Iterator[Shop]:
    (folder / "data/weights").mkdir(parents=True)
    (folder / "data/weights/yolo26n.pt").symlink_to(weights)
    config = load_config(data_dir=folder / "data")
    with LocalMilvus(config.data_dir) as uri:
        shop = Shop(folder / "catalogue.csv", config.data_dir, uri, config)
        shop.write(
            [
                {
                    "image": str(image),
                    "product_id": image.parent.name,
                    "image_id": image.stem,
                    "category": "Radios/Old",
                    "price": "19.90",
                    "currency": "EUR",
                }
                for image in images
            ]
        )
        yield shop


@pytest.fixture(scope="module")
def broken(tmp_path_factory, radios) -> dict[str, str]:
    """Images that can't be used, with the code of the problem that they are."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "cut.jpg").write_bytes(radios.images[0].read_bytes()[:5000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    Image.new("1", (8000, 8000)).save(folder / "huge.png")
    codes = {
        "cut.jpg": "truncated",
        "empty.jpg": "empty_body",
        "text.jpg": "not_an_image",
        "huge.png": "too_many_pixels",
    }
    return {str(folder / name): code for name, code in {**codes, "gone.jpg": "missing_file"}.items()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory, radios, weights, broken) -> Iterator[Shop]:
    """Hold an undisturbed import of good and broken images."""
    for shop in new_shop(tmp_path_factory.mktemp("shop"), radios.images, weights):
        good = shop.entries()
        shop.write([*({**good[0], "image": image, "image_id": Path(image).name} for image in broken), *good])
        print(shop.shoplens_import())
        yield shop


def test_every_usable_image_is_indexed_and_the_others_are_listed(shop, radios, broken):
    rows = shop.rows().values()
    views = Counter(row["view"] for row in rows)
    assert views["whole"] == len(radios.images)
    assert 0 < views["object"] <= len(radios.images)
    assert {row["image_id"] for row in rows} == {image.stem for image in radios.images}
    (file,) = (shop.data_dir / "imports").iterdir()
    listed = [json.loads(line) for line in file.read_text().splitlines()]
    assert {problem["image"]: problem["code"] for problem in listed} == broken
    assert sorted(problem["row"] for problem in listed) == [2, 3, 4, 5, 6]
    assert all(problem["reason"] for problem in listed)


def test_a_second_import_starts_no_model_and_changes_nothing(shop, radios, broken):
    before = shop.rows()
    statuses = Counter(outcome.status for outcome in shop.import_here())
    assert statuses == {Status.UNCHANGED: len(radios.images), Status.PROBLEM: len(broken)}
    assert shop.rows() == before


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [("price", "25.00", {"price": 2500}), ("category", "Sale/Radios", {"category": "Sale/Radios"})],
)
def test_changed_metadata_is_written_without_the_models(shop, column, value, stored):
    before = shop.rows()
    entries = shop.entries()
    entries[-1][column] = value
    shop.write(entries)
    outcomes = Counter(outcome.status for outcome in shop.import_here())
    after = shop.rows()
    changed = {key for key in before if after[key] != before[key]}
    assert outcomes[Status.UPDATED] == 1
    assert set(after) == set(before)
    assert {after[key]["image_id"] for key in changed} == {entries[-1]["image_id"]}
    for key in changed:
        assert after[key]["vector"] == before[key]["vector"]
        assert after[key].items() >= stored.items()


def test_an_import_killed_at_any_write_goes_on_where_it_was(tmp_path_factory, shop, radios, weights):
    seed = int.from_bytes(os.urandom(2), "big")
    writes = random.Random(seed).randint(1, 4)
    print(f"seed {seed}: killed at write {writes}")
    undisturbed = shop.rows()
    for other in new_shop(tmp_path_factory.mktemp("killed"), radios.images, weights):
        other.write([entry for entry in shop.entries() if Path(entry["image"]) in radios.images])
        command = [sys.executable, "-m", "tests.integration.killed_import", other.manifest, other.data_dir, str(writes)]
        killed = subprocess.run(
            command,
            env=os.environ | {"SHOPLENS_IMPORT__BLOCK_ROWS": "3"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert killed.returncode == -9
        acknowledged = set(killed.stdout.split())
        assert 0 < len(acknowledged) < len(radios.images)
        before = other.rows()
        printed = other.shoplens_import()
        after = other.rows()
        again = {row["image_id"] for key, row in after.items() if row != before.get(key)}
        assert not again & {Path(image).stem for image in acknowledged}
        # The workers of the killed import may have stored another block after it.
        shown = re.search(r"(\d+) embedded, (\d+) unchanged", printed)
        assert shown, printed
        assert int(shown[1]) + int(shown[2]) == len(radios.images)
        assert int(shown[2]) >= len(acknowledged)
        assert_same(after, undisturbed)


def assert_same(rows: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == set(others)
    for key, row in rows.items():
        other = others[key]
        same = {name for name in row if row[name] == other[name]}
        assert same >= set(row) - TIMES - {"vector"}
        # Batches of other sizes are rounded otherwise.
        assert np.dot(row["vector"], other["vector"]) == pytest.approx(1, abs=1e-4)
