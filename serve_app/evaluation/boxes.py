"""Photos with known boxes, in the formats that labelling tools write: YOLO's and COCO's.

YOLO's is `data.yaml` with `names`, and for each part (`train`, `val`) a folder of photos or a text file that lists
them; beside each folder `images` stands one `labels` with a text file per photo, a line `class x y width height` per
box, in 0…1 of the photo: its centre and size. Of an outline (`class x y x y …`), the box around it is taken.
https://docs.ultralytics.com/datasets/detect/

COCO's is one JSON file with `images`, `annotations` (`bbox`: left, top, width, height in pixels) and `categories`.
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from serve_app.catalogue.formats import IMAGE_SUFFIXES
from serve_app.domain import Box
from serve_app.errors import BadManifest
from serve_app.evaluation.detections import Thing

YAML_SUFFIXES = (".yaml", ".yml")
POINT = 2
FEWEST_NUMBERS = 5
"""Of a line: class, centre, size."""
FEWEST_OF_OUTLINE = 1 + 3 * POINT

Classes = Mapping[str, str | None]
"""A shop's category for each label; None leaves such boxes out."""


@dataclass(frozen=True, slots=True)
class BoxedPhoto:
    """Name a photo, with what it shows."""

    image: Path
    things: tuple[Thing, ...]


def read_boxes(
    path: Path, *, part: str = "val", images: Path | None = None, classes: Classes | None = None
) -> list[BoxedPhoto]:
    """Read photos with their boxes, in the order of their paths.

    `part` is that of a YOLO set, `images` the folder of COCO's photos (default: the file's own). Raises BadManifest.
    """
    photos = _read_yolo(path, part) if path.suffix in YAML_SUFFIXES else _read_coco(path, images or path.parent)
    if not any(photo.things for photo in photos):
        raise BadManifest(f"{path} holds no box")
    photos = [BoxedPhoto(photo.image, _mapped(photo.things, classes, path)) for photo in photos]
    return sorted(photos, key=lambda photo: photo.image)


def parts_of(path: Path) -> tuple[str, ...]:
    """Return which of `train`, `val` and `test` a YOLO set names; none of a COCO file. Raises BadManifest."""
    if path.suffix not in YAML_SUFFIXES:
        return ()
    return tuple(part for part in ("train", "val", "test") if _yaml(path).get(part))


def read_classes(path: Path) -> dict[str, str | None]:
    """Read a class map, lines `label: category`, `label:` alone to leave its boxes out; raises BadManifest."""
    values = _yaml(path)
    if not all(isinstance(each, str) or each is None for each in values.values()):
        raise BadManifest(f"{path} must hold lines `label: category`, or `label:` to leave its boxes out")
    return {str(label): category for label, category in values.items()}


def _mapped(things: Iterable[Thing], classes: Classes | None, path: Path) -> tuple[Thing, ...]:
    if classes is None:
        return tuple(things)
    unknown = {thing.label for thing in things} - classes.keys()
    if unknown:
        raise BadManifest(
            f"{path} has boxes of {', '.join(sorted(unknown))}, which the class map lacks; give each a category, or "
            "`label:` alone to leave it out"
        )
    named = ((thing, classes[thing.label]) for thing in things)
    return tuple(Thing(thing.box, category, thing.crowd) for thing, category in named if category is not None)


def _read_yolo(path: Path, part: str) -> list[BoxedPhoto]:
    described = _yaml(path)
    names = described.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not described.get(part):
        raise BadManifest(
            f"{path} is no set of boxes in YOLO's format with a part {part!r}: it needs `names` and `{part}`"
        )
    root = path.parent / str(described.get("path") or "")
    places = described[part] if isinstance(described[part], list) else [described[part]]
    images = [image for place in places for image in _images(root / str(place))]
    labels = {int(number): str(name) for number, name in names.items()}
    return [BoxedPhoto(image, _yolo_things(_labels_of(image), labels)) for image in images]


def _images(place: Path) -> list[Path]:
    if place.is_dir():
        return [path for path in place.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadManifest(f"{place} is neither a folder of photos nor a list of them") from error
    return [place.parent / line.strip() for line in lines if line.strip()]


def _labels_of(image: Path) -> Path:
    """Return the file of an image's boxes: the last folder `images` of its path is `labels` there."""
    parts = list(image.parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _yolo_things(path: Path, labels: Mapping[int, str]) -> tuple[Thing, ...]:
    """Read the boxes of a photo; one that shows nothing may have no file."""
    if not path.is_file():
        return ()
    things = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                name, *values = (float(value) for value in line.split())
                things.append(Thing(_yolo_box(values), labels[int(name)]))
            except (ValueError, KeyError) as error:
                raise BadManifest(
                    f"line {number} of {path} is no `class x y width height` with a class of `names` and a box in 0…1"
                ) from error
    return tuple(things)


def _yolo_box(values: Sequence[float]) -> Box:
    if len(values) == FEWEST_NUMBERS - 1:
        x, y, width, height = values
        return _box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if len(values) < FEWEST_OF_OUTLINE - 1 or len(values) % POINT:
        raise ValueError("neither a box nor an outline")
    return _box(min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))


def _read_coco(path: Path, folder: Path) -> list[BoxedPhoto]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        labels = {each["id"]: str(each["name"]) for each in document["categories"]}
        images = {each["id"]: each for each in document["images"]}
        things: dict[Any, list[Thing]] = {each: [] for each in images}
        for each in document["annotations"]:
            image = images[each["image_id"]]
            crowd = bool(each.get("iscrowd", 0))
            box = _coco_box(each["bbox"], image["width"], image["height"])
            things[each["image_id"]].append(Thing(box, labels[each["category_id"]], crowd))
        return [BoxedPhoto(folder / images[each]["file_name"], tuple(found)) for each, found in things.items()]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise BadManifest(
            f"{path} is no set of boxes: neither YOLO's data.yaml nor a COCO file of detections ({error!r})"
        ) from error


def _coco_box(values: Sequence[float], width: float, height: float) -> Box:
    left, top, wide, high = values
    return _box(left / width, top / height, (left + wide) / width, (top + high) / height)


def _box(x0: float, y0: float, x1: float, y1: float) -> Box:
    """Return the box, cut at the photo's edges, which tools overstep by a rounding; ValueError where none is left."""
    box = Box(max(0.0, x0), max(0.0, y0), min(1.0, x1), min(1.0, y1))
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise ValueError("the box is empty, or outside the photo")
    return box


def _yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadManifest(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadManifest(f"{path} must hold `name: value` lines")
    return values
