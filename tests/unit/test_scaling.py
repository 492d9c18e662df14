"""How many replicas a stage gets: a stage simulated on a fake clock, under curves of load."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.scaling import BACKLOG_S, BUSY, DEMAND, REQUEST_S, Aims, LoopMeter, Meter, Signals, StagePolicy, decide

TICK_S = 0.1
START_S = 5.0
AIMS = Aims(downscale_delay_s=30, downscale_to_zero_delay_s=60)


@dataclass
class Stage:
    """Replicas that each do one second of work per second; new ones start in START_S."""

    most: int = 8
    least: int = 1
    aims: Aims = AIMS
    target: int = 1
    backlog_s: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    ready_at_s: list[float] = field(default_factory=lambda: [0.0])
    targets: list[tuple[float, int]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)

    def run(self, load: Callable[[float], float], start_s: float, stop_s: float) -> None:
        """Offer `load(now_s)` seconds of work per second."""
        for tick in range(int(start_s / TICK_S), int(stop_s / TICK_S)):
            now_s = tick * TICK_S
            running = sum(at_s <= now_s for at_s in self.ready_at_s)
            self.backlog_s += load(now_s) * TICK_S
            done_s = min(self.backlog_s, running * TICK_S)
            self.backlog_s -= done_s
            self.waits.append((now_s, self.backlog_s / running if running else math.inf))
            report = {BUSY: done_s / TICK_S / running, BACKLOG_S: self.backlog_s / running, REQUEST_S: 0.1} if running \
                else None  # fmt: skip
            queued = 0.0 if running else self.backlog_s / 0.1
            signals = Signals(now_s, self.target, running, queued, [report] * running if report else [])
            self._scale(now_s, decide(signals, self.memory, self.aims))

    def _scale(self, now_s: float, wanted: int) -> None:
        wanted = min(self.most, max(self.least, wanted))
        if wanted != self.target:
            self.target = wanted
            self.targets.append((now_s, wanted))
        self.ready_at_s = sorted(self.ready_at_s)[: self.target]
        self.ready_at_s += [now_s + START_S] * (self.target - len(self.ready_at_s))


def constant(load: float) -> Callable[[float], float]:
    return lambda _: load


@pytest.mark.parametrize(("load", "replicas"), [(0.3, 1), (1.5, 3), (3.0, 5), (5.0, 8), (50.0, 8)])
def test_a_step_gets_what_it_needs_within_seconds(load: float, replicas: int):
    stage = Stage()
    stage.run(constant(0.2), 0, 20)
    stage.run(constant(load), 20, 24)
    assert stage.target == replicas


def test_a_blip_adds_no_replica():
    stage = Stage()
    stage.run(constant(0.2), 0, 20)
    stage.run(constant(3.0), 20, 20.2)
    stage.run(constant(0.2), 20.2, 60)
    assert not stage.targets


def test_replicas_go_slowly_and_no_further_than_the_load_allows():
    stage = Stage()
    stage.run(constant(3.0), 0, 100)
    many = stage.target
    stage.run(constant(1.0), 100, 129)
    assert stage.target == many == 5
    stage.run(constant(1.0), 129, 180)
    assert stage.target == 2


def test_a_load_at_the_edge_of_a_step_does_not_swing_the_stage():
    stage = Stage()
    stage.run(lambda now_s: 1.40 + 0.05 * math.sin(now_s), 0, 600)
    assert [at_s for at_s, _ in stage.targets if at_s > 60] == []


def test_a_ramp_is_followed():
    stage = Stage()
    stage.run(lambda now_s: now_s / 40, 0, 200)
    assert max(wait_s for _, wait_s in stage.waits) < 1.0
    assert stage.target == 8


def test_nothing_to_do_takes_a_stage_to_zero_where_it_may_go_there():
    stage = Stage(least=0)
    stage.run(constant(0.5), 0, 30)
    stage.run(constant(0.0), 30, 85)
    assert stage.target == 1
    stage.run(constant(0.0), 85, 120)
    assert stage.target == 0


def test_a_rare_request_keeps_the_last_replica():
    stage = Stage(least=0)
    stage.run(lambda now_s: 1.0 if now_s % 50 < 0.1 else 0.0, 0, 500)
    assert stage.target == 1


def test_a_stage_at_zero_comes_back_for_the_first_request():
    stage = Stage(least=0, target=0, ready_at_s=[])
    stage.backlog_s = 0.1
    stage.run(constant(0.0), 0, 0.2)
    assert stage.target == 1


def test_missing_reports_keep_the_last_decision():
    assert decide(Signals(0.0, target=5, running=5, queued_requests=0.0), {}, AIMS) == 5


def test_crops_count_not_requests():
    """The same requests with five crops each need five times the replicas."""

    def wanted(items: int) -> int:
        meter = Meter(0.0)
        for second in range(100):
            meter.asked(items)
            meter.began(second)
            meter.ended(items, second + 0.02 * items)
        queued = Signals(1.0, target=0, running=0, queued_requests=1_000)
        return decide(queued, {REQUEST_S: meter.report(100.0, 0)[REQUEST_S]}, AIMS)

    assert wanted(5) == pytest.approx(5 * wanted(1), rel=0.3)


def test_memory_stays_small():
    stage = Stage()
    stage.run(lambda now_s: 1 + math.sin(now_s), 0, 1_000)
    assert sum(len(value) for value in stage.memory.values() if isinstance(value, list)) < 200


def test_a_meter_counts_a_batch_that_has_not_ended():
    meter = Meter(0.0)
    meter.began(0.5)
    assert meter.report(1.0, backlog=0)[BUSY] == pytest.approx(0.5)
    meter.ended(4, 1.5)
    assert meter.report(2.0, backlog=8) == pytest.approx({BUSY: 0.5, BACKLOG_S: 2.0, REQUEST_S: 0.25, DEMAND: 1.0})


def test_a_replica_without_a_model_is_busy_while_it_computes():
    meter = LoopMeter(0.0, cpu_s=10.0)
    with meter.call():
        assert meter.report(2.0, cpu_s=10.5)[BUSY] == 0.25
        assert meter.report(3.0, cpu_s=13.5)[BUSY] == 1.0
    assert meter.report(4.0, cpu_s=14.0)[BUSY] == 0.5


def test_a_replica_that_nobody_called_is_idle_whatever_it_does_for_itself():
    meter = LoopMeter(0.0, cpu_s=10.0)
    assert meter.report(2.0, cpu_s=10.5)[BUSY] == 0.0
    with meter.call():
        pass
    assert meter.report(3.0, cpu_s=11.0)[BUSY] == 0.5
    assert meter.report(4.0, cpu_s=11.5)[BUSY] == 0.0


def test_the_policy_reads_what_serve_hands_it():
    context = SimpleNamespace(
        policy_state={}, current_time=1_000.0, target_num_replicas=0, current_num_replicas=0,
        total_queued_requests=30.0, aggregated_metrics={},
    )  # fmt: skip
    wanted, memory = StagePolicy(drain_s=1.0)(context)
    assert wanted == 3
    context.policy_state, context.target_num_replicas, context.current_num_replicas = memory, 3, 2
    context.aggregated_metrics = {BUSY: {"a": 0.1, "b": 0.1}, BACKLOG_S: {"a": 0.0}, "running_requests": {"c": 4.0}}
    context.total_queued_requests = 0.0
    assert StagePolicy()(context)[0] == 3


def test_searches_that_are_refused_count_as_load():
    report = {BUSY: 1.0, BACKLOG_S: 0.5, REQUEST_S: 0.1, DEMAND: 3.0}
    memory = {}
    for second in range(6):
        wanted = decide(Signals(float(second), target=1, running=1, queued_requests=0, reports=[report]), memory, AIMS)
    assert wanted == 5, "three times the work of one, at 0.7 of a replica's time"


def test_demand_is_that_of_the_time_since_the_last_report():
    meter = Meter(0.0)
    for demand in (2.0, 4.0):
        meter.asked(1, demand)
    assert meter.report(1.0, 0)[DEMAND] == 3.0
    assert meter.report(2.0, 0)[DEMAND] == 1.0
