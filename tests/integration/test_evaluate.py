"""Evaluations with the real models: in this process, by a live service, and of an index."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from serve_app.weights.loader import embedder_files
from tests.integration.service import Service


@dataclass(frozen=True)
class Shop:
    """A data directory with weights, and a gallery and queries made of the radios."""

    data_dir: Path
    folder: Path
    photos: Path

    def evaluate(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("evaluate", *arguments, check=check)

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "serve_app.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=600)

    def search(self, name: str, *arguments: str) -> dict:
        written = self.folder / f"{name}.json"
        self.evaluate("search", *arguments, "--data-dir", str(self.data_dir), "--json", str(written))
        return json.loads(written.read_text())


@pytest.fixture(scope="module")
def shop(tmp_path_factory, radios, weights) -> Shop:
    data_dir = tmp_path_factory.mktemp("evaluation")
    (data_dir / "weights").mkdir()
    shutil.copy(weights, data_dir / "weights/yolo26n.pt")
    made = Shop(data_dir, tmp_path_factory.mktemp("set"), radios.folder)
    made.evaluate("split", str(radios.folder), str(made.folder))
    return made


@pytest.fixture(scope="module")
def in_process(shop) -> dict:
    return shop.search(
        "in-process", str(shop.folder / "gallery.csv"), "--queries", str(shop.folder / "queries.csv"),
        "--report", str(shop.folder / "report.html"), "--against", "imagenet",
    )  # fmt: skip


def figures(document: dict, run: int = 0) -> dict[str, dict[str, float]]:
    rows = document["runs"][run]["rows"]
    return {row["rule"]: {name: each["value"] for name, each in row["figures"].items()} for row in rows}


def test_both_models_find_more_than_chance_does_and_are_compared(in_process):
    assert in_process["gallery"] == {"images": 12, "products": 12}
    # One right product in any of 12 places has a mean of one over its rank, among the first ten, of .24.
    assert figures(in_process)["main list"]["mAP@10"] >= 0.35
    assert figures(in_process, 1)["main list"]["mAP@10"] >= 0.3
    assert {each["rule"] for each in in_process["compared"]} == {"main list", "any list", "whole photo"}


def test_the_report_is_one_file_with_pictures(in_process, shop):
    page = (shop.folder / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_second_run_asks_no_model_and_finds_the_same(in_process, shop):
    weights = shop.data_dir / "weights/yolo26n.pt"
    whole = weights.read_bytes()
    # Whoever loads these finds out that they are damaged.
    weights.write_bytes(whole[:-1])
    try:
        again = shop.search(
            "again", str(shop.folder / "gallery.csv"), "--queries", str(shop.folder / "queries.csv"),
            "--against", "imagenet",
        )  # fmt: skip
    finally:
        weights.write_bytes(whole)
    assert again["runs"] == in_process["runs"]


def on_white(photos: Path, folder: Path) -> Path:
    """Put photos on a plain background, as a studio's are."""
    for path in photos.glob("*/*"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photo:
            canvas = Image.new("RGB", (photo.width * 3 // 2, photo.height * 3 // 2), "white")
            canvas.paste(photo.convert("RGB"), (photo.width // 4, photo.height // 4))
        canvas.save(folder / path.parent.name / f"{path.stem}.jpg")
    return folder


def test_scenes_of_the_radios_are_searched_by_each_rule(shop):
    studio, scenes = on_white(shop.photos, shop.folder / "studio"), shop.folder / "scenes"
    arguments = ("--backgrounds", str(shop.photos), "--number", "6")
    shop.evaluate("scenes", str(studio), str(scenes), *arguments)
    found = shop.search("scenes", str(studio), "--queries", str(scenes / "scenes.csv"))
    rules = figures(found)
    assert set(rules) == {"whole photo", "main list", "merged", "any list", "own box"}
    assert rules["any list"]["found@10"] >= rules["whole photo"]["found@10"]


def test_hard_photos_have_lines_of_their_own(shop):
    found = shop.search("hard", str(shop.photos), "--leave-one-view-out", "--hard", "--sample", "3")
    lines = {row["line"] for row in found["runs"][0]["rows"]}
    assert lines == {"as they are", "cut", "blur", "exposure", "jpeg"}


def test_a_model_is_registered_and_the_gate_says_what_so_few_photos_can_not_show(in_process, shop):
    head, card = shop.folder / "spring.safetensors", shop.folder / "card.md"
    shutil.copy(embedder_files().head, head)
    card.write_text("# Spring")
    at = ("--data-dir", str(shop.data_dir))
    evaluated = ("--evaluation", str(shop.folder / "in-process.json"))
    registered = shop.run("model", "register", str(head), "--name", "spring", "--card", str(card), *evaluated, *at)
    assert registered.returncode == 0, registered.stderr
    (listed,) = json.loads(shop.run("model", "list", "--json", *at).stdout)["models"]
    assert (listed["name"], listed["fingerprint"]) == ("spring", in_process["runs"][0]["model"])
    photos = (str(shop.folder / "gallery.csv"), "--queries", str(shop.folder / "queries.csv"))
    gate = shop.run("model", "compare", "spring", *photos, "--against", "imagenet", *at)
    assert gate.returncode == 3
    assert "the gate is closed" in gate.stderr
    assert "a loss of 0.02 would go unseen" in gate.stdout


def test_entry_names_the_detector_of_the_settings(shop, tmp_path):
    settings, card = tmp_path / "settings.yaml", tmp_path / "card.md"
    settings.write_text(f"detector: {{weights: own.pt, sha256: {'d' * 64}}}")
    card.write_text("# Spring")
    at = ("--config", str(settings), "--data-dir", str(tmp_path))
    registered = shop.run("model", "register", str(embedder_files().head), "--name", "a", "--card", str(card), *at)
    assert registered.returncode == 0, registered.stderr
    (listed,) = json.loads(shop.run("model", "list", "--json", *at).stdout)["models"]
    assert listed["detector_sha256"] == "d" * 64
    again = ("model", "register", str(embedder_files().head), "--name", "a", "--card", str(card))
    assert "names another detector" in shop.run(*again, "--data-dir", str(tmp_path)).stdout


def test_a_live_service_finds_what_this_process_finds(in_process, shop, tmp_path, weights):
    # HNSW, so that the index is compared with something it is not.
    with Service(tmp_path, weights, MILVUS__INDEX_TYPE="HNSW") as service:
        service.shoplens("import", str(shop.folder / "gallery.csv"))
        live = shop.search(
            "live", str(shop.folder / "gallery.csv"), "--queries", str(shop.folder / "queries.csv"),
            "--url", service.url,
        )  # fmt: skip
        written = tmp_path / "index.json"
        service.shoplens("evaluate", "index", str(shop.folder / "queries.csv"), "--json", str(written))
        foreign = shop.evaluate(
            "search", str(shop.photos), "--queries", str(shop.folder / "queries.csv"), "--url", service.url, check=False
        )
    assert live["runs"][0]["model"] == in_process["runs"][0]["model"]
    for rule, expected in figures(in_process).items():
        assert figures(live)[rule] == pytest.approx(expected, abs=1e-9), rule
    assert json.loads(written.read_text())["overlap"]["value"] >= 0.99
    # The whole catalogue holds the photos that are searched with.
    assert foreign.returncode == 2
    assert "evaluate split" in foreign.stderr
