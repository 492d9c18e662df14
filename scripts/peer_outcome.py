"""What was measured of Shoplens and its peers, as shares of the bare pipeline."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.measuring import Goal, median_and_spread, percentile
from scripts.peer_list import BARE, SHOPLENS, Work, titled

PER = 1_000
"""Photos that CPU-seconds and memory are told for."""


@dataclass(frozen=True, slots=True)
class Round:
    """Hold one round of one side: the photos that were answered, and what they took."""

    seconds: float
    latencies_ms: Sequence[float]
    failed: int
    cpu_s: float
    memory_mib: float

    @property
    def photos_per_s(self) -> float:
        return len(self.latencies_ms) / self.seconds

    @property
    def cpu_s_per_photo(self) -> float:
        """Return infinity where nothing was answered."""
        return self.cpu_s / len(self.latencies_ms) if self.latencies_ms else float("inf")


Measured = Mapping[int, Mapping[str, Sequence[Round]]]
"""Rounds by connections and side; those of one place were measured one after the other."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Say of the sides of a table what their work is."""

    table: str
    work: Mapping[str, Work]

    def bare(self, side: str) -> str:
        """Return the bare pipeline that does the same work."""
        return titled(BARE, self.work[side])

    def shoplens(self, side: str) -> str:
        """Return the Shoplens that does the same work."""
        return titled(SHOPLENS, self.work[side])

    @property
    def peers(self) -> list[str]:
        return [side for side in self.work if not side.startswith((BARE, SHOPLENS))]


def closed_rows(sides: Sides, measured: Measured) -> list[dict[str, Any]]:
    """Return a row per side and number of connections."""
    return [
        _row(sides, connections, side, rounds, by_side[sides.bare(side)])
        for connections, by_side in measured.items()
        for side, rounds in by_side.items()
    ]


def _row(sides: Sides, connections: int, side: str, rounds: Sequence[Round], bare: Sequence[Round]) -> dict[str, Any]:
    share, spread = median_and_spread(shares(rounds, bare))
    cpu, memory = _cpu(rounds), max(each.memory_mib for each in rounds)
    speed = statistics.median(each.photos_per_s for each in rounds)
    row: dict[str, Any] = {
        f"{sides.table}, closed loop": side,
        "connections": connections,
        "photos/s": speed,
        "of bare": share,
        "spread": spread,
    }
    row |= _latencies(_all(rounds), _all(bare))
    return row | {
        f"CPU s per {PER}": PER * cpu,
        "CPU to bare": cpu / _cpu(bare),
        "MiB": memory,
        f"GiB s per {PER}": PER * memory / 1024 / speed if speed else float("inf"),
        "failed": sum(each.failed for each in rounds),
    }


def open_rows(
    sides: Sides, rate: float, part: float, rounds: Mapping[str, tuple[Round, float]]
) -> list[dict[str, Any]]:
    """Return a row per side for searches due at `rate` a second, which is `part` of what the bare pipeline can.

    Rounds come with the part of the searches that were sent late.
    """
    rows = []
    for side, (own, late) in rounds.items():
        bare, _ = rounds[sides.bare(side)]
        rows.append(
            {
                f"{sides.table}, open loop": side,
                "searches/s": rate,
                "of bare's most": part,
                **_latencies(own.latencies_ms, bare.latencies_ms),
                f"CPU s per {PER}": PER * own.cpu_s_per_photo,
                "CPU to bare": own.cpu_s_per_photo / bare.cpu_s_per_photo,
                "failed": own.failed,
                "sent late": late,
            }
        )
    return rows


def shares(rounds: Sequence[Round], others: Sequence[Round]) -> list[float]:
    """Return throughput as a multiple of the others', round by round."""
    return [own.photos_per_s / other.photos_per_s for own, other in zip(rounds, others, strict=True)]


def goals(sides: Sides, measured: Measured, aim: float) -> list[Goal]:
    """Return for each number of connections how Shoplens compares with the peer that comes nearest to it."""
    found = []
    for connections, by_side in measured.items():
        if not sides.peers:
            continue
        least, peer = min(
            (statistics.median(_to_peer(by_side[sides.shoplens(side)], by_side[side])), side) for side in sides.peers
        )
        name = f"{sides.table}, {connections} connections: throughput of Shoplens to that of {peer}"
        found.append(Goal(name, least, aim, "higher"))
    return found


def _to_peer(ours: Sequence[Round], theirs: Sequence[Round]) -> Iterable[float]:
    # One that answers nothing is no rival.
    return [
        own.photos_per_s / other.photos_per_s if other.latencies_ms else float("inf")
        for own, other in zip(ours, theirs, strict=True)
    ]


def _latencies(own_ms: Sequence[float], bare_ms: Sequence[float]) -> dict[str, float]:
    found = {}
    for share in (0.5, 0.99):
        own = percentile(own_ms, share) if own_ms else float("inf")
        found[f"p{share * 100:.0f} ms"] = own
        found[f"p{share * 100:.0f} to bare"] = own / percentile(bare_ms, share)
    return found


def _all(rounds: Iterable[Round]) -> list[float]:
    return [latency for each in rounds for latency in each.latencies_ms]


def _cpu(rounds: Sequence[Round]) -> float:
    answered = len(_all(rounds))
    return sum(each.cpu_s for each in rounds) / answered if answered else float("inf")


def agreement(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> float:
    """Return the part of the lists of products, of answers to the same photos, that begin with the same product.

    Of a photo of which one side has more lists than the other, none does.
    """
    same = total = 0
    for own, other in zip(ours, theirs, strict=True):
        first, second = _firsts(own), _firsts(other)
        total += max(len(first), len(second))
        same += sum(a == b for a, b in zip(first, second, strict=True)) if len(first) == len(second) else 0
    return same / total if total else 0.0


def _firsts(answer: Mapping[str, Any]) -> list[str]:
    lists = [entry["products"] for entry in answer["objects"] if entry["products"] is not None]
    return [products[0]["product_id"] if products else "" for products in lists]
