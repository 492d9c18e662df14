"""The lines of one request, out of the logs of all pods."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from serve_app.cluster.facts import Pod
from serve_app.cluster.observing import AWAY, Api, Target

MOST_LINES = 1000
MOST_BYTES = 64 * 2**20
"""Read of each container's log."""


@dataclass(frozen=True, slots=True, order=True)
class Line:
    at: datetime
    pod: str
    container: str
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    """What was left out or could not be read, and why."""


def lines_of(api: Api, target: Target, pods: Iterable[Pod], request_id: str, since_s: int) -> Found:
    """Return the lines that name the request, in the order of their times, at most `MOST_LINES`."""
    lines: list[Line] = []
    notes: list[str] = []
    # Not a part of a longer id.
    named = re.compile(rf"(?<![A-Za-z0-9_-]){re.escape(request_id)}(?![A-Za-z0-9_-])")
    query = {"timestamps": "true", "sinceSeconds": str(since_s), "limitBytes": str(MOST_BYTES)}
    for pod in pods:
        for container in pod.containers:
            log = api.lines(f"{target.core}/pods/{quote(pod.name)}/log", {**query, "container": container})
            try:
                for at, text in _matching(log, named):
                    lines.append(Line(at, pod.name, container, text))
            except _Bound as bound:
                notes.append(f"{pod.name}/{container}: {bound}; narrow it with --since")
            except AWAY as error:
                notes.append(f"{pod.name}/{container}: {error.message}")
    if len(lines) > MOST_LINES:
        notes.append(f"{len(lines) - MOST_LINES} more lines are left out; narrow it with --since")
    return Found(tuple(sorted(lines)[:MOST_LINES]), tuple(notes))


class _Bound(Exception):
    """A container's log is longer than what is read of it."""


def _matching(log: Iterable[str], named: re.Pattern[str]) -> Iterator[tuple[datetime, str]]:
    size_bytes = matched = 0
    for raw in log:
        size_bytes += len(raw.encode()) + 1
        at, _, text = raw.partition(" ")
        if named.search(text) and (moment := _moment(at)) is not None:
            yield moment, text
            matched += 1
        if matched > MOST_LINES:
            raise _Bound(f"more than {MOST_LINES} lines name the request")
    if size_bytes >= MOST_BYTES:
        raise _Bound(f"only the first {MOST_BYTES // 2**20} MiB were read")


def _moment(at: str) -> datetime | None:
    """Read the time that the kubelet put before a line; None for the rest of a line cut at the bound."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC)
    except ValueError:
        return None
