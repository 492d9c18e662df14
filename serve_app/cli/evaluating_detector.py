"""What `shoplens evaluate detector` does."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from serve_app.cli.local import need_detector_weights
from serve_app.config import Config
from serve_app.evaluation.boxes import read_boxes, read_classes
from serve_app.evaluation.detecting import (
    ALL_CONFIDENCES,
    SERVED_IOU,
    DetectorOutcome,
    LabelRow,
    Served,
    examine,
    judge_detector,
)
from serve_app.evaluation.models import models
from serve_app.evaluation.remembering import Memory
from serve_app.weights.chosen import detector_sha256


def evaluate_detector(
    config: Config,
    boxes: Path,
    part: str,
    images: Path | None,
    classes: Path | None,
    json_file: Path | None,
    memory_file: Path,
    console: Console,
) -> None:
    """Let the settings' detector look at photos with known boxes, and show what it found."""
    need_detector_weights(config)
    photos = read_boxes(boxes, part=part, images=images, classes=read_classes(classes) if classes else None)
    own = config.detector
    telling_all = config.model_copy(update={"detector": own.model_copy(update={"min_confidence": ALL_CONFIDENCES})})
    with Memory(memory_file) as memory, Progress(console=console, transient=True) as progress:
        task = progress.add_task("looking", total=len(photos))
        detector = models(telling_all, None, memory).detector
        examined, unusable = examine(
            photos, detector, config.limits.max_pixels, lambda done: progress.advance(task, done)
        )
    outcome = judge_detector(examined, unusable, Served(own.min_confidence, config.limits.max_objects))
    name = f"{config.detector_weights.name}, sha256 {detector_sha256(config)[:12]}…"
    show_detector(outcome, name, own.min_confidence, console)
    if json_file:
        document = outcome.document() | {"detector_sha256": detector_sha256(config)}
        json_file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def show_detector(outcome: DetectorOutcome, name: str, min_confidence: float, console: Console) -> None:
    """Print every figure."""
    console.print(f"[bold]{escape(name)}[/], {outcome.photos:,} photos")
    if outcome.unusable:
        console.print(f"{len(outcome.unusable):,} photos can't be used, as {outcome.unusable[0]}", markup=False)
    table = Table("", "boxes", "AP@.5", "AP@.5…95", "shown", "searched", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in (*outcome.labels, outcome.anything):
        table.add_row(*_cells(row))
    console.print(table)
    at_half, mean = outcome.mean_ap
    console.print(f"mAP@.5 {at_half:.3f}, mAP@.5…95 {mean:.3f}: the means of the labels.", markup=False)
    console.print(
        f"shown, searched: the share of the boxes that an object from confidence {min_confidence:g} on overlaps by "
        f"{SERVED_IOU:g}, whatever it is called. Of {outcome.objects:,} objects, {outcome.right:.3f} show a known box.",
        markup=False,
    )


def _cells(row: LabelRow) -> list[str]:
    return [
        escape(row.label),
        f"{row.things:,}",
        f"{row.ap_50:.3f}",
        f"{row.ap:.3f}",
        escape(str(row.shown)),
        escape(str(row.searched)),
    ]
