"""A promotion as the registry remembers it: written before each step, so that one that was killed goes on."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.collection import STAMP
from serve_app.errors import BadConfig
from serve_app.folders import Folder
from serve_app.promotion.shadowed import Shadowed
from serve_app.promotion.watch import Round
from serve_app.weights.registry import Fingerprint

PROMOTIONS = "promotions"


class Step(StrEnum):
    """Say what is to be done next, or how it ended."""

    GATE = "gate"
    FILL = "fill"
    SHADOW = "shadow"
    BASELINE = "baseline"
    ROLL_OUT = "roll-out"
    WATCH = "watch"
    DONE = "done"
    REFUSED = "refused"
    ROLL_BACK = "roll-back"
    ROLLED_BACK = "rolled back"

    @property
    def is_under_way(self) -> bool:
        return self not in (Step.DONE, Step.REFUSED, Step.ROLLED_BACK)


class Promotion(BaseModel):
    """Hold one promotion of a catalogue's model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalogue: str
    before: Fingerprint
    after: Fingerprint
    began: str = Field(description="UTC, as names of collections have it")
    step: Step = Step.GATE
    gate: dict[str, Any] | None = None
    collection: str | None = None
    shadow: Shadowed | None = None
    canary: str = Field("", description="sha256 of the canary set: rounds of another one can't be compared")
    baseline: Round | None = None
    rounds: tuple[Round, ...] = ()
    reason: str = ""

    def with_(self, **changes: Any) -> Promotion:
        return self.model_copy(update=changes)

    @property
    def name(self) -> str:
        return f"{PROMOTIONS}/{self.catalogue}/{self.began}-{self.after}.json"


class Records:
    """Keep the promotions of a catalogue, each in a file of its own."""

    def __init__(self, folder: Folder, catalogue: str) -> None:
        self._folder = folder
        self._catalogue = catalogue

    def last(self) -> Promotion | None:
        """Return the newest promotion; raises BadConfig where it can't be read."""
        files = self._folder.files(f"{PROMOTIONS}/{self._catalogue}")
        if not files:
            return None
        try:
            return Promotion.model_validate_json(self._folder.read(files[-1].name))
        except ValidationError as error:
            raise BadConfig(f"{files[-1].name} in {self._folder.place} can't be read: {error}") from error

    def save(self, promotion: Promotion) -> Promotion:
        self._folder.write(promotion.name, (promotion.model_dump_json(indent=2) + "\n").encode())
        return promotion

    def begin(self, before: str, after: str, now: datetime) -> Promotion:
        """Return the promotion that is under way, or a new one; raises BadConfig where another one is under way."""
        last = self.last()
        if last is not None and last.step.is_under_way:
            if last.after != after:
                raise BadConfig(
                    f"the promotion of {last.after} is under way ({last.step}); run it again, or roll it back"
                )
            return last
        if before == after:
            raise BadConfig(f"the service answers with {after} already")
        began = now.strftime(STAMP)
        return self.save(Promotion(catalogue=self._catalogue, before=before, after=after, began=began))
