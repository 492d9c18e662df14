"""A model is promoted, stopped by the gate, watched and rolled back, over a service of canned answers."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import httpx
import pytest

from serve_app.errors import BadConfig, GateClosed, RolledBack, Unavailable
from serve_app.evaluation.figures import ANY, MAIN, Compared
from serve_app.evaluation.resampling import Difference, differences
from serve_app.folders import Folder
from serve_app.promotion.canary import Canary, Labelled
from serve_app.promotion.gate import Demand, Verdict, enough, judge
from serve_app.promotion.record import Records, Step
from serve_app.promotion.steps import Patience, Promoter
from serve_app.promotion.watch import Decision, Limits, Round, chance, decide

OLD, NEW = "0123456789ab", "ba9876543210"
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BEFORE = Round(0.0, "1" * 60 + "0" * 40, 100.0)
LIMITS = Limits(rounds=4)


def compared(value, low, high, smallest, *, products=400, rule=MAIN, metric="R@1", line="as they are"):
    found = Difference(value, low, high, 0.001 if low > 0 or high < 0 else 0.5, smallest)
    return Compared(line, rule, products * 2, products, {metric: found})


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((0.05, 0.03, 0.07, 0.02), Verdict.PASSED),
        ((-0.004, -0.016, 0.008, 0.018), Verdict.PASSED),
        ((-0.05, -0.07, -0.03, 0.02), Verdict.WORSE),
        ((-0.012, -0.025, 0.001, 0.019), Verdict.WORSE),
        ((0.01, -0.04, 0.06, 0.07), Verdict.TOO_SMALL),
        ((-0.2, -0.3, -0.1, 0.14), Verdict.WORSE),
        ((0.0, float("nan"), float("nan"), 0.0), Verdict.TOO_SMALL),
    ],
)
def test_gate_passes_only_where_the_stated_loss_is_ruled_out(difference, verdict):
    assert judge([compared(*difference)], Demand(0.02)).verdict is verdict


def test_few_photos_that_both_models_answer_alike_rule_nothing_out():
    (line,) = judge([compared(0.0, 0.0, 0.0, 0.0, products=10)], Demand(0.02)).lines
    assert (line.verdict, line.smallest) == (Verdict.TOO_SMALL, pytest.approx(0.3))
    assert enough(line, 0.02) >= 150


def test_every_line_has_to_pass():
    good, poor = compared(0.0, -0.01, 0.01, 0.015), compared(-0.1, -0.12, -0.08, 0.02, line="hard")
    assert judge([good, poor], Demand(0.02)).verdict is Verdict.WORSE


def test_scenes_are_judged_by_hits_of_any_list():
    scenes = compared(0.0, -0.01, 0.01, 0.015, rule=ANY, metric="hit@10")
    assert judge([scenes], Demand(0.02)).lines[0].metric == "hit@10"


def test_gate_on_real_resampling_stops_a_worse_model():
    before = [[1.0]] * 300 + [[0.0]] * 100
    after = [[1.0]] * 260 + [[0.0]] * 140
    (found,) = differences(before, after, [str(i) for i in range(400)])
    assert judge([Compared("l", MAIN, 400, 400, {"R@1": found})], Demand(0.05)).verdict is Verdict.WORSE


def rounds(*marks, slow_ms=100.0, others=0):
    return [Round(60.0 * (i + 1), each, slow_ms, others) for i, each in enumerate(marks)]


SAME = BEFORE.marks


@pytest.mark.parametrize(
    ("some", "decision"),
    [
        ([], Decision.GO_ON),
        (rounds(SAME), Decision.GO_ON),
        (rounds(*[SAME] * 4), Decision.KEEP),
        (rounds("x" * 51 + SAME[51:]), Decision.ROLL_BACK),
        (rounds("x" + SAME[1:]), Decision.GO_ON),
        (rounds(SAME, "xx" + SAME[2:]), Decision.GO_ON),
        (rounds(SAME, "xxxx" + SAME[4:]), Decision.ROLL_BACK),
        (rounds("eee" + SAME[3:]), Decision.ROLL_BACK),
        (rounds("e" + SAME[1:]), Decision.GO_ON),
        (rounds(SAME, SAME, slow_ms=500), Decision.GO_ON),
        (rounds(SAME, SAME, SAME, slow_ms=201), Decision.ROLL_BACK),
        (rounds(SAME, SAME, SAME, slow_ms=199), Decision.GO_ON),
        (rounds("0" * 10 + SAME[10:]), Decision.GO_ON),
        (rounds(*["0" * 10 + SAME[10:]] * 2), Decision.ROLL_BACK),
        (rounds("0" * 10 + SAME[10:], SAME), Decision.GO_ON),
        (rounds(*["000" + SAME[3:]] * 2), Decision.GO_ON),
        (rounds(*[SAME[:60] + "1" * 40] * 2), Decision.GO_ON),
        (rounds(SAME, SAME, SAME, others=100), Decision.ROLL_BACK),
        (rounds(SAME, SAME, SAME, others=3), Decision.GO_ON),
    ],
)
def test_watch_decides(some, decision):
    assert decide(BEFORE, some, LIMITS).decision is decision


def test_what_failed_before_is_no_fault_of_the_new_model():
    before = replace(BEFORE, marks="xxxxx" + SAME[5:])
    assert decide(before, rounds("xxxxx" + SAME[5:]), LIMITS).decision is Decision.GO_ON


def test_chance_is_the_sign_test():
    assert chance(5, 0) == pytest.approx(1 / 32)
    assert chance(3, 3) == pytest.approx(42 / 64)


@dataclass
class World:
    """Be the world: a service that does what it is told, at once."""

    running: str = OLD
    gate_value: tuple = (0.0, -0.01, 0.01, 0.015)
    new_marks: str = SAME
    seconds: float = 1000.0
    canary_sha256: str = "c"
    done: list = field(default_factory=list)
    dies_at: str = ""
    deaf: bool = False

    def _step(self, name):
        self.done.append(name)
        if name == self.dies_at:
            self.dies_at = ""
            raise KeyboardInterrupt

    def gate(self):
        self._step("gate")
        return judge([compared(*self.gate_value)], Demand(0.02))

    def fill(self, after):
        self._step("fill")
        return f"products_{after}_20261125T120000Z"

    def roll_out(self, model):
        self._step(f"roll out {model}")
        self.running = self.running if self.deaf else model

    def model(self):
        return self.running

    def canary(self, model, at_s):
        self._step("canary")
        self.seconds += 5
        return Round(at_s, SAME if self.running == OLD else self.new_marks, 100.0, 0)


class Desk:
    """Start the command again and again, as an operator does."""

    def __init__(self, folder, world):
        self.records = Records(Folder(str(folder)), "products")
        self.world = world
        self.told = []

    def sleep(self, seconds):
        self.world.seconds += seconds

    def promoter(self):
        return Promoter(
            self.records, self.world, LIMITS, Patience(), tell=self.told.append,
            clock=lambda: self.world.seconds, sleep=self.sleep,
        )  # fmt: skip

    def promote(self):
        return self.promoter().run(self.records.begin(OLD, NEW, NOW))


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path, World())


def test_good_model_stays(desk):
    assert desk.promote().step is Step.DONE
    assert desk.world.running == NEW
    assert desk.world.done == ["gate", "fill", "canary", f"roll out {NEW}", *["canary"] * 4]
    saved = desk.records.last()
    assert [each.at_s for each in saved.rounds][1] - saved.rounds[0].at_s == pytest.approx(60)


def test_gate_stops_a_worse_model_before_anything_is_done(desk):
    desk.world.gate_value = (-0.1, -0.12, -0.08, 0.02)
    with pytest.raises(GateClosed, match="finds less"):
        desk.promote()
    assert desk.world.done == ["gate"]


def test_set_too_small_is_refused(desk):
    desk.world.gate_value = (0.1, 0.0, 0.2, 0.15)
    with pytest.raises(GateClosed, match="too small"):
        desk.promote()


def test_watch_brings_the_old_model_back_which_answers_as_before(desk):
    desk.world.new_marks = "0" * 20 + SAME[20:]
    with pytest.raises(RolledBack, match="lost their right product"):
        desk.promote()
    assert desk.world.running == OLD
    assert "100 of 100 photos as before" in desk.told[-1]
    assert desk.records.last().step is Step.ROLLED_BACK


@pytest.mark.parametrize("step", ["gate", "fill", "canary", f"roll out {NEW}"])
def test_killed_step_is_done_again_and_none_before_it(tmp_path, step):
    world = World(dies_at=step)
    desk = Desk(tmp_path, world)
    with pytest.raises(KeyboardInterrupt):
        desk.promote()
    before = list(world.done)
    desk.promote()
    assert world.done[len(before)] == step
    assert world.done.count("gate") == (2 if step == "gate" else 1)
    assert world.running == NEW


def test_killed_watch_goes_on_with_the_rounds_it_had(desk):
    promotion = desk.records.begin(OLD, NEW, NOW)
    desk.records.save(promotion.with_(step=Step.WATCH, baseline=BEFORE, canary="c", rounds=tuple(rounds(*[SAME] * 3))))
    desk.world.running = NEW
    desk.promote()
    assert desk.world.done == ["canary"]


def test_killed_roll_back_ends_in_the_old_model(desk):
    desk.world.new_marks = "x" * 100
    desk.world.dies_at = f"roll out {OLD}"
    with pytest.raises(KeyboardInterrupt):
        desk.promote()
    assert desk.records.last().step is Step.ROLL_BACK
    with pytest.raises(RolledBack):
        desk.promote()
    assert desk.world.running == OLD


def test_roll_out_that_does_not_come_can_be_given_up(desk):
    desk.world.deaf = True
    with pytest.raises(Unavailable, match="does not answer"):
        desk.promote()
    assert desk.promoter().roll_back(desk.records.last(), "asked for").step is Step.ROLLED_BACK


def test_another_canary_set_can_not_go_on_with_the_rounds(desk):
    promotion = desk.records.begin(OLD, NEW, NOW)
    desk.records.save(promotion.with_(step=Step.WATCH, baseline=BEFORE, canary="another"))
    desk.world.running = NEW
    with pytest.raises(BadConfig, match="canary set"):
        desk.promote()


def test_only_one_promotion_is_under_way(desk):
    desk.records.begin(OLD, NEW, NOW)
    with pytest.raises(BadConfig, match="under way"):
        desk.records.begin(OLD, "aaaaaaaaaaaa", NOW)


def test_running_model_is_not_promoted(desk):
    with pytest.raises(BadConfig, match="already"):
        desk.records.begin(NEW, NEW, NOW)


def test_promotion_that_is_done_can_be_taken_back(desk):
    done = desk.promote()
    assert desk.promoter().roll_back(done, "asked for").step is Step.ROLLED_BACK
    assert desk.world.running == OLD
    with pytest.raises(BadConfig, match="before"):
        desk.promoter().roll_back(desk.records.last(), "again")


def test_canary_marks_each_photo():
    products = {b"a": [{"product_id": "a"}], b"b": [{"product_id": "z"}], b"c": []}

    def answer(request: httpx.Request) -> httpx.Response:
        photo = next((each for each in products if b"\r\n\r\n" + each + b"\r\n" in request.content), None)
        if photo is None:
            return httpx.Response(503)
        objects = [{"main": False, "products": []}, {"main": True, "products": products[photo]}]
        return httpx.Response(200, json={"model": NEW if photo == b"a" else OLD, "objects": objects})

    photos = [Labelled(name, (name.decode(),)) for name in (b"a", b"b", b"c", b"d")]
    client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service")
    ticks = iter(range(100))
    canary = Canary(photos, client, clock=lambda: float(next(ticks)))
    assert canary.round(NEW, 7.0) == Round(7.0, "10ex", 1000.0, 2)
    assert canary.model() == NEW
