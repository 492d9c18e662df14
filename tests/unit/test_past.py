"""Imports that ran before, and what they left out."""

from dataclasses import replace

import pytest

from serve_app.catalogue.past import MOST_IMPORTS, PastImports, write
from serve_app.catalogue.quarantine import Quarantine
from serve_app.catalogue.report import Outcome, Status, Summary
from serve_app.errors import UnknownImage

SUMMARY = Summary(5, 1, 0, 3, 0, 0, 6, 0, {"bad_price": 1}, None, 2.25, {})
NAME = "20261125T101500Z"


@pytest.fixture
def past(tmp_path):
    folder = tmp_path / "imports" / NAME
    write(folder, "photos.csv", "2026-11-25T10:15:00+00:00", SUMMARY, 2)
    quarantine = Quarantine(folder / "quarantine", "photos.csv", str(tmp_path / "shop"))
    refused = Outcome(4, "a/1.jpg", "7", Status.PROBLEM, code="bad_price", reason="no number")
    for outcome in (
        refused,
        replace(refused, row=5, image="https://shop.example/1.jpg"),
        replace(refused, row=6, image=""),
    ):
        quarantine.add(outcome)
    quarantine.flush()
    return PastImports(tmp_path)


def test_import_is_told_by_its_counts(past):
    (found,) = past.imports()
    assert (found.name, found.manifest, found.removed, found.seconds) == (NAME, "photos.csv", 2, 2.2)
    assert found.counts == {"rows": 5, "embedded": 3, "updated": 0, "unchanged": 1, "stale": 0, "duplicates": 0}
    assert found.problems == {"bad_price": 1}


def test_newest_imports_come_first_and_one_under_way_is_not_among_them(past, tmp_path):
    for second in range(MOST_IMPORTS + 3):
        write(tmp_path / f"imports/20261125T1016{second:02}Z", "m", "", SUMMARY, 0)
    (tmp_path / "imports/20261125T999999Z").mkdir()
    names = [each.name for each in past.imports()]
    assert (names[0], len(names)) == (f"20261125T1016{MOST_IMPORTS + 2}Z", MOST_IMPORTS)


def test_what_was_left_out_is_told_with_its_reason_and_its_file(past, tmp_path):
    assert next((each.row, each.code, each.reason) for each in past.left_out(NAME)) == (4, "bad_price", "no number")
    assert past.file(NAME, 4) == str(tmp_path / "shop/a/1.jpg")


@pytest.mark.parametrize("row", [5, 6, 7])
def test_row_without_a_file_of_this_machine_has_no_picture(past, row):
    with pytest.raises(UnknownImage):
        past.file(NAME, row)


def test_import_that_left_nothing_out_says_so(past):
    assert past.left_out("20261125T000000Z") == []


@pytest.mark.parametrize("name", ["..", "../imports/20261125T101500Z", "", NAME + "/.."])
def test_name_is_no_path(past, name):
    with pytest.raises(UnknownImage):
        past.left_out(name)
