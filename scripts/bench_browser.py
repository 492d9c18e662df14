"""Compare the objects that a browser finds by itself with those that the service finds in the same bytes.

    python -m scripts.bench_browser PHOTOS … --detector FOLDER

FOLDER is what `shoplens weights browser` made. In Debian's Chromium, the page makes each photo small as it does before
sending it, and finds its objects on its own; the service's decoder and detector get the very bytes that the page would
send. Both keep distinct objects only, ten at most. Neither Ray nor Milvus runs.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from scripts.bench_phones import IOU, MATCHED_GOAL, SURE, Matches
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, percentile, wait_until
from serve_app.api import page_routes
from serve_app.api.service import Service
from serve_app.browser_detector import BrowserDetector, read_browser_detector
from serve_app.config import Config, PageConfig, load_config
from serve_app.detector import YoloDetector
from serve_app.domain import Detection
from serve_app.errors import ShoplensError
from serve_app.images import decode
from serve_app.market import Markets, make_markets
from serve_app.objects import choose_objects
from serve_app.weights.fetching import fetch_detector

SUFFIXES = (".jpg", ".jpeg", ".png")
THREADS = 1
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
            config = _config(Path(folder), arguments.detector)
            service = ServicesDetector(config)
            whole = Matches()
            with _served(config) as url, _opened(url) as page:
                for name, paths in photos.items():
                    seen = [_seen(page, service, path) for path in paths]
                    report.rows.append(_row(name, seen))
                    for each in seen:
                        whole.add(each.service, each.browser)
    except (OSError, ShoplensError, TimeoutError) as error:
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


def _config(data_dir: Path, detector: Path) -> Config:
    config = load_config(data_dir=data_dir).model_copy(update={"page": PageConfig(detector=detector.resolve())})
    fetch_detector(config.detector_weights, lambda text: print(text, file=sys.stderr))
    return config


class ServicesDetector:
    """Find a photo's objects as the service's stage does."""

    def __init__(self, config: Config) -> None:
        own = config.detector
        self._limits = config.limits
        self._model = YoloDetector(
            config.detector_weights, threads=THREADS, side_px=own.side_px, min_confidence=own.min_confidence
        )

    def find(self, photo: bytes) -> tuple[Detection, ...]:
        (found,) = self._model.find([decode(photo, max_pixels=self._limits.max_pixels)])
        return choose_objects(found, self._limits.max_objects)


@dataclass(frozen=True)
class PageAlone:
    """Be what the page's own routes ask of the service."""

    markets: Markets
    page_settings: PageConfig
    browser_detector: BrowserDetector
    max_body_bytes: int
    takes_feedback: bool = False


@contextmanager
def _served(config: Config) -> Iterator[str]:
    """Serve the page, with its own detector and nothing behind it, on loopback."""
    detector = read_browser_detector(config)
    if detector is None:
        raise OSError(f"{config.browser_detector_folder} is not what `shoplens weights browser` makes for this release")
    alone = PageAlone(make_markets(config), config.page, detector, config.limits.max_body_bytes)
    app = FastAPI()
    app.include_router(page_routes.router(cast(Service, alone)))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, timeout_s=60, what="start of the page's server")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


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


def _seen(page: Page, service: ServicesDetector, photo: Path) -> Seen:
    kind = "image/png" if photo.suffix.lower() == ".png" else "image/jpeg"
    found = page.evaluate(FIND, [base64.b64encode(photo.read_bytes()).decode(), kind])
    if found["objects"] is None:
        raise OSError(f"the browser could not look at {photo}")
    browser = [each for each in found["objects"] if each["source"] != "whole"]
    told = service.find(base64.b64decode(found["sent"]))
    labels = sorted({*(str(each.label) for each in told), *(each["label"] for each in browser)})
    return Seen(
        _rows([[*each.box.as_tuple(), each.confidence or 0.0, labels.index(str(each.label))] for each in told]),
        _rows([[*each["box"], each["confidence"], labels.index(each["label"])] for each in browser]),
        found["ms"],
    )


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
