"""Refused events are kept with their reasons."""

import json

from serve_app.catalogue import refused
from serve_app.catalogue.refused import RefusedEvents
from serve_app.catalogue.report import Outcome, Status

OUTCOME = Outcome(3, "", "7", Status.PROBLEM, code="bad_price", reason="100 % wrong", columns={"price": "chéap"})


def test_a_refused_event_is_on_the_disk_at_once(tmp_path):
    kept = RefusedEvents(tmp_path / "feeds/refused.jsonl")
    assert not kept.path.parent.exists()
    kept.add([OUTCOME, OUTCOME])
    first, second = map(json.loads, kept.path.read_text(encoding="utf-8").splitlines())
    assert first == second == {"row": 3, "code": "bad_price", "reason": "100 % wrong", "event": {"price": "chéap"}}
    kept.close()


def test_refused_events_take_so_much_of_the_disk_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(refused, "FILE_BYTES", 300)
    kept = RefusedEvents(tmp_path / "refused.jsonl")
    for _ in range(50):
        kept.add([OUTCOME])
    kept.close()
    assert len(list(tmp_path.iterdir())) == refused.FILES
    assert all(path.stat().st_size <= 300 for path in tmp_path.iterdir())
