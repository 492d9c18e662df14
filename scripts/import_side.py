"""An import in a process of its own, for benchmarks and drills: `python -m scripts.import_side DATA_DIR MANIFEST`.

It prints a line of JSON for each step as soon as that is certain: how many images ended how (`statuses`), the rows of
the manifest that were embedded (`embedded`), and the seconds that went into each part of the work (`work`).
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from scripts.demo_catalogue import fetch_photos
from scripts.demo_shop import default_folder
from scripts.measuring import cores
from serve_app.catalogue.report import Status
from serve_app.config import Config, load_config
from serve_app.weights.fetching import fetch_detector

KINDS = (".jpg", ".jpeg", ".png", ".webp")


def images_below(folders: Sequence[Path] | None) -> list[Path]:
    """Return the images of some folders, or the demo's photos; raises CantFetch."""
    if not folders:
        folders = [default_folder() / "photos"]
        fetch_photos(folders[0])
    return sorted(path for folder in folders for path in folder.resolve().rglob("*") if path.suffix.lower() in KINDS)


def make_data_dir(data_dir: Path) -> None:
    """Make a data directory with the detector's weights; raises BadWeights."""
    weights = load_config(data_dir=default_folder()).detector_weights
    fetch_detector(weights, lambda text: print(text, file=sys.stderr))
    (data_dir / "weights").mkdir(parents=True)
    (data_dir / "weights" / weights.name).symlink_to(weights)


def write_catalogue(manifest: Path, images: Sequence[Path]) -> None:
    """Write a manifest with one product an image."""
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "product_id", "image_id"])
        for number, image in enumerate(images):
            writer.writerow([image, f"p{number}", f"i{number}"])


def settings(data_dir: Path) -> Config:
    """Return the settings of an import that has all cores."""
    config = load_config(data_dir=data_dir)
    return config.model_copy(update={"importing": config.importing.model_copy(update={"threads": cores()})})


def start(data_dir: Path, manifest: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start an import in a session of its own, whose standard output is the lines described above."""
    command = [sys.executable, "-m", "scripts.import_side", str(data_dir), str(manifest)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ, start_new_session=True
    )


def main(data_dir: Path, manifest: Path) -> None:
    from serve_app.cli.local import milvus_uri, set_ray_environment

    set_ray_environment()
    from serve_app.catalogue.driver import Job, run

    config = settings(data_dir)
    with ExitStack() as stack:
        uri = stack.enter_context(milvus_uri(config, Console(stderr=True)))
        for step in run(config, Job(manifest, str(manifest.parent), datetime.now(UTC)), uri):
            line = {
                "statuses": Counter(outcome.status.value for outcome in step.outcomes),
                "embedded": [outcome.row for outcome in step.outcomes if outcome.status is Status.EMBEDDED],
                "work": step.seconds,
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
