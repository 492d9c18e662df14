"""Compare the objects that a browser finds by itself with those that the service finds in the same bytes.

    python -m scripts.bench_browser PHOTOS … --detector FOLDER

FOLDER is what `shoplens weights browser` made. A catalogue of a few of the photos is imported and served; Debian's
Chromium opens the page, makes each photo small as it does before sending it, and finds its objects on its own; the
service gets the very bytes that the page would send. Both show distinct objects only, ten at most.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from scripts.bench_phones import IOU, MATCHED_GOAL, SURE, Matches
from scripts.demo_shop import serving
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, percentile
from serve_app.config import load_config
from serve_app.errors import ShoplensError
from serve_app.weights.fetching import fetch_detector

SUFFIXES = (".jpg", ".jpeg", ".png")
IMPORTED = 4
LIMIT_MS = 120_000
FREE_NETWORK = """Object.defineProperty(navigator, "connection", {
  get: () => ({ effectiveType: "4g", downlink: 10, saveData: false, type: "wifi" }),
});"""
BEGIN = """async () => {
  const [app] = document.querySelectorAll('script[type="module"]');
  const modules = ["detector.js", "photo.js"].map((name) => import(new URL(name, app.src)));
  const [detector, photo] = await Promise.all(modules);
  Object.assign(window, { detector, reduced: photo.reduced });
  detector.load();
}"""
READY = "() => performance.getEntriesByName('shoplens detector ready').length > 0"
FIND = """async ([encoded, type]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const sent = await reduced(new File([bytes(encoded)], "photo", { type }));
  const since = performance.now();
  const objects = await detector.find(sent);
  const ms = performance.now() - since;
  const reader = new FileReader();
  const read = new Promise((done) => reader.addEventListener("load", () => done(reader.result)));
  reader.readAsDataURL(sent);
  return { objects, ms, sent: (await read).split(",")[1] };
}"""


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what both found in a photo: rows of box, confidence and label, and how long the browser took."""

    service: Any
    browser: Any
    ms: float


def main() -> int:
    arguments = _arguments()
    console = Console()
    photos = {
        path.name: _sampled(path, arguments.photos or (20 if arguments.quick else 100)) for path in arguments.sets
    }
    report = Report("bench_browser", {"photos": {name: len(paths) for name, paths in photos.items()}})
    try:
        with tempfile.TemporaryDirectory(prefix="shoplens-browser-") as folder:
            first = next(iter(photos.values()))[:IMPORTED]
            with _served(Path(folder), first, arguments.detector) as url, _opened(url) as page:
                whole, times = Matches(), []
                for name, paths in photos.items():
                    seen = [_seen(page, url, path) for path in paths]
                    report.rows.append(_row(name, seen))
                    times += [each.ms for each in seen]
                    for each in seen:
                        whole.add(each.service, each.browser)
    except (OSError, ShoplensError, httpx.HTTPError, subprocess.CalledProcessError, TimeoutError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    name = f"part of {whole.boxes} boxes of {SURE} or more that have a partner at IoU {IOU}"
    report.goals.append(Goal(name, whole.share, MATCHED_GOAL, "higher"))
    return report.finish(console, arguments.json)


def _row(name: str, seen: Sequence[Seen]) -> dict[str, Any]:
    matches = Matches()
    for each in seen:
        matches.add(each.service, each.browser)
    back = Matches()
    for each in seen:
        back.add(each.browser, each.service)
    times = [each.ms for each in seen]
    return {
        "set": name,
        "photos": len(seen),
        "boxes of the service": matches.boxes,
        "matched": matches.share,
        "boxes of the browser": back.boxes,
        "matched back": back.share,
        "median IoU": statistics.median(matches.ious) if matches.ious else 0.0,
        "ms, median": statistics.median(times),
        "ms, p95": percentile(times, 0.95),
    }


@contextmanager
def _served(data_dir: Path, photos: Sequence[Path], detector: Path) -> Iterator[str]:
    """Serve an index of a few photos, with the page's own detector."""
    fetch_detector(load_config(data_dir=data_dir).detector_weights, lambda text: print(text, file=sys.stderr))
    catalogue = data_dir / "catalogue"
    catalogue.mkdir()
    for number, photo in enumerate(photos):
        shutil.copy(photo, catalogue / f"{number}{photo.suffix}")
    command = [sys.executable, "-m", "serve_app.cli", "import", str(catalogue), "--data-dir", str(data_dir)]
    subprocess.run(command, check=True)
    settings = {"SHOPLENS_LIMITS__DEADLINE_S": "60", "SHOPLENS_PAGE__DETECTOR": str(detector.resolve())}
    with serving(data_dir, settings) as (_, url):
        yield url


@contextmanager
def _opened(url: str) -> Iterator[Page]:
    """Open the page in Chromium, with its detector ready."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise OSError("this needs Debian's chromium")
    with sync_playwright() as playwright:
        # Chromium can't build its sandbox as root; it shows nothing but the service above.
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            page = browser.new_page()
            page.set_default_timeout(LIMIT_MS)
            page.add_init_script(FREE_NETWORK)
            page.goto(url)
            page.evaluate(BEGIN)
            page.wait_for_function(READY)
            yield page
        finally:
            browser.close()


def _seen(page: Page, url: str, photo: Path) -> Seen:
    kind = "image/png" if photo.suffix.lower() == ".png" else "image/jpeg"
    found = page.evaluate(FIND, [base64.b64encode(photo.read_bytes()).decode(), kind])
    if found["objects"] is None:
        raise OSError(f"the browser could not look at {photo}")
    objects = [each for each in found["objects"] if each["source"] != "whole"]
    body = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [found["sent"]]}]}
    answer = httpx.post(f"{url}/v2/models/detector/infer", json=body, timeout=60)
    answer.raise_for_status()
    told = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    boxes = np.array(told["box"], np.float32).reshape(-1, 4).tolist()
    labels = sorted({*told["label"], *(each["label"] for each in objects)})
    service = [
        [*box, sure, labels.index(name)]
        for box, sure, name in zip(boxes, told["confidence"], told["label"], strict=True)
    ]
    browser = [[*each["box"], each["confidence"], labels.index(each["label"])] for each in objects]
    return Seen(_rows(service), _rows(browser), found["ms"])


def _rows(rows: Sequence[Sequence[float]]) -> Any:
    return np.array(rows, np.float32).reshape(-1, 6)


def _sampled(folder: Path, count: int) -> list[Path]:
    """Return some photos of a folder, the same ones each time."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{folder} holds no photos")
    return sorted(random.Random(1).sample(found, min(count, len(found))))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path, help="folders of photos")
    parser.add_argument("--detector", type=Path, required=True, help="what `shoplens weights browser` made")
    parser.add_argument("--photos", type=int, help="photos of each folder (default: 100, quick: 20)")
    parser.add_argument("--quick", action="store_true", help="fewer photos")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
