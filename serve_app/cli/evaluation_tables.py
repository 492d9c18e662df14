"""The figures of an evaluation on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.calibration import Check
from serve_app.evaluation.figures import Compared, Row
from serve_app.evaluation.outcome import Outcome


def show(outcome: Outcome, console: Console) -> None:
    """Print every figure with its interval."""
    gallery = outcome.gallery
    console.print(f"{len(gallery.images):,} images of {len(gallery.products):,} products are searched.")
    if outcome.unanswerable:
        console.print(f"{outcome.unanswerable:,} photos are left out: no other image shows their product.")
    if outcome.unusable:
        first = outcome.unusable[0]
        console.print(f"{len(outcome.unusable):,} files can't be used, as {first.image}: {first.reason}.", markup=False)
    for each in outcome.judged:
        flags = "".join(f", {number:,} answers with {flag}" for flag, number in each.degraded.items())
        console.print(f"\n[bold]{escape(each.run.name)}[/], model {each.run.model}{flags}")
        for rows in _alike([*each.rows, *each.categories]):
            console.print(_figures(rows))
    if outcome.overlap:
        console.print(f"\nOf the products of exact lists, {outcome.overlap} are in the other's too.", markup=False)
    if outcome.compared:
        before, after = (each.run.name for each in outcome.judged)
        console.print(f"\n[bold]{escape(after)} against {escape(before)}[/], photo by photo")
        console.print(_comparison(outcome.compared))
    if outcome.curve and outcome.curve.first_products and outcome.curve.all_products:
        _show_check("first products of lists", outcome.curve.first_products, console)
        _show_check("all products of lists", outcome.curve.all_products, console)
    if outcome.stored:
        _show_check("the given curve, first products of lists", outcome.stored[1], console)
        _show_check("the given curve, all products of lists", outcome.stored[0], console)


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Return tables of rows with the same kind of figures."""
    tables: dict[bool, list[Row]] = {}
    for row in rows:
        tables.setdefault("R@1" in row.figures, []).append(row)
    return list(tables.values())


def _figures(rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    table = Table("", "", "photos", "products", *names, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        figures = (escape(str(row.figures.get(name, ""))) for name in names)
        table.add_row(escape(row.line), row.rule, f"{row.photos:,}", f"{row.products:,}", *figures)
    return table


def _comparison(compared: Sequence[Compared]) -> Table:
    table = Table("", "", "", "difference", "95 %", "p", "smallest", "", box=None, pad_edge=False, header_style="bold")
    for each in compared:
        for name, found in each.differences.items():
            verdict = ("better" if found.value > 0 else "worse") if found.significant else "not shown"
            between = f"{found.low:+.3f} … {found.high:+.3f}"
            numbers = (f"{found.value:+.3f}", between, f"{found.chance:.4f}", f"{found.smallest:.3f}")
            table.add_row(escape(each.line), each.rule, name, *numbers, verdict)
    return table


def _show_check(name: str, check: Check, console: Console) -> None:
    console.print(f"\n[bold]Chances, {name}[/]: {check.products:,}, {check.right:,} of them right")
    console.print(
        f"Brier score {check.brier:.4f}, {check.constant_brier:.4f} for saying the same of all; "
        f"mean distance {check.error:.3f}"
    )
    table = Table("chance", "products", "said", "true", box=None, pad_edge=False, header_style="bold")
    for each in check.bins:
        table.add_row(f"{each.low:.1f}–{each.high:.1f}", f"{each.products:,}", f"{each.said:.3f}", f"{each.true:.3f}")
    console.print(table)
