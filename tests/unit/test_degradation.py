"""What happens while a stage is away."""

import asyncio
import pickle

import numpy as np
import pytest

from serve_app.degradation import Away, DetectorOrWhole, EmbedderOrNone
from serve_app.domain import PATIENT, WHOLE_BOX, Terms
from serve_app.errors import DeadlineExceeded, NotAnImage, Overloaded, StageUnavailable
from serve_app.objects import Focus
from serve_app.pipeline import NO_DETECTOR, Sighting
from serve_app.resilience import Circuit

CROPS = np.zeros((1, 2, 2, 3), np.uint8)
SEEN = Sighting(640, 480, (), CROPS, 1.0)


class Stage:
    """Answer, raise or hang as told, and count the calls."""

    def __init__(self, outcome: object = SEEN) -> None:
        self.outcome = outcome
        self.calls = 0

    async def detect(self, photo, focus, terms=PATIENT):
        self.calls += 1
        if self.outcome == "hang":
            await asyncio.sleep(60)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def embed(self, crops, terms=PATIENT):
        return await self.detect(b"", Focus(), terms)


async def test_detector_that_is_there_is_asked():
    detector, whole = Stage(), Stage()
    assert await DetectorOrWhole(detector, whole).detect(b"", Focus()) is SEEN
    assert whole.calls == 0


@pytest.mark.parametrize("outcome", [StageUnavailable("gone"), DeadlineExceeded("slow"), "hang"])
async def test_without_the_detector_the_whole_photo_is_searched_and_flagged(outcome):
    sighting = await DetectorOrWhole(Stage(outcome), Stage()).detect(b"", Focus(), Terms.within(0.1))
    assert sighting.degraded == (NO_DETECTOR,)


async def test_given_boxes_lack_nothing_without_the_detector():
    focus = Focus(boxes=(WHOLE_BOX,))
    assert await DetectorOrWhole(Stage(StageUnavailable("gone")), Stage()).detect(b"", focus) is SEEN


@pytest.mark.parametrize("error", [NotAnImage("no"), Overloaded("busy")])
async def test_what_the_whole_photo_does_not_mend_is_passed_on(error):
    with pytest.raises(type(error)):
        await DetectorOrWhole(Stage(error), Stage()).detect(b"", Focus())


async def test_a_detector_that_is_away_is_not_waited_for_by_everyone():
    detector = Stage(StageUnavailable("gone"))
    either = DetectorOrWhole(detector, Stage())
    for _ in range(20):
        await either.detect(b"", Focus())
    assert detector.calls < 10


async def test_a_detector_that_came_back_is_asked_again():
    detector = Stage(StageUnavailable("gone"))
    either = DetectorOrWhole(detector, Stage())
    for _ in range(5):
        await either.detect(b"", Focus())
    detector.outcome = SEEN
    await asyncio.sleep(Circuit.LONGEST_OPEN_S)
    assert (await either.detect(b"", Focus())).degraded == ()
    assert (await either.detect(b"", Focus())).degraded == ()


async def test_a_caller_that_leaves_says_nothing_of_the_stage():
    detector = Stage("hang")
    either = DetectorOrWhole(detector, Stage())
    for _ in range(5):
        task = asyncio.create_task(either.detect(b"", Focus(), Terms.within(60)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    detector.outcome = SEEN
    assert (await either.detect(b"", Focus())).degraded == ()


async def test_an_embedder_that_is_away_refuses_at_once():
    embedder = Stage("hang")
    only = EmbedderOrNone(embedder)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await only.embed(CROPS, Terms.within(0.02))
    with pytest.raises(Away) as away:
        await only.embed(CROPS, Terms.within(60))
    assert (away.value.status, away.value.code) == (503, "stage_unavailable")
    assert embedder.calls == 3


async def test_an_embedder_that_is_slow_for_some_is_not_away():
    embedder = Stage()
    only = EmbedderOrNone(embedder)
    for _ in range(5):
        embedder.outcome = "hang"
        slow = asyncio.create_task(only.embed(CROPS, Terms.within(0.05)))
        await asyncio.sleep(0.02)
        embedder.outcome = SEEN
        assert await only.embed(CROPS, Terms.within(60)) is SEEN
        with pytest.raises(DeadlineExceeded):
            await slow
    assert embedder.calls == 10


def test_terms_travel_as_the_time_that_is_left():
    arrived = pickle.loads(pickle.dumps(Terms.within(10, bulk=True, demand=2.5)))
    assert 9 < arrived.left_s() <= 10
    assert (arrived.bulk, arrived.demand) == (True, 2.5)
    assert pickle.loads(pickle.dumps(PATIENT)) == PATIENT


def test_a_share_of_terms_ends_earlier():
    assert 4 < Terms.within(10).share(0.5).left_s() <= 5
    assert PATIENT.share(0.5) is PATIENT
