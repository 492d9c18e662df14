"""Measure a page of results from a photo of a phone: milliseconds per stage, and what decoding it in part saves.

The service is the demo's shop, or that of --url. Without --photo the photo is made up of the demo's: twelve on one
picture, with grain, lying on its side as phones store what was taken upright.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import ExifTags, Image, ImageChops
from rich.console import Console

from scripts.demo_catalogue import CantFetch, fetch_photos
from scripts.demo_shop import default_folder, prepare, queries, serving
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, key_headers, percentile
from serve_app.errors import ShoplensError
from serve_app.images import WORKING_SIDE_PX, decode
from serve_app.telemetry import STAGES

SIZE_PX = {12: (3024, 4032), 48: (6048, 8064)}
"""By megapixels: what the cameras of phones make, upright."""
COLUMNS, ROWS = 3, 4
GRAIN = 8
"""Most that noise adds or takes, of 255: the file is then as large as a camera's."""
QUALITY = 90
LYING = 6
"""EXIF's orientation of what a phone took upright."""
OBJECTS, TOP_K = 3, 10
DECODE_GOAL = 1 / 3
DEADLINE_S = "60"
"""Stages are measured: no search is to end at its deadline because other work is beside it."""


def main() -> int:
    arguments = _arguments()
    console = Console()
    searches, decodes = (10, 5) if arguments.quick else (50, 15)
    try:
        shown = _photos(arguments)
        given = arguments.photo.read_bytes() if arguments.photo else None
        photos = {f"{size} MP": phone_photo(shown, size) for size in SIZE_PX}
        page = given or photos["12 MP"]
        report = Report("bench_page", {"searches": searches, "decodes": decodes, "photo": str(arguments.photo or "")})
        if arguments.url:
            _search(report, arguments.url, page, searches)
        else:
            with serving(arguments.data_dir, {"SHOPLENS_LIMITS__DEADLINE_S": DEADLINE_S}) as (_, url):
                _search(report, url, page, searches)
        for name, photo in ({"given": given} if given else photos).items():
            _decode(report, name, photo, decodes)
        report.goals.append(_decode_goal(report))
    except (ShoplensError, CantFetch, subprocess.SubprocessError, httpx.HTTPError, TimeoutError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _photos(arguments: argparse.Namespace) -> list[Path]:
    """Return photos of the demo, which its shop is filled with where it is to be searched."""
    if not arguments.url:
        return prepare(arguments.data_dir)
    fetch_photos(arguments.data_dir / "photos")
    return queries(arguments.data_dir)


def phone_photo(paths: Sequence[Path], megapixels: int) -> bytes:
    """Return a JPEG of so many megapixels that shows twelve of the photos, lying on its side."""
    width, height = SIZE_PX[megapixels]
    cell = (width // COLUMNS, height // ROWS)
    picture = Image.new("RGB", (width, height))
    for number in range(COLUMNS * ROWS):
        with Image.open(paths[number % len(paths)]) as photo:
            tile = photo.convert("RGB").resize(cell, Image.Resampling.BICUBIC)
        picture.paste(tile, (number % COLUMNS * cell[0], number // COLUMNS * cell[1]))
    noise = Image.frombytes("L", (width, height), random.Random(0).randbytes(width * height))
    grain = noise.point([128 + GRAIN * (value - 128) // 128 for value in range(256)]).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = LYING
    buffer = io.BytesIO()
    ImageChops.add(picture, grain, offset=-128).transpose(Image.Transpose.ROTATE_90).save(
        buffer, "JPEG", quality=QUALITY, exif=exif
    )
    return buffer.getvalue()


def _search(report: Report, url: str, photo: bytes, searches: int) -> None:
    """Search with the photo again and again, and note how long each stage took."""
    timings: list[Mapping[str, float]] = []
    answer: dict[str, Any] = {}
    with httpx.Client(base_url=url, timeout=90, headers=key_headers()) as client:
        for number in range(searches + 2):
            started = time.perf_counter()
            response = client.post("/v1/search", files={"photo": photo}, params={"top_k": TOP_K, "objects": OBJECTS})
            took_ms = (time.perf_counter() - started) * 1e3
            answer = response.raise_for_status().json()
            if number >= 2:  # The first ones warm the models up.
                timings.append(answer["timings_ms"] | {"client": took_ms})
    for stage in (*STAGES, "client"):
        each = [timing[stage] for timing in timings]
        report.rows.append({"stage": stage, "median ms": statistics.median(each), "p95 ms": percentile(each, 0.95)})
    full = sum(len(found["products"] or ()) == TOP_K for found in answer["objects"] if found["source"] == "detector")
    report.goals.append(Goal(f"objects of the page that have {TOP_K} products", full, OBJECTS, "higher"))


def _decode(report: Report, name: str, photo: bytes, times: int) -> None:
    """Decode the photo in three ways, in turn, and note the processor's time: other work changes that least."""
    ways: dict[str, Callable[[bytes], object]] = {
        "pixels alone ms": pixels,
        "by a full decode ms": working_photo_of_all_pixels,
        "working photo ms": decode,
    }
    took_ms: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(times):
        for way, run in ways.items():
            started = time.process_time()
            run(photo)
            took_ms[way].append((time.process_time() - started) * 1e3)
    medians = {way: statistics.median(each) for way, each in took_ms.items()}
    share = medians["working photo ms"] / medians["by a full decode ms"]
    report.rows.append({"photo": name, "MB": len(photo) / 1e6, **medians, "part of a full decode": share})


def pixels(photo: bytes) -> Image.Image:
    """Decode all pixels, and do nothing with them."""
    file = Image.open(io.BytesIO(photo))
    file.load()
    return file


def working_photo_of_all_pixels(photo: bytes) -> Any:
    """Make a working photo, but for its turn, as it is made where each pixel is decoded and one filter reduces them."""
    file = pixels(photo)
    scale = WORKING_SIDE_PX / max(file.size)
    size = (round(file.width * scale), round(file.height * scale))
    return np.asarray(file.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def _decode_goal(report: Report) -> Goal:
    row = next(row for row in report.rows if "photo" in row)
    return Goal(
        "making the working photo, part of that by a full decode", row["part of a full decode"], DECODE_GOAL, "lower"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_page", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer searches and decodes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    parser.add_argument("--url", help="a service with an index; default: the demo's shop, which is started for this")
    parser.add_argument("--photo", type=Path, metavar="FILE", help="a photo of a phone; default: one that is made up")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_folder(),
        help="the demo's folder; filled where it is empty (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
