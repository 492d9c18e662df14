"""The outcome of one check of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from serve_app.cluster.facts import Survey

Level = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    level: Level
    text: str


def unread(survey: Survey, what: str, name: str) -> Check:
    """Return the check of what could not be read, and why."""
    return Check(name, "warning", f"can't be read: {survey.unread.get(what, 'not asked')}")
