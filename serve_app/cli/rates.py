"""`shoplens rates`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve_app.cli.options import ConfigOption, DataDirOption, console
from serve_app.config import Config, load_config
from serve_app.money import CURRENCIES

app = typer.Typer(help="Exchange rates, by which prices are shown in a shopper's currency.", no_args_is_help=True)


@app.command()
def load(
    file: Annotated[
        Path, typer.Argument(help="The ECB's XML, CSV or zipped CSV, or CSV currency,per_eur,date,source.")
    ],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Forget all rates that the file does not hold.")] = False,
) -> None:
    """Load dated rates; a running service uses them at once.

    Of each currency the newest is kept, so that files of several sources add up. The European Central Bank's lie at
    https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml on every working day.
    """
    settings = load_config(config, data_dir=data_dir)
    load_rates(settings, file, console(), replace=replace)


@app.command()
def show(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Show the rates that are used, their day and source, and which of the 35 currencies have none."""
    show_rates(load_config(config, data_dir=data_dir), console(), today=datetime.now(UTC).date())


def load_rates(config: Config, file: Path, console: Console, *, replace: bool) -> None:
    """Bring a file's rates into the data directory; raises BadInput, BadConfig."""
    from serve_app.rates import NO_RATES
    from serve_app.rates_file import read_given, read_rates, write_rates

    given = read_given(file)
    before = NO_RATES if replace else read_rates(config.rates_file)
    after = before.updated(given.by_currency.values())
    write_rates(config.rates_file, after)
    older = [name for name, rate in given.by_currency.items() if after.by_currency[name] is not rate]
    console.print(f"rates loaded into {config.rates_file}: {len(given.by_currency) - len(older)}", markup=False)
    if older:
        console.print(f"left as they were, because the loaded ones are newer: {', '.join(sorted(older))}")


def show_rates(config: Config, console: Console, *, today: date) -> None:
    """Print all rates."""
    from serve_app.rates import BASE
    from serve_app.rates_file import read_rates

    rates = read_rates(config.rates_file).by_currency
    fresh_since = today - timedelta(days=config.market.rates_max_age_days)
    table = Table("currency", "one euro is", "day", "source", box=None, pad_edge=False, header_style="bold")
    for name, rate in sorted(rates.items()):
        stale = ", stale" if rate.day < fresh_since else ""
        table.add_row(name, f"{float(rate.per_eur):.10g}", f"{rate.day}{stale}", rate.source)
    if rates:
        console.print(table)
    missing = [name for name in CURRENCIES if name not in rates and name != BASE]
    if missing:
        console.print(f"without a rate, so not offered: {', '.join(missing)}")
