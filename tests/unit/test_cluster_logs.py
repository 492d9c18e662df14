from datetime import UTC, datetime

from serve_app.cluster import logs
from serve_app.cluster.observing import Observer
from tests.unit.cluster_fakes import CORE, TARGET, FakeApi, healthy


def found(api: FakeApi, request_id: str = "abc") -> logs.Found:
    observer = Observer(api, TARGET)
    return logs.lines_of(api, TARGET, observer.pods(observer.service()), request_id, 60)


def log(api: FakeApi, pod: str, *lines: str) -> None:
    api.logs[(f"{CORE}/pods/{pod}/log", "worker")] = list(lines)


def test_lines_of_all_pods_come_in_the_order_of_time():
    api = healthy()
    log(api, "cpu-1", '2026-01-01T00:00:03.5Z {"request_id": "abc"}', "2026-01-01T00:00:04Z other")
    log(api, "cpu-2", "2026-01-01T02:00:02+02:00 INFO abc -- Detector", "2026-01-01T00:00:09Z abc")
    lines = found(api).lines
    assert [each.pod for each in lines] == ["cpu-2", "cpu-1", "cpu-2"]
    assert lines[0].at == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert lines[1].text == '{"request_id": "abc"}'


def test_id_inside_a_longer_one_is_another():
    api = healthy()
    log(api, "cpu-1", "2026-01-01T00:00:03Z xabc", "2026-01-01T00:00:03Z abc-1", "2026-01-01T00:00:03Z id=abc.")
    assert [each.text for each in found(api).lines] == ["id=abc."]


def test_log_that_may_not_be_read_is_noted_and_the_others_are_read():
    api = healthy()
    api.denied.add(f"{CORE}/pods/cpu-1/log")
    log(api, "cpu-2", "2026-01-01T00:00:03Z abc")
    outcome = found(api)
    assert len(outcome.lines) == 1
    assert "cpu-1/worker" in outcome.notes[0]


def test_more_lines_than_the_bound_are_left_out_and_noted():
    api = healthy()
    for name in ("cpu-1", "cpu-2"):
        log(api, name, *["2026-01-01T00:00:03Z abc"] * (logs.MOST_LINES - 1))
    outcome = found(api)
    assert len(outcome.lines) == logs.MOST_LINES
    assert "left out" in outcome.notes[0]


def test_one_endless_log_is_given_up():
    api = healthy()
    log(api, "cpu-1", *["2026-01-01T00:00:03Z abc"] * (logs.MOST_LINES + 10))
    outcome = found(api)
    assert len(outcome.lines) == logs.MOST_LINES
    assert "--since" in outcome.notes[0]
