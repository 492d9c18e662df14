"""Make the README's pictures of the page: a catalogue is imported and served, and a phone and a desktop search in it.

    .venv/bin/python -m scripts.screenshots --catalogue DIR [--photo FILE]

Each image below a folder of DIR is a product named by that folder; no price is made up. What is committed may show
only photos that anybody may show, or drawings of ours.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from scripts.demo_shop import serving
from scripts.measuring import wait_until
from serve_app.config import load_config
from serve_app.errors import ShoplensError
from serve_app.weights.fetching import fetch_detector

OUT = Path(__file__).parents[1] / "scripts" / "pictures"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 1.5}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
WEBP_QUALITY = 78
MOST_BYTES = 300_000
"""Of all pictures together: they are part of every clone."""
LIMIT_MS = 60_000
SETTLED = "() => [...document.querySelectorAll('.card img')].slice(0, 8).every((each) => each.complete)"


def main() -> int:
    """Write the pictures; exit with 1 where they are too large, with 2 where they can't be made."""
    arguments = _arguments()
    chromium = shutil.which("chromium")
    catalogue = arguments.catalogue.resolve()
    products = _products(catalogue, arguments.each)
    photo = arguments.photo or _another(catalogue, products)
    if chromium is None or photo is None or not products:
        print("this needs Debian's chromium, and a catalogue CATEGORY/*.jpg of more images than are imported")
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="shoplens-pictures-") as folder:
            made = make(Path(folder), catalogue, products, photo, arguments.out, chromium)
    except (ShoplensError, subprocess.CalledProcessError, TimeoutError) as error:
        print(f"the pictures can't be made: {error}", file=sys.stderr)
        return 2
    total = sum(path.stat().st_size for path in made)
    for path in made:
        print(f"{path}  {path.stat().st_size:,} bytes")
    print(f"{total:,} bytes of at most {MOST_BYTES:,}")
    return int(total > MOST_BYTES)


def make(
    data_dir: Path, catalogue: Path, products: Sequence[Path], photo: Path, out: Path, chromium: str
) -> list[Path]:
    """Import products into a data directory of their own, serve them, and return the pictures taken of that."""
    fetch_detector(load_config(data_dir=data_dir).detector_weights, lambda text: print(text, file=sys.stderr))
    command = [
        sys.executable,
        "-m",
        "serve_app.cli",
        "import",
        str(_manifest(data_dir, products)),
        "--data-dir",
        str(data_dir),
    ]
    subprocess.run(command, check=True)
    # A photo that is searched with right after the start may come while the models still warm up.
    settings = {"SHOPLENS_LIMITS__DEADLINE_S": "60", "SHOPLENS_PAGE__IMAGE_FOLDERS": json.dumps([str(catalogue)])}
    with serving(data_dir, settings) as (_, url), sync_playwright() as playwright:
        wait_until(lambda: httpx.get(f"{url}/v2/health/ready").is_success, timeout_s=60, what="readiness")
        # Chromium can't build its sandbox as root; it shows nothing but the service above.
        flags = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            return _taken(browser, url, photo, out)
        finally:
            browser.close()


def _taken(browser: Browser, url: str, photo: Path, out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for name, options in (("phone", PHONE), ("desktop", DESKTOP)):
        context = browser.new_context(locale="en-US", color_scheme="light", reduced_motion="reduce", **options)
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.goto(url)
        _search(page, photo)
        made.append(_kept(page, out / f"{name}.webp"))
        context.close()
    return made


def _search(page: Page, photo: Path) -> None:
    page.set_input_files("#choose", photo)
    expect(page.locator(".card:not(.empty) .title").first).to_be_visible(timeout=LIMIT_MS)
    page.wait_for_function(SETTLED)


def _kept(page: Page, path: Path) -> Path:
    """Write what a page shows as WebP: half the bytes of a PNG that shows photos."""
    shot = path.with_suffix(".png")
    page.screenshot(path=shot)
    Image.open(shot).convert("RGB").save(path, "WEBP", quality=WEBP_QUALITY, method=6)
    shot.unlink()
    return path


def _products(catalogue: Path, each: int) -> list[Path]:
    """Return the first images of each folder."""
    folders = sorted(path for path in catalogue.iterdir() if path.is_dir())
    return [image for folder in folders for image in _images(folder)[:each]]


def _another(catalogue: Path, products: Sequence[Path]) -> Path | None:
    """Return an image that is not imported."""
    known = set(products)
    return next((image for image in _images(catalogue) if image not in known), None)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)


def _manifest(data_dir: Path, products: Sequence[Path]) -> Path:
    path = data_dir / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "product_id", "title", "category"])
        for image in products:
            kind = image.parent.name.capitalize()
            writer.writerow([image, f"{image.parent.name}-{image.stem}", kind, kind])
    return path


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=str(__doc__).splitlines()[0])
    parser.add_argument("--catalogue", type=Path, required=True, help="folder with a folder of images for each kind")
    parser.add_argument("--each", type=int, default=12, help="images of each kind that are imported (default: 12)")
    parser.add_argument(
        "--photo", type=Path, help="what is searched with; default: the first image that is not imported"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the pictures (default: %(default)s)")
    return parser.parse_args(given)


if __name__ == "__main__":
    raise SystemExit(main())
