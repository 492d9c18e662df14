"""The load test's schedule, and what it makes of answers."""

import json
import math
from pathlib import Path

import pytest

from scripts import load_log, load_outcome, load_photos, load_report, load_watch
from scripts.load_goals import growth_goals, overload_goals
from scripts.load_log import BadLog, Ran
from scripts.load_outcome import Answered, answered_rate, between, late_share, latency_s
from scripts.load_schedule import SHAPES, Schedule, Share
from scripts.load_sending import SenderLost, check
from scripts.load_summary import Asked, sum_up
from scripts.load_watch import Sample
from scripts.measuring import Goal, Report


def schedule(shape: str) -> Schedule:
    return Schedule(shape, base_rate=10, peak_rate=30, seconds=200)


def answered(due_s: float, latency: float = 0.1, status: int = 200, late: float = 0.0, **more) -> Answered:
    return Answered(due_s, due_s + late, due_s + latency, status, "ok" if status == 200 else "overloaded", **more)


@pytest.mark.parametrize("shape", SHAPES)
def test_searches_are_due_as_often_as_the_shape_says(shape: str):
    wanted = schedule(shape)
    due = list(wanted.arrivals(seed=1))
    expected = sum(wanted.rate(at_s) for at_s in range(200))
    assert len(due) == pytest.approx(expected, rel=0.1)
    assert due == sorted(due)
    assert due[0] > 0
    assert due[-1] < 200


def test_the_same_seed_gives_the_same_moments():
    assert list(schedule("step").arrivals(7)) == list(schedule("step").arrivals(7))
    assert list(schedule("step").arrivals(7)) != list(schedule("step").arrivals(8))


def test_shares_are_the_whole_schedule_and_each_search_is_in_one():
    due = list(schedule("step").arrivals(7))
    shares = [list(Share(index, 3).of(schedule("step").arrivals(7))) for index in range(3)]
    assert sorted(search for share in shares for search in share) == list(enumerate(due))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert list(Share().of(due)) == list(enumerate(due))


@pytest.mark.parametrize(("told", "ended"), [(119, 2), (120, 1)])
def test_a_sender_that_was_lost_is_no_result(told: int, ended: int):
    check(120, 120, 2, 2)
    with pytest.raises(SenderLost, match=f"{ended} of 2 senders"):
        check(told, 120, ended, 2)


@pytest.mark.parametrize(("shape", "at_s", "rate"), [
    ("steady", 100, 10), ("step", 10, 10), ("step", 100, 30), ("step", 190, 10), ("ramp", 70, 20), ("ramp", 150, 10),
    ("spike", 90, 30), ("spike", 110, 10), ("diurnal", 100, 30),
])  # fmt: skip
def test_shapes_are_what_their_names_say(shape: str, at_s: float, rate: float):
    assert schedule(shape).rate(at_s) == pytest.approx(rate)


def test_a_peak_lies_where_the_rate_is_highest():
    for shape in ("step", "spike"):
        wanted = schedule(shape)
        start, stop = wanted.peak()
        assert wanted.rate(start) == wanted.rate(stop - 0.1) == 30
        assert wanted.rate(start - 0.1) == wanted.rate(stop) == 10
    assert schedule("ramp").peak() is None


def test_latency_counts_from_the_moment_a_search_was_due():
    assert answered(1.0, latency=2.0, late=1.5).latency_s == pytest.approx(2.0)
    assert late_share([answered(1.0, late=1.5), answered(2.0)]) == 0.5


def test_only_accepted_searches_have_a_latency():
    answers = [answered(1.0, 0.1), answered(2.0, 0.3), answered(3.0, 9.0, status=429)]
    assert latency_s(answers, 0.99) == pytest.approx(0.3)
    assert math.isnan(latency_s([], 0.5))


def test_a_refusal_is_no_failure():
    refused, failed = answered(1.0, status=429), answered(1.0, status=503)
    assert (refused.is_refused, refused.is_failed) == (True, False)
    assert (failed.is_refused, failed.is_failed) == (False, True)


def test_answers_are_counted_when_they_come():
    answers = [answered(1.0, 0.5), answered(1.0, 5.0), answered(1.0, 0.5, status=429)]
    assert answered_rate(answers, 0, 2) == 0.5
    assert len(between(answers, 0, 1)) == 0


def test_notes_of_locust_are_read(tmp_path: Path):
    lines = [
        {"due_s": 2.0, "sent_s": 2.0, "ended_s": 2.5, "status": 429, "code": "overloaded", "retry_after": "1"},
        {"due_s": 1.0, "sent_s": 1.0, "ended_s": 1.5, "status": 200, "code": "ok", "degraded": ["no_object"],
         "timings_ms": {"total": 1.0}},
    ]  # fmt: skip
    (tmp_path / "answers").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = load_outcome.read(tmp_path / "answers")
    assert first.degraded == ("no_object",)
    assert second.retry_after == "1"


METRICS = """# TYPE ray_serve_autoscaling_target_replicas gauge
ray_serve_autoscaling_target_replicas{application="shoplens",deployment="Detector"} 3.0
# TYPE ray_serve_deployment_replica_healthy gauge
ray_serve_deployment_replica_healthy{deployment="Detector",replica="a"} 1.0
ray_serve_deployment_replica_healthy{deployment="Detector",replica="b"} 0.0
ray_serve_deployment_replica_healthy{deployment="Detector",replica="c"} 1.0
# TYPE ray_shoplens_in_flight gauge
ray_shoplens_in_flight{replica="x"} 4.0
ray_shoplens_in_flight{replica="y"} 5.0
# TYPE ray_shoplens_batch_items histogram
ray_shoplens_batch_items_bucket{stage="embed",le="+Inf"} 2.0
ray_shoplens_batch_items_sum{stage="embed"} 9.0
ray_shoplens_batch_items_count{stage="embed"} 2.0
"""


def test_metrics_are_summed_over_replicas():
    sample = load_watch.read(METRICS, at_s=1.0)
    assert (sample.wanted["Detector"], sample.healthy) == (3, {("Detector", "a"), ("Detector", "c")})
    assert sample.in_flight == 9
    assert (sample.items["embed"], sample.batches["embed"]) == (9, 2)


def test_a_replica_is_ready_until_its_health_was_long_not_told():
    samples = [Sample(0.0, healthy={("Embedder", "a")}), Sample(5.0, healthy={("Embedder", "b")}), Sample(14.0)]
    load_watch.count_ready(samples)
    assert [sample.ready["Embedder"] for sample in samples] == [1, 2, 1]


def test_the_page_shows_goals_and_pictures_and_needs_nothing_beside_it(tmp_path: Path):
    report = Report("load_test", {"shape": "step <b>"})
    report.goals = [Goal("failed searches", 3, 0, "lower")]
    report.rows = [{"part": "all", "due": 2}]
    later = load_watch.read(METRICS.replace("9.0", "19.0").replace("} 2.0", "} 4.0"), at_s=2.0)
    samples = [load_watch.read(METRICS, at_s=1.0), later]
    answers = [answered(1.0), answered(2.0, status=429), answered(3.0, degraded=("partial_index",))]
    path = tmp_path / "page.html"
    load_report.write(load_report.Run(report, schedule("step"), answers, samples, 1.0), path)
    page = path.read_text()
    assert "missed" in page
    assert "step &lt;b&gt;" in page
    assert page.count("data:image/png") == len(load_report.FIGURES) - 1
    assert page.count("can't be seen") == 1, "memory was not looked at"
    assert "http" not in page


def test_a_page_without_metrics_says_so(tmp_path: Path):
    path = tmp_path / "page.html"
    load_report.write(load_report.Run(Report("load_test", {}), schedule("step"), [answered(1.0)], [], 1.0), path)
    assert path.read_text().count("can't be seen") == 4


def wanting(at_s: float, replicas: float, memory_mib: float = 0.0) -> Sample:
    return Sample(at_s, wanted={"Embedder": replicas}, memory_mib=memory_mib)


def test_growth_counts_from_the_step_to_all_that_were_wanted():
    samples = [wanting(49, 1), wanting(52, 2), wanting(58, 3), wanting(90, 3), wanting(190, 1)]
    (goal,) = growth_goals(schedule("step"), samples)
    assert (goal.name, goal.value, goal.ok) == ("Embedder: seconds until 3 replicas were wanted", 8, True)


def test_growth_that_comes_late_misses_its_goal_and_none_is_no_goal():
    (late,) = growth_goals(schedule("step"), [wanting(49, 1), wanting(62, 2)])
    assert not late.ok
    assert growth_goals(schedule("step"), [wanting(49, 1), wanting(62, 1)]) == []
    assert growth_goals(schedule("ramp"), [wanting(49, 1), wanting(62, 2)]) == []


def test_an_overload_is_judged_by_the_accepted_by_memory_and_by_its_end():
    answers = [answered(10, 0.5), answered(100, 0.8), answered(155, status=429), answered(170, 0.5)]
    samples = [wanting(51, 1, memory_mib=1_000), wanting(140, 1, memory_mib=1_050)]
    slower, recovery, memory = overload_goals(schedule("step"), answers, samples)
    assert (slower.value, slower.ok) == (pytest.approx(1.6), True)
    assert (recovery.value, recovery.ok) == (pytest.approx(5), True)
    assert (memory.value, memory.ok) == (pytest.approx(1.05), True)


def test_an_overload_in_which_nobody_was_answered_misses_its_goal():
    slower, recovery, *memory = overload_goals(
        schedule("step"), [answered(10), answered(100, status=429), answered(190, status=429)], []
    )
    assert not slower.ok
    assert not recovery.ok
    assert memory == []


RAN = Ran(
    Schedule("step", 10, 30, 200), Asked(2_000, 0.1), {"sending pods": 2}, "2026-11-25T10:00:00+00:00", {"cores": 4}
)
MANY = [
    answered(at / 3, latency=0.1 + at / 7_000, status=429 if at % 5 == 0 else 200, degraded=("no_object",))
    for at in range(600)
]


def logged() -> list[str]:
    return ["[pod/load-1-0-x/load] waiting", *(f"[pod/load-1-0-x/load] {line}" for line in load_log.lines(RAN, MANY))]


def test_a_log_tells_all_that_the_report_shows():
    ran, answers = load_log.read("\n".join([*logged(), "ok     failed searches: 0"]))
    assert (ran.schedule, ran.settings, ran.when, ran.where) == (RAN.schedule, RAN.settings, RAN.when, RAN.where)
    assert (ran.asked.p99_ms, ran.asked.refused, math.isnan(ran.asked.capacity)) == (2_000, 0.1, True)
    assert [(each.status, each.code, each.degraded) for each in answers] == [
        (each.status, each.code, each.degraded) for each in MANY
    ]
    for name in ("due_s", "sent_s", "ended_s"):
        assert [getattr(each, name) for each in answers] == pytest.approx(
            [getattr(each, name) for each in MANY], abs=1e-4
        )


def test_lines_of_a_log_are_short_enough_and_a_search_takes_few_bytes_of_it():
    lines = list(load_log.lines(RAN, MANY))
    assert max(map(len, lines)) < 16_384
    assert sum(map(len, lines)) < 40 * len(MANY)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ([], "begins 0 load tests"),
        (logged()[2:], "begins 0 load tests"),
        (logged() + logged(), "begins 2 load tests"),
        (logged()[:-1], "500 of 600 searches"),
        (logged()[:3] + logged()[4:], "350 of 600 searches"),
        ([*logged()[:-1], logged()[-1][:-40]], "cut"),
    ],
)
def test_a_log_that_does_not_tell_all_is_refused(log: list[str], said: str):
    with pytest.raises(BadLog, match=said):
        load_log.read("\n".join(log))


def test_a_run_is_judged_by_what_was_asked():
    report = Report("load_test", {})
    sum_up(report, schedule("step"), MANY, [], Asked(p99_ms=2_000, refused=0.1))
    assert [row["part"] for row in report.rows] == ["all", "before", "peak", "after"]
    assert {goal.name: goal.ok for goal in report.goals} == {
        "failed searches": True,
        "refused, of all": False,
        "p99 of the accepted, ms": True,
        "sent late, of all": True,
    }


def test_made_up_photos_are_the_same_each_time(tmp_path: Path):
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    again.mkdir()
    photos = load_photos.make_up(first, 2)
    assert [photo.read_bytes() for photo in photos] == [photo.read_bytes() for photo in load_photos.make_up(again, 2)]
    assert load_photos.found(first) == photos
    with pytest.raises(FileNotFoundError):
        load_photos.found(tmp_path / "first" / "none")
