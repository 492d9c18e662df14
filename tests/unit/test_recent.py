"""The sample of searches holds nothing that says whose they were."""

import logging

from serve_app.recent import MOST, Recent


def recorded(*lines: tuple[str, dict]) -> list[dict]:
    recent, log = Recent(), logging.Logger("test")
    log.addHandler(recent)
    for message, extra in lines:
        log.info(message, extra=extra)
    return [{name: value for name, value in line.items() if name != "at_ms"} for line in recent.lines()]


def test_only_what_says_nothing_of_a_person_is_kept():
    personal = {"caller": "anna", "request_id": "anna@example.com", "product_id": "7", "detail": "no product 'anna'"}
    kept = {"code": "ok", "products": 3, "degraded": ["no_object"], "ms": {"total": 9.0}}
    assert recorded(("search", personal | kept)) == [{"what": "search", **kept}]


def test_newest_come_first_and_oldest_go():
    lines = recorded(*(("problem", {"code": str(number)}) for number in range(MOST + 5)))
    assert [lines[0]["code"], len(lines)] == [str(MOST + 4), MOST]


def test_other_lines_are_none_of_searches():
    assert recorded(("write", {"code": "ok"}), ("keys read anew", {})) == []
