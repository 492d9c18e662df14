"""The one rule by which objects of a photo are chosen, in queries as in the import.

Measured on two product sets with several photos of each product (README, decisions): whole photo and
object together find more than either alone, so both are indexed and both are searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from serve_app.domain import WHOLE_BOX, Box, Detection, Source, View

SAME_PICTURE_BITS = 4
"""Bits of 64 in which the perceptual hashes of one picture may differ, resized or compressed anew."""
SAME_PICTURE_SCORE = 0.985
"""Cosine of the embeddings of one picture: the hash knows no colours, and a style in red is not the one in blue."""


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """Hold the numbers that the rule goes by; `scripts/bench_objects.py` holds others against them.

    Areas are shares of the photo.
    """

    duplicate_iou: float = 0.7
    """Two boxes that overlap more are one thing that the detector named twice, whatever it was named."""
    smallest_area: float = 0.001
    """A box below is no product: 0.1 % is 20 × 20 px of a 640 px photo."""
    area_power: float = 0.5
    """The best object has the most confidence times its area to this power. By the root of the area, a large thing
    twice as wide weighs as much as a doubt of one half."""
    main_confidence: float = 0.4
    """An object that the detector is less sure of is not what the photo is about."""
    main_area: float = 0.10
    with_whole_area: float = 0.5
    """An object that covers more of a photo is searched by its crop and by the whole photo together."""
    import_area: tuple[float, float] = (0.10, 0.85)
    """A main object that covers less is a detail, one that covers more is the whole image again."""


THE_RULE = ObjectRule()


@dataclass(frozen=True, slots=True)
class Focus:
    """Say what of a photo is searched.

    Given `boxes` are only cut; without any, objects are looked for. At most `objects` of either are searched, the best
    or the first ones; with `main_only`, the main one of them, which may be the whole photo.
    """

    objects: int = 3
    main_only: bool = False
    boxes: tuple[Box, ...] = ()
    source: Source = Source.SHOPPER
    """Who drew the boxes."""

    @property
    def detects(self) -> bool:
        """Tell whether objects have to be looked for."""
        return not self.boxes and self.objects > 0


THE_BEST = Focus()


def focuses(focus: Focus, count: int) -> tuple[Focus, ...]:
    """Return what is searched of each of several photos of one thing: the box that it has, else its main object."""
    if focus.boxes:
        return tuple(replace(focus, boxes=(box,)) for box in focus.boxes)
    return (replace(focus, main_only=True),) * count


@dataclass(frozen=True, slots=True)
class ObjectList:
    """Say what one list of products is searched by: rows of the stacked crops."""

    detection: Detection
    source: Source
    main: bool
    crops: tuple[int, ...]
    """Indices into the crops; empty where the object is only shown, not searched."""


def choose_objects(detections: Iterable[Detection], limit: int, rule: ObjectRule = THE_RULE) -> tuple[Detection, ...]:
    """Return at most `limit` distinct objects, the best one first: what is sure and large."""
    ranked = sorted(detections, key=lambda each: _weight(each, rule), reverse=True)
    chosen: list[Detection] = []
    for candidate in ranked:
        if len(chosen) == limit:
            break
        if candidate.box.area < rule.smallest_area:
            continue
        if all(candidate.box.iou(other.box) < rule.duplicate_iou for other in chosen):
            chosen.append(candidate)
    return tuple(chosen)


def _weight(detection: Detection, rule: ObjectRule) -> float:
    return (detection.confidence or 0.0) * float(detection.box.area**rule.area_power)


def import_views(
    detections: Iterable[Detection], *, min_confidence: float, rule: ObjectRule = THE_RULE
) -> dict[View, Detection]:
    """Return the views that a catalogue image is indexed by: the whole, and its main object where there is one."""
    views = {View.WHOLE: Detection(WHOLE_BOX)}
    sure = (d for d in detections if (d.confidence or 0.0) >= min_confidence)
    main = next(iter(choose_objects(sure, 1, rule)), None)
    low, high = rule.import_area
    if main is not None and low <= main.box.area <= high:
        views[View.OBJECT] = main
    return views


def query_boxes(found: Sequence[Detection], focus: Focus, rule: ObjectRule = THE_RULE) -> list[Box]:
    """Return the boxes to cut for a query."""
    return _planned(found, focus, rule)[1]


def query_lists(found: Sequence[Detection], focus: Focus, rule: ObjectRule = THE_RULE) -> tuple[ObjectList, ...]:
    """Return one list per object, and one for the whole photo where no boxes were given, in the order they are shown.

    Main is the best object that is sure and large enough to be what the photo is about, else the whole photo; of given
    boxes the first. `crops` are indices into what `query_boxes` of the same arguments returns.
    """
    return tuple(_planned(found, focus, rule)[0])


def joined_list(photos: Iterable[tuple[Sequence[Detection], Focus]], rule: ObjectRule = THE_RULE) -> ObjectList:
    """Return the one list that several photos of one thing are searched for, shown as what the first of them has.

    `crops` are indices into what `query_boxes` returns for all of them, one after the other.
    """
    lists, crops, cut = [], [], 0
    for found, focus in photos:
        planned, boxes = _planned(found, focus, rule)
        lists.append(next(entry for entry in planned if entry.main))
        crops += [cut + i for i in lists[-1].crops]
        cut += len(boxes)
    return replace(lists[0], crops=tuple(crops))


def _planned(found: Sequence[Detection], focus: Focus, rule: ObjectRule) -> tuple[list[ObjectList], list[Box]]:
    searched = 1 if focus.boxes and focus.main_only else focus.objects
    if focus.boxes:
        # Exactly what was given: a crop from a phone has to find what the same box of the whole photo finds.
        lists = [
            ObjectList(Detection(box), focus.source, main=i == 0, crops=(i,) if i < searched else ())
            for i, box in enumerate(focus.boxes)
        ]
        return lists, list(focus.boxes[:searched])
    main = next((i for i, detection in enumerate(found[:searched]) if _is_main(detection, rule)), None)
    wanted = [i == main if focus.main_only else i < searched for i in range(len(found))]
    whole = main is None or not focus.main_only
    joined = any(found[i].box.area > rule.with_whole_area for i, asked in enumerate(wanted) if asked)
    boxes = [WHOLE_BOX] if whole or joined else []
    lists = []
    for i, detection in enumerate(found):
        crops: tuple[int, ...] = ()
        if wanted[i]:
            crops = (len(boxes), 0) if detection.box.area > rule.with_whole_area else (len(boxes),)
            boxes.append(detection.box)
        lists.append(ObjectList(detection, Source.DETECTOR, main=i == main, crops=crops))
    lists.append(ObjectList(Detection(WHOLE_BOX), Source.WHOLE, main=main is None, crops=(0,) if whole else ()))
    return lists, boxes


def _is_main(detection: Detection, rule: ObjectRule) -> bool:
    return (detection.confidence or 0.0) >= rule.main_confidence and detection.box.area >= rule.main_area


def is_same_picture(phash: str, other: str, score: float) -> bool:
    """Tell whether two images are one picture, by their perceptual hashes of 16 hex digits and their cosine."""
    if not phash or not other or score < SAME_PICTURE_SCORE:
        return False
    return (int(phash, 16) ^ int(other, 16)).bit_count() <= SAME_PICTURE_BITS
