"""How well a detector finds known boxes: by COCO's measure, and at the threshold that searches go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serve_app.domain import Detection, Photo
from serve_app.errors import BadInput
from serve_app.evaluation.boxes import BoxedPhoto
from serve_app.evaluation.detections import Examined, average_precisions, taken
from serve_app.evaluation.remembering import DetectorModel
from serve_app.evaluation.resampling import Interval, intervals
from serve_app.images import decode
from serve_app.objects import THE_BEST, choose_objects

ALL_CONFIDENCES = 0.001
"""A detector that is judged by average precision has to say all that it takes for possible."""
SERVED_IOU = 0.5
"""A thing is found where an object's box overlaps its own by so much."""
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Served:
    """Say what becomes of detections in a search: the settings' threshold, and how many objects are shown."""

    min_confidence: float
    most_shown: int
    searched: int = THE_BEST.objects


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Hold the figures of one label, or of all whatever their labels.

    Recall is the share of the known things that some object of the photo is of, whatever it was named, because labels
    are only shown. Its intervals are drawn over photos.
    """

    label: str
    things: int
    ap_50: float
    ap: float
    shown: Interval
    searched: Interval


@dataclass(frozen=True, slots=True)
class DetectorOutcome:
    """Hold what a detector made of a set; `right` is the share of shown objects that are of a known thing."""

    photos: int
    unusable: tuple[str, ...]
    anything: LabelRow
    labels: tuple[LabelRow, ...]
    objects: int
    right: float

    @property
    def mean_ap(self) -> tuple[float, float]:
        """Return mAP at IoU .5, and over .5 to .95: the means over labels."""
        return float(np.mean([row.ap_50 for row in self.labels])), float(np.mean([row.ap for row in self.labels]))

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON takes them."""
        names = ("mAP@.5", "mAP")
        return {"name": "evaluate detector", **asdict(self), **dict(zip(names, self.mean_ap, strict=True))}


def examine(
    photos: Sequence[BoxedPhoto], model: DetectorModel, max_pixels: int, told: Callable[[int], None]
) -> tuple[list[Examined], list[str]]:
    """Look at photos; return what was found beside what is known, and which photos can't be used, with the reason.

    The model has to tell all from ALL_CONFIDENCES on.
    """
    examined: list[Examined] = []
    unusable: list[str] = []
    for start in range(0, len(photos), AT_ONCE):
        some: list[tuple[BoxedPhoto, Photo]] = []
        for each in photos[start : start + AT_ONCE]:
            try:
                some.append((each, decode(each.image.read_bytes(), max_pixels=max_pixels)))
            except (OSError, BadInput) as error:
                unusable.append(f"{each.image}: {error}")
        found = model.find([photo for _, photo in some]) if some else []
        examined += [Examined(each.things, detections) for (each, _), detections in zip(some, found, strict=True)]
        told(len(photos[start : start + AT_ONCE]))
    return examined, unusable


def judge_detector(photos: Sequence[Examined], unusable: Sequence[str], served: Served) -> DetectorOutcome:
    """Count what was found; raises BadInput where the photos show nothing."""
    labels = sorted({thing.label for photo in photos for thing in photo.things if not thing.crowd})
    if not labels:
        raise BadInput("no photo with a box can be used")
    shown = [_objects(photo.found, served) for photo in photos]
    right = sum(
        place is not None for photo, objects in zip(photos, shown, strict=True) for place in _of(photo, objects)
    )
    count = sum(map(len, shown))
    return DetectorOutcome(
        photos=len(photos),
        unusable=tuple(unusable),
        anything=_row("any", photos, photos, shown, served, None),
        labels=tuple(
            _row(label, [each.of(label) for each in photos], photos, shown, served, label) for label in labels
        ),
        objects=count,
        right=right / count if count else 0.0,
    )


def _objects(found: Iterable[Detection], served: Served) -> tuple[Detection, ...]:
    sure = [each for each in found if (each.confidence or 0.0) >= served.min_confidence]
    return choose_objects(sure, served.most_shown)


def _of(photo: Examined, objects: Sequence[Detection]) -> list[int | None]:
    return taken(objects, photo.things, SERVED_IOU)


def _row(
    name: str,
    own: Sequence[Examined],
    photos: Sequence[Examined],
    shown: Sequence[Sequence[Detection]],
    served: Served,
    label: str | None,
) -> LabelRow:
    precisions = average_precisions(own)
    values, clusters = [], []
    for number, (photo, objects) in enumerate(zip(photos, shown, strict=True)):
        among = [set(_of(photo, objects[:most])) for most in (len(objects), served.searched)]
        for place, thing in enumerate(photo.things):
            if not thing.crowd and label in (None, thing.label):
                values.append([float(place in places) for places in among])
                clusters.append(str(number))
    by_shown, by_searched = intervals(values, clusters)
    return LabelRow(name, len(values), float(precisions[0]), float(precisions.mean()), by_shown, by_searched)
