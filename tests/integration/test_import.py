"""Catalogues imported with real models, a real Ray and Milvus Lite."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import psutil
import pytest
from PIL import Image
from pyarrow import parquet
from pymilvus.exceptions import MilvusException

from scripts.measuring import wait_until
from serve_app.catalogue.driver import Job, run
from serve_app.catalogue.reading import base_of
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import FIELDS, alias
from serve_app.config import Config, load_config
from serve_app.errors import MilvusUnavailable
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

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "serve_app.cli", "import", *arguments, "--data-dir", str(self.data_dir)]

    def shoplens_import(self, *arguments: str) -> str:
        """Import as a person does; return what is printed."""
        command = self.command(*(arguments or (str(self.manifest), "--max-error-ratio", "1")))
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout

    def refused_import(self, *arguments: str) -> tuple[int, str]:
        """Import as a person does who has to mend something; return the exit code and what is said."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=TIMEOUT_S)
        return done.returncode, done.stderr

    def import_here(self) -> list[Outcome]:
        """Import in this process, which has no Ray: a call of it would show."""
        job = Job(self.manifest, base_of(str(self.manifest)), datetime.now(UTC))
        outcomes = [outcome for step in run(self.config, job, self.uri) for outcome in step.outcomes]
        assert "serve_app.catalogue.flow" not in sys.modules
        return outcomes

    def quarantined(self) -> list[dict[str, Any]]:
        """Return the rows of the newest quarantine."""
        folder = max((self.data_dir / "imports").glob("*/quarantine"))
        return [row for part in sorted(folder.glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]

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


def broken_rows(folder: Path, good: dict[str, str]) -> list[tuple[dict[str, str], str]]:
    """Return rows that can't be imported, with the code that each is to be listed by; the good one is named again."""
    (folder / "cut.jpg").write_bytes(Path(good["image"]).read_bytes()[:5000])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    (folder / "folder.jpg").mkdir()
    (folder / "too_many_bytes.jpg").write_bytes(b"\xff\xd8\xff" + bytes(21 * 2**20))
    Image.new("1", (8000, 8000)).save(folder / "huge.png")
    Image.new("RGB", (20, 200)).save(folder / "thin.png")
    Image.new("RGB", (100, 100)).save(folder / "moving.gif")
    images = {
        "gone.jpg": "missing_file",
        "folder.jpg": "unreadable_file",
        "empty.jpg": "empty_body",
        "text.jpg": "not_an_image",
        "cut.jpg": "truncated",
        "moving.gif": "unsupported_type",
        "too_many_bytes.jpg": "photo_too_large",
        "huge.png": "too_many_pixels",
        "thin.png": "too_small",
    }
    values = [
        ({"image": ""}, "bad_row"),
        ({"product_id": ""}, "bad_row"),
        ({"price": "cheap"}, "bad_price"),
        ({"currency": "BUCKS"}, "bad_price"),
        ({"in_stock": "perhaps"}, "bad_in_stock"),
        ({"image": "ftp://shop.example/1.jpg"}, "url_unsupported"),
        ({"title": "x" * 70_000}, "bad_parameter"),
        ({"image_id": good["image_id"]}, "duplicate_image_id"),
    ]
    named = [({"image": str(folder / name)}, code) for name, code in images.items()]
    return [({**good, "image_id": f"bad-{i}", **row}, code) for i, (row, code) in enumerate([*named, *values])]


@pytest.fixture(scope="module")
def broken(tmp_path_factory, radios) -> list[tuple[dict[str, str], str]]:
    good = {"image": str(radios.images[0]), "product_id": "x", "image_id": radios.images[0].stem}
    rows = broken_rows(tmp_path_factory.mktemp("broken"), good)
    assert len({code for _, code in rows}) == 15
    return rows


@pytest.fixture(scope="module")
def shop(tmp_path_factory, radios, weights, broken) -> Iterator[Shop]:
    """Hold an undisturbed import of good and broken images."""
    for shop in new_shop(tmp_path_factory.mktemp("shop"), radios.images, weights):
        good = [{"in_stock": "", "title": "", **entry} for entry in shop.entries()]
        shop.write([*good, *({**good[0], **row} for row, _ in broken)])
        print(shop.shoplens_import())
        yield shop


def test_every_usable_image_is_indexed_and_the_others_are_quarantined(shop, radios, broken):
    rows = shop.rows().values()
    views = Counter(row["view"] for row in rows)
    assert views["whole"] == len(radios.images)
    assert 0 < views["object"] <= len(radios.images)
    assert {row["image_id"] for row in rows} == {image.stem for image in radios.images}
    assert all(len(row["phash"]) == 16 for row in rows)
    listed = {row["row"]: row for row in shop.quarantined()}
    first = len(radios.images) + 2
    assert [listed[row]["code"] for row in sorted(listed)] == [code for _, code in broken]
    assert sorted(listed) == list(range(first, first + len(broken)))
    assert all(row["reason"] for row in listed.values())
    assert all(json.loads(row["columns"]) for row in listed.values())
    (page,) = (shop.data_dir / "imports").glob("*/summary.html")
    text = page.read_text()
    assert text.count("data:image/jpeg") >= len(radios.images)
    assert all(code in text for _, code in broken)


def test_mended_rows_of_a_quarantine_are_imported_and_a_repeated_id_stays_out(shop, radios, broken):
    before = shop.rows()
    (quarantine,) = (shop.data_dir / "imports").glob("*/quarantine")
    missing = next(Path(row["image"]) for row, code in broken if code == "missing_file")
    missing.write_bytes(radios.images[0].read_bytes())
    try:
        printed = shop.shoplens_import("--retry-quarantine", str(quarantine), "--max-error-ratio", "1")
    finally:
        missing.unlink()
    added = {row["image_id"] for key, row in shop.rows().items() if key not in before}
    assert added == {"bad-0"}
    # The same picture as that of another image.
    of_added = [row for row in shop.rows().values() if row["image_id"] == "bad-0"]
    assert {row["duplicate_of"] for row in of_added} == {radios.images[0].stem}
    assert "1 embedded" in printed
    assert "1 images show a picture that was there already" in printed
    assert "duplicate_image_id" not in {row["code"] for row in shop.quarantined()}
    # Away again, so that the module's other tests find what they know.
    code, said = shop.refused_import(str(shop.manifest), "--full", "--max-error-ratio", "1")
    assert (code, "can't be read" in said) == (2, True)
    entries = shop.entries()
    shop.write(entries[: len(radios.images)])
    assert "1 images removed" in shop.shoplens_import(str(shop.manifest), "--full")
    shop.write(entries)
    assert shop.rows() == before


def test_an_import_with_too_many_problems_ends_with_an_error(shop):
    code, said = shop.refused_import(str(shop.manifest))
    assert code == 2
    assert "import.max_error_ratio" in said


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
    last = len(images_of(before)) - 1
    entries[last][column] = value
    shop.write(entries)
    outcomes = Counter(outcome.status for outcome in shop.import_here())
    after = shop.rows()
    changed = {key for key in before if after[key] != before[key]}
    assert outcomes[Status.UPDATED] == 1
    assert set(after) == set(before)
    assert {after[key]["image_id"] for key in changed} == {entries[last]["image_id"]}
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
            env=os.environ | {"SHOPLENS_IMPORT__IMAGES_AT_ONCE": "3"},
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


def images_of(rows: dict[str, dict[str, Any]]) -> set[str]:
    return {row["image_id"] for row in rows.values()}


def assert_same(rows: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == set(others)
    for key, row in rows.items():
        other = others[key]
        same = {name for name in row if row[name] == other[name]}
        assert same >= set(row) - TIMES - {"vector"}
        # Batches of other sizes are rounded otherwise.
        assert np.dot(row["vector"], other["vector"]) == pytest.approx(1, abs=1e-4)


# Killed as soon as it is there: who prepares is done early, and who embeds stays to the end.
@pytest.mark.parametrize("stage", ["_Prepare", "_Embed"])
def test_a_killed_worker_costs_no_image(tmp_path, radios, weights, stage):
    for shop in new_shop(tmp_path, radios.images, weights):
        entries = [{**entry, "image_id": f"{i}-{entry['image_id']}"} for i in range(4) for entry in shop.entries()]
        shop.write(entries)
        done = subprocess.Popen(
            shop.command(str(shop.manifest)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            worker = wait_until(partial(worker_of, done.pid, stage), timeout_s=TIMEOUT_S, what="worker")
            worker.send_signal(signal.SIGKILL)
            written = count_of(shop)
            printed, said = done.communicate(timeout=TIMEOUT_S)
        finally:
            done.kill()
        assert done.returncode == 0, printed + said
        assert written < len(entries)
        assert f"{len(entries)} images" in printed
        assert images_of(shop.rows()) == {entry["image_id"] for entry in entries}


def worker_of(pid: int, stage: str) -> psutil.Process | None:
    """Return the process of an import that works on a stage, None before there is one."""
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            if child.cmdline()[0].startswith(f"ray::MapWorker(MapBatches({stage}))"):
                return child
    return None


def count_of(shop: Shop) -> int:
    """Return the rows that are there, 0 before there is an index."""
    name = alias(shop.config.catalogue, fingerprint(embedder_files(shop.config.embedder.head)))
    try:
        with closing(connect(shop.config.milvus, shop.uri)) as client:
            return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])
    except (MilvusException, MilvusUnavailable):
        return 0


def test_images_at_urls_are_fetched_once_while_they_stay_the_same(tmp_path, radios, weights):
    with web_server(radios.folder, tmp_path / "asked") as url:
        for shop in new_shop(tmp_path, radios.images, weights):
            paths = {entry["image_id"]: Path(entry["image"]).relative_to(radios.folder) for entry in shop.entries()}
            entries = [{**entry, "image": f"{url}/{paths[entry['image_id']]}"} for entry in shop.entries()]
            gone = {**entries[0], "image": f"{url}/gone.jpg", "image_id": "gone"}
            private = {**entries[0], "image": "http://10.1.2.3/1.jpg", "image_id": "private"}
            shop.write([*entries, gone, private])
            os.environ["SHOPLENS_FETCH__ALLOW_PRIVATE"] = '["127.0.0.0/8"]'
            try:
                printed = shop.shoplens_import()
                first = (tmp_path / "asked").read_text().splitlines()
                before = shop.rows()
                again = shop.shoplens_import()
                shop.write([{**entry, "price": "21.00"} for entry in entries])
                shop.shoplens_import()
            finally:
                del os.environ["SHOPLENS_FETCH__ALLOW_PRIVATE"]
            asked = (tmp_path / "asked").read_text().splitlines()[len(first) :]
            assert f"{len(entries)} embedded" in printed
            assert {row["image"]: row["code"] for row in shop_problems(shop)} == {
                gone["image"]: "not_found",
                private["image"]: "url_refused",
            }
            assert f"{len(entries)} unchanged" in again
            assert Counter(line.split()[1] for line in asked if "gone" not in line) == {"304": 2 * len(entries)}
            assert {row["data"]["image_url"] for row in before.values()} == {entry["image"] for entry in entries}
            assert {row["price"] for row in shop.rows().values()} == {2100}


def shop_problems(shop: Shop) -> list[dict[str, Any]]:
    """Return the rows of the oldest quarantine."""
    folder = min((shop.data_dir / "imports").glob("*/quarantine"))
    return [row for part in folder.glob("*.parquet") for row in parquet.read_table(part).to_pylist()]


@contextmanager
def web_server(folder: Path, log: Path) -> Iterator[str]:
    """Serve a folder of images with ETags, and write down each path that was asked for with its status."""
    etags = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*/*")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / unquote(self.path).lstrip("/")
            status = 404
            if path in etags:
                status = 304 if self.headers.get("If-None-Match") == f'"{etags[path]}"' else 200
            with log.open("a") as file:
                file.write(f"{self.path} {status}\n")
            body = path.read_bytes() if status == 200 else b""
            self.send_response(status)
            if path in etags:
                self.send_header("ETag", f'"{etags[path]}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Write nothing to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
