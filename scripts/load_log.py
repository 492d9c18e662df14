"""The outcomes of a load test as lines of a log, small enough that a node keeps all of them until they are read."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from scripts.load_outcome import Answered, by_due
from scripts.load_schedule import Schedule
from scripts.load_summary import Asked

MARK = "shoplens-load-1"
"""Begins each line, with the version of what follows."""
AT_ONCE = 250
"""Searches in one line: container runtimes cut lines of more than 16 KiB."""
DIGITS = 4
"""Of seconds, so that 0.1 ms is told."""
LINE = re.compile(rf"{MARK} (\S+)")
KEPT = [each.name for each in fields(Answered) if each.name != "timings_ms"]
"""What is told of a search: all that a report shows."""


class BadLog(ValueError):
    """Say why no report can be made of a log."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Say what was run, where and when."""

    schedule: Schedule
    asked: Asked
    settings: Mapping[str, Any]
    when: str
    where: Mapping[str, Any]


def lines(ran: Ran, answers: Sequence[Answered]) -> Iterator[str]:
    """Yield the lines of a run."""
    yield _packed({"ran": _plain(ran), "searches": len(answers)})
    for start in range(0, len(answers), AT_ONCE):
        yield _packed({"from": start, "answers": _columns(answers[start : start + AT_ONCE])})


def read(log: str) -> tuple[Ran, list[Answered]]:
    """Return the one run in a log, whose other lines do not matter; raises BadLog."""
    found = [_unpacked(match[1]) for match in LINE.finditer(log)]
    heads = [each for each in found if "ran" in each]
    if len(heads) != 1:
        raise BadLog(f"the log begins {len(heads)} load tests, not one: give all of the log of one leader")
    parts = {each["from"]: each["answers"] for each in found if "answers" in each}
    answers = by_due(note for start in sorted(parts) for note in _rows(parts[start]))
    if len(answers) != heads[0]["searches"]:
        raise BadLog(f"the log tells of {len(answers)} of {heads[0]['searches']} searches: lines of it are missing")
    return _ran(heads[0]["ran"]), answers


def _packed(part: Mapping[str, Any]) -> str:
    text = json.dumps(part, separators=(",", ":"), allow_nan=False)
    return f"{MARK} {base64.b64encode(zlib.compress(text.encode(), 9)).decode()}"


def _unpacked(text: str) -> dict[str, Any]:
    try:
        part: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
    except (binascii.Error, zlib.error, ValueError) as error:
        raise BadLog("a line of the log was cut") from error
    return part


def _columns(answers: Sequence[Answered]) -> dict[str, list[Any]]:
    return {name: [_rounded(getattr(answer, name)) for answer in answers] for name in KEPT}


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value


def _rows(columns: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _plain(ran: Ran) -> dict[str, Any]:
    plain = asdict(ran)
    if math.isnan(ran.asked.capacity):
        del plain["asked"]["capacity"]
    return plain


def _ran(plain: Mapping[str, Any]) -> Ran:
    return Ran(**{**plain, "schedule": Schedule(**plain["schedule"]), "asked": Asked(**plain["asked"])})
