"""What the feedback log is turned into."""

import json
import sys

from scripts import feedback_pairs
from scripts.feedback_pairs import PAIRS, QUERIES
from serve_app.catalogue.manifest import Entry
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.questions import read_questions
from serve_app.feedback.files import to_parquet
from serve_app.feedback.records import Act
from serve_app.folders import Folder
from tests.unit.test_feedback import done, photo, shown

CROP, GONE = "crops/20261125T000000Z-0a-o0.jpg", "crops/20260101T000000Z-0b-o0.jpg"


def run(monkeypatch, tmp_path, shown_lists, acts):
    folder = Folder(str(tmp_path / "log"))
    folder.write("log/20261125T000000Z-0a-0.parquet", to_parquet(shown_lists, acts))
    folder.write(CROP, photo())
    monkeypatch.setattr(sys, "argv", ["feedback_pairs", str(tmp_path / "log"), str(tmp_path / "made")])
    code = feedback_pairs.main()
    pairs = tmp_path / "made" / PAIRS
    return code, [json.loads(line) for line in pairs.read_text().splitlines()] if pairs.exists() else []


def test_chosen_products_are_pulled_to_the_crop_and_those_above_pushed_away(monkeypatch, tmp_path):
    code, (pair,) = run(monkeypatch, tmp_path, [shown()], [done("b", Act.BUY, 2, crop=CROP)])
    assert code == 0
    assert pair["anchor"] == {"image": "photos/20261125T000000Z-0a-o0.jpg"}
    assert pair["positives"] == [{"product_id": "b", "image_id": "ib", "weight": 3}]
    assert pair["negatives"] == [{"product_id": "a", "image_id": "ia"}]


def test_products_that_were_searched_from_are_anchors_without_a_crop(monkeypatch, tmp_path):
    _, (pair,) = run(monkeypatch, tmp_path, [shown(like="x")], [done("a")])
    assert pair["anchor"] == {"product_id": "x"}


def test_without_a_crop_or_with_one_that_is_gone_there_is_no_pair(monkeypatch, tmp_path):
    lists = [shown(), shown(asked="s")]
    _, pairs = run(monkeypatch, tmp_path, lists, [done("a"), done("a", asked="s", crop=GONE)])
    assert pairs == []


def test_queries_are_read_as_an_evaluation_reads_them(monkeypatch, tmp_path):
    lists = [shown(), shown(asked="s")]
    acts = [done("a"), done("b", Act.BUY, crop=CROP), done("a", Act.CLICK, asked="s", crop=CROP)]
    run(monkeypatch, tmp_path, lists, acts)
    asked = read_questions(tmp_path / "made" / QUERIES, Gallery([Entry(0, "", "b", "ib")], ""))
    (question,) = asked.questions
    assert question.right == ("b",)
    assert (tmp_path / "made" / question.image).read_bytes() == photo()


def test_log_without_acts_is_told(monkeypatch, tmp_path):
    assert run(monkeypatch, tmp_path, [shown()], [])[0] == 2
