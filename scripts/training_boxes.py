"""The photos and boxes that a detector is trained with, as Ultralytics' trainer takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from serve_app.errors import BadManifest
from serve_app.evaluation.boxes import BoxedPhoto, Classes, parts_of, read_boxes
from serve_app.evaluation.detections import Thing

TRAIN, VAL = "train", "val"


@dataclass(frozen=True, slots=True)
class BoxSets:
    """Hold what is trained with, what is measured with, and the labels of both in the order of their numbers."""

    train: tuple[BoxedPhoto, ...]
    val: tuple[BoxedPhoto, ...]

    @property
    def labels(self) -> list[str]:
        return sorted({thing.label for photo in (*self.train, *self.val) for thing in photo.things})

    def digest(self) -> str:
        """Return what changes with any photo's place or any box."""
        told = [[str(photo.image), repr(photo.things)] for photo in (*self.train, *self.val)]
        return hashlib.sha256(json.dumps([len(self.train), *told]).encode()).hexdigest()


def read_sets(
    boxes: Path, val: Path | None, val_share: float, images: Path | None = None, classes: Classes | None = None
) -> BoxSets:
    """Read what is trained with, and what is measured with.

    That is the set `val`; without one the part `val` of a YOLO set; without one, a share of the photos that their names
    decide. Raises BadManifest.
    """
    parts = parts_of(boxes)
    if val is None and VAL not in parts:
        every = read_boxes(boxes, part=TRAIN, images=images, classes=classes)
        held_back = [photo for photo in every if _share(photo) < val_share]
        kept = [photo for photo in every if _share(photo) >= val_share]
        sets = BoxSets(tuple(kept), tuple(held_back))
    else:
        trained = read_boxes(boxes, part=TRAIN, images=images, classes=classes)
        measured = read_boxes(val or boxes, part=VAL, images=images if val is None else None, classes=classes)
        sets = BoxSets(tuple(trained), tuple(measured))
    for name, photos in ((TRAIN, sets.train), (VAL, sets.val)):
        if not any(photo.things for photo in photos):
            raise BadManifest(f"{boxes} has no box to {name} with; give more photos, or another --val or --val-share")
    return sets


def write_set(sets: BoxSets, folder: Path) -> Path:
    """Write the sets in YOLO's format, with links to the photos; return data.yaml.

    Boxes of crowds are left out: there is no way to say of them that nobody counted what they hold.
    """
    numbers = {label: number for number, label in enumerate(sets.labels)}
    for part, photos in ((TRAIN, sets.train), (VAL, sets.val)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for number, photo in enumerate(photos):
            link = folder / "images" / part / f"{number:06d}{photo.image.suffix.lower()}"
            link.unlink(missing_ok=True)
            link.symlink_to(photo.image.absolute())
            lines = [_line(thing, numbers[thing.label]) for thing in photo.things if not thing.crowd]
            (folder / "labels" / part / f"{number:06d}.txt").write_text("".join(lines), encoding="utf-8")
    described = folder / "data.yaml"
    names = {number: label for label, number in numbers.items()}
    told = {"path": str(folder.absolute()), TRAIN: f"images/{TRAIN}", VAL: f"images/{VAL}", "names": names}
    described.write_text(yaml.safe_dump(told, allow_unicode=True), encoding="utf-8")
    return described


def balance(photos: Sequence[BoxedPhoto]) -> str:
    """Tell how many photos and boxes there are."""
    return f"{len(photos):,} photos with {sum(len(photo.things) for photo in photos):,} boxes"


def _line(thing: Thing, number: int) -> str:
    box = thing.box
    values = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, box.x1 - box.x0, box.y1 - box.y0)
    return " ".join([str(number), *(f"{value:.6f}" for value in values)]) + "\n"


def _share(photo: BoxedPhoto) -> float:
    """Return a number in 0…1 that the photo's name decides."""
    return int.from_bytes(hashlib.sha256(photo.image.name.encode()).digest()[:4], "big") / 2**32
