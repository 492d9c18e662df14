"""`shoplens plan`."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from serve_app.capacity import Line, Load, plan, shown


def show(load: Load, console: Console, *, as_json: bool) -> None:
    """Print what a load needs, with formulas and sources."""
    lines = plan(load)
    if as_json:
        console.print_json(json.dumps([_values(line) for line in lines], ensure_ascii=False))
        return
    table = Table("", "number", "", "formula", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for line in lines:
        found = line.figure
        table.add_row(line.name, shown(found.value), found.unit, found.formula)
    console.print(table)
    sources = dict.fromkeys(source for line in lines for source in line.figure.sources)
    if sources:
        console.print(f"Measured figures are from {'; '.join(sources)}.", markup=False)
    for missing in dict.fromkeys(line.figure.missing for line in lines if line.figure.missing):
        console.print(f"?: {missing}.", markup=False)


def _values(line: Line) -> dict[str, object]:
    found = line.figure
    return {
        "name": line.name,
        "value": found.value,
        "unit": found.unit,
        "formula": found.formula,
        "sources": found.sources,
        "missing": found.missing or None,
    }
