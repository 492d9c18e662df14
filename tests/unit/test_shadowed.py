"""A promotion compares what both models made of shoppers' searches before it rolls the new one out."""

import re
from dataclasses import asdict

import httpx
import pytest

from serve_app.errors import GateClosed, Unavailable
from serve_app.promotion.record import Step
from serve_app.promotion.shadowed import LEAST, Shadowed, ShadowReader, decide, summed_up
from serve_app.promotion.steps import Patience, Promoter
from serve_app.promotion.watch import Decision, Limits
from serve_app.shadow import Outcome, Shadow, Side
from tests.unit.test_promotion import NEW, NOW, OLD, Desk, World

LIMITS = Limits(rounds=4, shadow_searches=100)


def ok(took_ms=50.0, *, empty=False, before_ms=50.0, before_empty=False, shared=0.8):
    return Outcome("ok", Side(before_ms, before_empty), Side(took_ms, empty), shared)


def failed(code="stage_unavailable"):
    return Outcome(code, Side(50.0, False))


@pytest.mark.parametrize(
    ("outcomes", "decision", "reason"),
    [
        ([ok()] * 99, Decision.GO_ON, ""),
        ([ok()] * 100, Decision.KEEP, ""),
        ([failed()] + [ok()] * 99, Decision.KEEP, ""),
        ([failed()] * 2 + [ok()] * 98, Decision.ROLL_BACK, r"2 of 100 searches failed \(stage_unavailable 2\)"),
        ([failed()] * (LEAST - 1), Decision.GO_ON, ""),
        ([failed()] * LEAST, Decision.ROLL_BACK, "20 of 20 searches failed"),
        ([failed()] * 10 + [ok()] * 10, Decision.GO_ON, ""),
        ([ok(empty=True)] * 2 + [ok()] * 98, Decision.KEEP, ""),
        ([ok(empty=True)] * 3 + [ok()] * 97, Decision.ROLL_BACK, "3 of 100 answers were empty, 0 of the old model's"),
        ([ok(empty=True, before_empty=True)] * 30 + [ok()] * 70, Decision.KEEP, ""),
        ([ok(100.0)] * 100, Decision.KEEP, ""),
        ([ok(500.0)] * 10 + [ok()] * 90, Decision.KEEP, ""),
        ([ok(101.0)] * 100, Decision.ROLL_BACK, "slowest tenth of searches takes 101 ms, 50 ms by the old model"),
        ([ok(500.0)] * 11 + [ok()] * 89, Decision.ROLL_BACK, "slowest tenth"),
    ],
)
def test_shadow_decides(outcomes, decision, reason):
    watched = decide(summed_up(outcomes), 100, LIMITS)
    assert watched.decision is decision
    assert re.search(reason or "^$", watched.reason)


def test_sum_counts_what_the_new_model_answered():
    found = summed_up([ok(shared=0.5), ok(shared=1.0, empty=True), failed("index_missing")], dropped=4)
    assert found == Shadowed(3, (("index_missing", 1),), 0, 1, 50.0, 50.0, 0.75, 4)
    assert (found.failures, found.answered) == (1, 2)


def reader(*answers: httpx.Response) -> ShadowReader:
    """Read from a service whose replicas answer in turn, then not at all."""
    left = list(answers)
    transport = httpx.MockTransport(lambda _: left.pop(0) if left else httpx.Response(503))
    return ShadowReader(httpx.Client(transport=transport, base_url="http://service"))


def told(series: str, first: int, count: int, model: str = NEW, dropped: int = 0) -> httpx.Response:
    state = Shadow(model, series, first, (ok(),) * count, dropped)
    return httpx.Response(200, json={"model": OLD, "shadow": asdict(state)})


def test_reader_counts_each_search_once_whichever_replica_tells_of_it():
    reading = reader(
        told("a", 0, 3, dropped=1), told("b", 0, 2), told("a", 1, 4, dropped=2), httpx.Response(200, json={}),
        told("c", 0, 9, model=OLD), told("a", 4, 2, dropped=2),
    )  # fmt: skip
    assert (reading.read(NEW).searches, reading.read(NEW).searches) == (7, 8)
    assert reading.read(NEW) == summed_up([ok()] * 8, dropped=2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_service_that_will_not_tell_ends_it(status):
    with pytest.raises(Unavailable, match="--admin-url"):
        reader(httpx.Response(status)).read(NEW)


def test_service_that_does_not_answer_is_asked_again():
    reading = reader(*[httpx.Response(429)] * 4, told("a", 0, 3))
    assert (reading.read(NEW).searches, reading.read(NEW).searches) == (0, 3)


class ShadowWorld(World):
    """Be the world of a service with shoppers: ten searches come between any two looks."""

    each = ok()
    come = 10

    def __init__(self):
        super().__init__()
        self.seen = []

    def shadow(self, model):
        self._step(f"shadow {model}")

    def shadowed(self, model):
        self.seen += [self.each] * self.come
        return summed_up(self.seen)


class ShadowDesk(Desk):
    def promoter(self):
        return Promoter(
            self.records, self.world, LIMITS, Patience(shadow_s=600), tell=self.told.append,
            clock=lambda: self.world.seconds, sleep=self.sleep,
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path):
    return ShadowDesk(tmp_path, ShadowWorld())


def test_good_model_is_rolled_out_after_its_shadow(desk):
    done = desk.promote()
    assert (done.step, done.shadow.searches) == (Step.DONE, 100)
    assert desk.world.done[1:6] == ["fill", f"shadow {NEW}", "shadow None", "canary", f"roll out {NEW}"]
    assert desk.records.last().shadow == done.shadow
    assert any("100 of 100 searches, 0 failed" in line for line in desk.told)


def test_worse_model_is_never_rolled_out(desk):
    desk.world.each = ok(200.0)
    with pytest.raises(GateClosed, match="slowest tenth"):
        desk.promote()
    assert desk.world.done == ["gate", "fill", f"shadow {NEW}", "shadow None"]
    assert desk.records.last().step is Step.REFUSED
    assert desk.world.running == OLD


def test_too_few_searches_end_the_wait_and_the_same_command_goes_on(desk):
    desk.world.come = 0
    with pytest.raises(Unavailable, match="0 of 100 searches were compared in 10 minutes"):
        desk.promote()
    desk.world.come = 50
    assert desk.promote().step is Step.DONE


def test_killed_shadow_begins_again(desk):
    desk.world.dies_at = "shadow None"
    with pytest.raises(KeyboardInterrupt):
        desk.promote()
    assert desk.promote().step is Step.DONE
    assert desk.world.done.count("fill") == 1


def test_shadow_that_is_given_up_is_taken_out_of_the_service(desk):
    begun = desk.records.save(desk.records.begin(OLD, NEW, NOW).with_(step=Step.SHADOW))
    assert desk.promoter().roll_back(begun, "asked for").step is Step.REFUSED
    assert desk.world.done == ["shadow None"]
