"""Rates are loaded while the service runs."""

import logging
from datetime import date
from fractions import Fraction

import pytest
from rich.console import Console

from serve_app.cli.rates import load_rates, show_rates
from serve_app.config import load_config
from serve_app.errors import BadConfig, BadInput
from serve_app.rates import NO_RATES, Rate
from serve_app.rates_file import read_given, read_rates, watch_rates, write_rates

HEADER = "currency,per_eur,date,source\n"


def table(value: str = "1.1"):
    return NO_RATES.updated([Rate("USD", Fraction(value), date(2026, 10, 30), "test")])


def test_there_are_no_rates_before_any_is_loaded(tmp_path):
    assert read_rates(tmp_path / "rates.csv") == NO_RATES
    assert watch_rates(tmp_path / "rates.csv").current() == NO_RATES


def test_loaded_rates_are_used_at_once(tmp_path):
    file = watch_rates(tmp_path / "rates.csv")
    file.current()
    write_rates(tmp_path / "rates.csv", table("1.1"))
    assert file.current().convert(100, "EUR", "USD").minor == 110
    write_rates(tmp_path / "rates.csv", table("1.2"))
    assert file.current().convert(100, "EUR", "USD").minor == 120


def test_a_file_that_breaks_leaves_the_last_rates_in_use(tmp_path, caplog):
    path = tmp_path / "rates.csv"
    write_rates(path, table())
    file = watch_rates(path)
    before = file.current()
    path.write_text(HEADER + "USD,none,2026-10-30,x\n")
    with caplog.at_level(logging.ERROR, "serve_app.watched_file"):
        assert file.current() == before
        assert file.current() == before
    assert len(caplog.records) == 1
    with pytest.raises(BadConfig, match="line 2: 'none' is no rate"):
        read_rates(path)


def test_a_file_that_is_not_there_can_not_be_loaded(tmp_path):
    with pytest.raises(BadInput, match="can't be read"):
        read_given(tmp_path / "none.csv")


def test_rates_that_can_not_be_written_name_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadConfig, match=r"rates.csv"):
        write_rates(tmp_path / "file" / "rates.csv", table())


def load(tmp_path, text: str, *, replace: bool = False) -> str:
    given = tmp_path / "given.csv"
    given.write_text(HEADER + text)
    console = Console(record=True, width=200)
    load_rates(load_config(data_dir=tmp_path), given, console, replace=replace)
    return console.export_text()


def test_files_of_several_sources_add_up(tmp_path):
    load(tmp_path, "USD,1.1,2026-10-30,a\n")
    assert "loaded" in load(tmp_path, "AED,4.1,2026-10-01,b\n")
    assert "newer: USD" in load(tmp_path, "USD,1.0,2026-10-29,c\n")
    found = read_rates(tmp_path / "rates.csv").by_currency
    assert {name: rate.source for name, rate in found.items()} == {"USD": "a", "AED": "b"}


def test_rates_can_be_forgotten(tmp_path):
    load(tmp_path, "USD,1.1,2026-10-30,a\n")
    load(tmp_path, "AED,4.1,2026-10-01,b\n", replace=True)
    assert set(read_rates(tmp_path / "rates.csv").by_currency) == {"AED"}


def test_the_table_tells_what_is_stale_and_what_is_missing(tmp_path):
    load(tmp_path, "USD,1.1,2026-10-30,a\nAED,4.1,2026-10-22,b\n")
    console = Console(record=True, width=200)
    show_rates(load_config(data_dir=tmp_path), console, today=date(2026, 10, 30))
    text = console.export_text()
    assert "2026-10-22, stale" in text
    assert "2026-10-30, stale" not in text
    assert "not offered: AUD" in text
