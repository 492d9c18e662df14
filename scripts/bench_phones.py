"""Compare the detector that phones run with the one of the service, and crops that phones send with those it cuts.

Boxes are matched one to one within one head: an export of the one-to-one head with that head of the network, NCNN's,
which has the other one, with that and the same suppression. Both see the same squares. CoreML is made, or refused with
a reason, and never run: only Apple's systems run it. Needs the extras `export` and `import`; a format whose packages
are missing is shown with the reason.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from scripts import phone_crops
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report
from scripts.phone_runtimes import Find, Rows, exported, network
from serve_app.config import Config, load_config
from serve_app.domain import Box, Pixels
from serve_app.errors import ShoplensError
from serve_app.evaluation.gallery import read_gallery
from serve_app.evaluation.models import models
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.remembering import Memory
from serve_app.exporting import PADDING, Exported, export_detector
from serve_app.images import decode
from serve_app.weights.formats import Format
from serve_app.weights.loader import DETECTOR_SHA256

SURE = 0.4
IOU = 0.9
MATCHED_GOAL, COSINE_GOAL, SHARED_GOAL = 0.97, 0.98, 9


@dataclass
class Matches:
    """Count the reference's sure boxes, and hold the overlap of those that have a partner."""

    boxes: int = 0
    ious: list[float] = field(default_factory=list)

    def add(self, reference: Rows, found: Rows) -> None:
        sure = reference[reference[:, 4] >= SURE]
        self.boxes += len(sure)
        self.ious += matched(sure, found)

    @property
    def share(self) -> float:
        """Return the part of the sure boxes that have a partner at IoU .9."""
        return sum(iou >= IOU for iou in self.ious) / self.boxes if self.boxes else 0.0


def matched(reference: Rows, found: Rows) -> list[float]:
    """Return the IoU of each pair of boxes of one label, the closest pairs first, no box in two of them."""
    ones, others = _boxes(reference), _boxes(found)
    pairs = [
        (one.iou(other), i, j)
        for (i, (one, label)), (j, (other, same)) in product(enumerate(ones), enumerate(others))
        if label == same
    ]
    ious, taken, gone = [], set(), set()
    for iou, i, j in sorted(pairs, reverse=True):
        if iou > 0 and i not in taken and j not in gone:
            taken.add(i)
            gone.add(j)
            ious.append(iou)
    return ious


def _boxes(rows: Rows) -> list[tuple[Box, int]]:
    return [(Box(*row[:4]), int(row[5])) for row in rows.tolist()]


def main() -> int:
    arguments = _arguments()
    console = Console()
    images = arguments.images or (60 if arguments.quick else 300)
    photos = arguments.photos or (20 if arguments.quick else 100)
    report = Report(
        "bench_phones", {"sets": [path.stem for path in arguments.sets], "images": images, "photos": photos}
    )
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = _config(arguments, Path(folder))
            with Memory(arguments.memory or Path(folder) / "memory.sqlite") as memory:
                _crops(report, arguments.sets, images, photos, config, memory)
            if arguments.formats:
                _formats(report, arguments, photos, config, Path(folder))
    except (OSError, ShoplensError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _config(arguments: argparse.Namespace, folder: Path) -> Config:
    config = load_config(data_dir=folder)
    detector = config.detector.model_copy(update={"weights": arguments.weights})
    return config.model_copy(update={"detector": detector})


def _crops(report: Report, sets: Sequence[Path], images: int, photos: int, config: Config, memory: Memory) -> None:
    used = models(config, None, memory)
    rows = [phone_crops.row(_name(path), phone_crops.compare(path, images, photos, used, config)) for path in sets]
    report.rows += rows
    for name, goal in (("cosine, median", COSINE_GOAL), ("of 10 products shared, median", SHARED_GOAL)):
        value = statistics.median(float(str(row[name])) for row in rows)
        report.goals.append(Goal(f"crops: {name}, median of the sets", value, goal, "higher"))


def _formats(report: Report, arguments: argparse.Namespace, photos: int, config: Config, folder: Path) -> None:
    side_px = config.detector.side_px
    boards = [board for path in arguments.sets for board in _boards(path, photos, config, side_px)]
    compared = Compared(arguments.weights, boards)
    for kind in arguments.formats:
        started = time.monotonic()
        try:
            made = export_detector(arguments.weights, DETECTOR_SHA256, kind, folder / "phones", side_px)
        except ShoplensError as error:
            report.rows.append(_row(kind, f"refused: {error.message}"))
            continue
        seconds = time.monotonic() - started
        if kind is Format.COREML:
            report.rows.append(_row(kind, "made, not run", made, seconds))
            continue
        matches, figures = compared.with_network(made, kind)
        head = "one to many" if kind is Format.NCNN else "one to one"
        report.rows.append(_row(kind, head, made, seconds) | figures)
        goal = f"{kind}: part of {matches.boxes} sure boxes that have a partner"
        report.goals.append(Goal(goal, matches.share, MATCHED_GOAL, "higher"))


class Compared:
    """Compare exports with the network's own heads on the same boards; each head is run once."""

    def __init__(self, weights: Path, boards: Sequence[Pixels]) -> None:
        self._weights = weights
        self._boards = boards
        self._known: dict[bool, tuple[list[Rows], float]] = {}

    def with_network(self, made: Exported, kind: Format) -> tuple[Matches, dict[str, Any]]:
        one_to_one = kind is not Format.NCNN
        if one_to_one not in self._known:
            self._known[one_to_one] = _run(network(self._weights, one_to_one=one_to_one), self._boards)
        reference, reference_ms = self._known[one_to_one]
        found, ms = _run(exported(made.model, kind), self._boards)
        matches = Matches()
        for one, other in zip(reference, found, strict=True):
            matches.add(one, other)
        least = min(matches.ious, default=0.0)
        return matches, {
            "boxes": matches.boxes,
            "matched": matches.share,
            "least IoU": least,
            "ms": ms,
            "network's ms": reference_ms,
        }


def _row(kind: Format, state: str, made: Exported | None = None, seconds: float = 0.0) -> dict[str, Any]:
    size = "–" if made is None else f"{made.size_bytes / 1e6:.1f}"
    told = "–" if made is None else f"{seconds:.0f}"
    unknown = dict.fromkeys(("boxes", "matched", "least IoU", "ms", "network's ms"), "–")
    return {"format": kind.value, "head": state, "MB": size, "s to make": told, **unknown}


def _boards(path: Path, photos: int, config: Config, side_px: int) -> list[Pixels]:
    """Return the squares that a phone makes of a set's photos."""
    gallery = phone_crops.sampled(read_gallery(path)[0], photos)
    with Photos(config) as files:
        working = [decode(files.file(entry.image, gallery.base)).pixels for entry in gallery.entries]
    return [squared(pixels, side_px) for pixels in working]


def squared(pixels: Pixels, side_px: int) -> Pixels:
    """Fit a photo into the middle of a grey square."""
    from serve_app.detector import letterbox

    board = letterbox(pixels, side_px)
    square = np.full((side_px, side_px, 3), PADDING, np.uint8)
    top, left = (side_px - board.shape[0]) // 2, (side_px - board.shape[1]) // 2
    square[top : top + board.shape[0], left : left + board.shape[1]] = board
    return square


def _run(find: Find, boards: Sequence[Pixels]) -> tuple[list[Rows], float]:
    """Return what is found on each board, and the median milliseconds that it takes."""
    find(boards[0])
    found, times = [], []
    for board in boards:
        started = time.perf_counter()
        found.append(find(board))
        times.append((time.perf_counter() - started) * 1e3)
    return found, statistics.median(times)


def _name(path: Path) -> str:
    return path.parent.name if path.is_file() else path.name


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path, help="catalogues: manifests, or folders as an import takes them")
    parser.add_argument("--weights", type=Path, required=True, help="the detector's weights, yolo26n.pt")
    parser.add_argument(
        "--formats", nargs="*", type=Format, default=list(Format), help="formats to make and run (default: all)"
    )
    parser.add_argument("--images", type=int, help="images of each set that are searched (default: 300, quick: 60)")
    parser.add_argument("--photos", type=int, help="photos of each set that are sent (default: 100, quick: 20)")
    parser.add_argument("--memory", type=Path, help="file that keeps what models said, for other runs")
    parser.add_argument("--quick", action="store_true", help="fewer images and photos")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
