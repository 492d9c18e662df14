"""The choices that the object rule makes, and others that it could make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serve_app.config import Config
from serve_app.domain import Box, Detection, View
from serve_app.objects import THE_BEST, THE_RULE, Focus, ObjectList, ObjectRule, choose_objects, import_views
from serve_app.objects import query_boxes as boxes_of
from serve_app.objects import query_lists as lists_of

LOWEST_CONFIDENCE = 0.1
"""The detector is asked for all that it is so sure of, so that each choice can leave out what it is less sure of."""
NEVER, ALWAYS = 1.01, 0.0
"""As the least confidence, or the largest share of a photo."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold all that decides which crops of a photo are searched, and which views of an image are indexed."""

    decision: str = ""
    name: str = "as it is"
    rule: ObjectRule = THE_RULE
    objects: int = THE_BEST.objects
    min_confidence: float = 0.0
    import_confidence: float = 0.0
    most_found: int = 0

    def lists(self, detections: Iterable[Detection]) -> tuple[tuple[ObjectList, ...], list[Box]]:
        """Return the lists of a query, and the boxes that their crops are of."""
        sure = [each for each in detections if (each.confidence or 0.0) >= self.min_confidence]
        found = choose_objects(sure, self.most_found, self.rule)
        focus = Focus(self.objects)
        return lists_of(found, focus, self.rule), boxes_of(found, focus, self.rule)

    def indexed(self, detections: Iterable[Detection]) -> Box | None:
        """Return the box of the main object that an image is indexed by beside the whole, where there is one."""
        sure = [each for each in detections if (each.confidence or 0.0) >= self.min_confidence]
        views = import_views(sure, min_confidence=self.import_confidence, rule=self.rule)
        return views[View.OBJECT].box if View.OBJECT in views else None


def as_it_is(config: Config) -> Choice:
    """Return the choice that the settings make."""
    return Choice(
        min_confidence=config.detector.min_confidence,
        import_confidence=config.importing.min_confidence if config.importing.views != "whole" else NEVER,
        most_found=config.limits.max_objects,
    )


def others(now: Choice) -> Sequence[Choice]:
    """Return what else could be chosen, one thing changed at a time."""

    def ruled(decision: str, name: str, **changes: Any) -> Choice:
        return replace(now, decision=decision, name=name, rule=replace(now.rule, **changes))

    found = [
        replace(
            now, decision="objects searched", name=str(number) if number else "0: whole photo alone", objects=number
        )
        for number in (0, 1, 2, 3, 4, 5)
        if number != now.objects
    ]
    found += [
        replace(now, decision="detector's threshold", name=f"{least:g}", min_confidence=least)
        for least in (0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
        if least != now.min_confidence
    ]
    found += [
        ruled("main object: least confidence", f"{x:g}", main_confidence=x) for x in (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)
    ]
    found += [ruled("main object: least area", f"{x:g}", main_area=x) for x in (0.0, 0.05, 0.2, 0.3, 0.5)]
    found += [
        ruled("main object: both", "the best one, whatever it is", main_confidence=0.0, main_area=0.0),
        ruled("main object: both", "0.6, 0.3", main_confidence=0.6, main_area=0.3),
        ruled("main object: both", "never: the whole photo", main_confidence=NEVER),
    ]
    found += [ruled("best object: area to the power", f"{x:g}", area_power=x) for x in (0.0, 0.25, 1.0)]
    found += [ruled("one thing above IoU", f"{x:g}", duplicate_iou=x) for x in (0.5, 0.6, 0.8, 0.9)]
    found += [
        ruled("with the whole photo above", name, with_whole_area=x)
        for name, x in (("always", ALWAYS), ("0.3", 0.3), ("0.7", 0.7), ("never", NEVER))
    ]
    found.append(replace(now, decision="import views", name="whole alone", import_confidence=NEVER))
    found += [
        replace(now, decision="import views", name=f"confidence {least:g}", import_confidence=least)
        for least in (0.25, 0.3, 0.5, 0.6, 0.7)
    ]
    found += [
        ruled("import views", f"area {low:g} to {high:g}", import_area=(low, high))
        for low, high in ((0.0, 1.0), (0.05, 0.85), (0.2, 0.85), (0.1, 0.7), (0.1, 0.95))
    ]
    return found
