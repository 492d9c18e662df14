"""Shares of the bare pipeline as a picture: a column for each table, throughput above, p99 below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.peer_list import BARE

SHOWN = (("of bare", "throughput, of the bare pipeline's"), ("p99 to bare", "p99, times the bare pipeline's"))


def draw(tables: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Write a .png or .svg of the closed-loop rows of each table."""
    figure = Figure(figsize=(6.5 * len(tables), 7), layout="constrained")
    every = figure.subplots(len(SHOWN), len(tables), squeeze=False)
    for column, (title, rows) in enumerate(tables.items()):
        for axes, (value, label) in zip(every[:, column], SHOWN, strict=True):
            _bars(axes, rows, value)
            axes.set_ylabel(label)
        every[0, column].set_title(title)
        every[0, column].legend(fontsize="small")
        every[-1, column].set_xlabel("connections")
    figure.savefig(path)


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]], value: str) -> None:
    column = next(iter(rows[0]))
    sides = [side for side in dict.fromkeys(row[column] for row in rows) if not side.startswith(BARE)]
    connections = list(dict.fromkeys(row["connections"] for row in rows))
    width = 0.8 / len(sides)
    for number, side in enumerate(sides):
        heights = [row[value] for row in rows if row[column] == side]
        axes.bar([place + number * width for place in range(len(connections))], heights, width, label=side)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(connections))], [str(n) for n in connections])
