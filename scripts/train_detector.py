"""Fine-tune the detector on a shop's own boxes, and tell what that gained.

Boxes come as labelling tools write them, YOLO's data.yaml or a COCO JSON file; a class map turns their labels into the
shop's categories, which are what answers then call objects. It starts from the detector of the settings and trains with
Ultralytics' own trainer. A run that was killed goes on after the last epoch that it finished. Photos that were not
trained with are looked at by both detectors; one that finds less of their boxes, whatever their labels, is not written.
The trainer takes its best epoch by the same photos, which flatters its figures a little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, cores
from scripts.training_boxes import BoxSets, balance, read_sets, write_set
from scripts.training_detector import Recipe, claim, train
from serve_app.config import Config, load_config
from serve_app.detector import YoloDetector
from serve_app.errors import ShoplensError
from serve_app.evaluation.boxes import read_classes
from serve_app.evaluation.detecting import ALL_CONFIDENCES, DetectorOutcome, Served, examine, judge_detector
from serve_app.weights.chosen import detector_sha256
from serve_app.weights.loader import digest, verify


def main() -> int:
    arguments = _arguments()
    console = Console()
    # Else Ultralytics would write its settings beside the weights.
    os.environ.setdefault("YOLO_CONFIG_DIR", str((arguments.work / "ultralytics").absolute()))
    config = load_config(arguments.config, data_dir=arguments.data_dir)
    recipe = Recipe(arguments.epochs, arguments.side, arguments.batch, arguments.seed, arguments.freeze)
    report = Report("train_detector", asdict(recipe))
    try:
        sets = _read(arguments)
        start = config.detector_weights
        verify(start, detector_sha256(config))
        console.print(f"train {balance(sets.train)}, measure {balance(sets.val)}, {len(sets.labels)} labels")
        before = _judged(sets, start, detector_sha256(config), arguments, config)
        began = time.monotonic()
        trained = _train(arguments, sets, recipe, start, config, console)
        console.print(f"trained in {time.monotonic() - began:.0f} s")
        after = _judged(sets, trained, digest(trained), arguments, config)
    except (ShoplensError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    report.rows += [_row("before", before), _row("after", after)]
    report.goals.append(Goal("AP@.5 whatever the label", after.anything.ap_50, before.anything.ap_50, "higher"))
    if report.finish(console, arguments.json) == 0:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trained, arguments.out)
        told = f"detector:\n  weights: {arguments.out.absolute()}\n  sha256: {digest(arguments.out)}\n"
        console.print(f"\n{arguments.out} written. Its settings:\n\n{told}", markup=False, soft_wrap=True)
    return report.exit_code()


def _read(arguments: argparse.Namespace) -> BoxSets:
    classes = read_classes(arguments.classes) if arguments.classes else None
    return read_sets(arguments.boxes, arguments.val, arguments.val_share, arguments.images, classes)


def _train(
    arguments: argparse.Namespace, sets: BoxSets, recipe: Recipe, start: Path, config: Config, console: Console
) -> Path:
    claim(arguments.work, recipe, f"{sets.digest()} {detector_sha256(config)}")
    data = write_set(sets, arguments.work / "set")
    return train(
        start,
        data,
        arguments.work,
        recipe,
        device=arguments.device,
        threads=arguments.threads,
        workers=0 if arguments.device == "cpu" else cores(),
        told=lambda epoch: console.print(f"epoch {epoch} of {recipe.epochs}"),
    )


def _judged(
    sets: BoxSets, weights: Path, sha256: str, arguments: argparse.Namespace, config: Config
) -> DetectorOutcome:
    """Let a detector look at the photos that were not trained with, at the side that it serves."""
    detector = YoloDetector(
        weights,
        sha256=sha256,
        device=arguments.device,
        threads=arguments.threads,
        side_px=config.detector.side_px,
        min_confidence=ALL_CONFIDENCES,
    )
    examined, unusable = examine(sets.val, detector, config.limits.max_pixels, lambda _: None)
    return judge_detector(examined, unusable, Served(config.detector.min_confidence, config.limits.max_objects))


def _row(name: str, outcome: DetectorOutcome) -> dict[str, object]:
    at_half, mean = outcome.mean_ap
    anything = outcome.anything
    return {
        "detector": name,
        "mAP@.5": at_half,
        "mAP@.5…95": mean,
        "any label AP@.5": anything.ap_50,
        "AP@.5…95": anything.ap,
        "shown": str(anything.shown),
        "searched": str(anything.searched),
        "objects per photo": outcome.objects / outcome.photos,
        "of a known box": outcome.right,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("boxes", type=Path, help="photos with boxes: YOLO's data.yaml, or a COCO JSON file")
    parser.add_argument("--val", type=Path, help="what is measured with (default: the part `val`, else a share)")
    parser.add_argument(
        "--val-share", type=float, default=0.2, help="share of the photos, where nothing else is given (default: .2)"
    )
    parser.add_argument("--images", type=Path, help="folder of a COCO file's photos (default: the file's own)")
    parser.add_argument("--classes", type=Path, help="class map: YAML lines `label: category`; `label:` leaves it out")
    parser.add_argument("--work", type=Path, required=True, help="folder of this training, which a next run finds")
    parser.add_argument("--out", type=Path, required=True, help="the trained detector, a .pt file")
    parser.add_argument("--config", type=Path, help="settings, whose detector is started from")
    parser.add_argument("--data-dir", type=Path, help="holds the detector's weights, unless the settings name others")
    parser.add_argument("--epochs", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--side", type=int, default=640, help="long side of photos while training, px (default: 640)")
    parser.add_argument("--batch", type=int, default=16, help="photos per step (default: %(default)s)")
    parser.add_argument("--freeze", type=int, default=0, help="first layers that stay as they are (default: none)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    parser.add_argument("--threads", type=int, default=cores(), help="of a CPU (default: all cores)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
