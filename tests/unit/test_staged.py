"""Images imported by a service's stages."""

import asyncio
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from serve_app.catalogue.comparing import Compared, Due
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import Planned
from serve_app.catalogue.report import Status
from serve_app.catalogue.staged import Seen, StagedImporter, StageModels
from serve_app.config import Config, DetectorConfig, ImportConfig
from serve_app.domain import PATIENT, Box, Detection, View
from serve_app.errors import NotAnImage, Overloaded, StageUnavailable
from serve_app.images import decode, picture_hash
from serve_app.pipeline import Embedded, ImageViews
from serve_app.stages import BatchedDetector
from tests.unit.test_recording import PHASH, FakeIndex, unit

MODEL = "0123456789ab"
CHAIR = Detection(Box(0.1, 0.1, 0.6, 0.6), "chair", 0.8)
VIEWS = ImageViews(
    640, 480, ((View.WHOLE, CHAIR), (View.OBJECT, CHAIR)), np.zeros((2, 2, 2, 3), np.uint8), PHASH
)  # fmt: skip


class FakeComparer:
    """Find that every entry's image has to be embedded."""

    def run(self, entries):
        planned = [Planned(entry, "aa", "recipe", 5) for entry in entries]
        yield Compared([], [Due(each, each.entry.image.encode(), frozenset()) for each in planned], {})


class FakeModels:
    def __init__(self, **seen):
        self.seen = seen

    def see(self, images):
        return [self.seen.get(image.decode(), Seen(VIEWS, np.stack([unit(0), unit(1)]), MODEL)) for image in images]


def imported(index, models, *names):
    config = Config(data_dir="/nowhere")
    entries = [Entry(number, name, "p", f"id of {name}") for number, name in enumerate(names)]
    return StagedImporter(config, FakeComparer(), index, models, MODEL)(entries)


def test_views_are_written_with_their_embeddings():
    index = FakeIndex()
    (outcome,) = imported(index, FakeModels(), "a")
    assert (outcome.status, outcome.written_rows, outcome.label) == (Status.EMBEDDED, 2, "chair")
    assert [(row.view, int(np.argmax(row.vector)), row.phash) for row in index.rows] == [
        ("whole", 0, PHASH),
        ("object", 1, PHASH),
    ]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (NotAnImage("no"), "not_an_image"),
        (Overloaded("full"), "overloaded"),
        (Seen(replace(VIEWS, width=5), np.stack([unit(0), unit(1)]), MODEL), "too_small"),
        (Seen(VIEWS, np.stack([unit(0), unit(1)]), "ba9876543210"), "stage_unavailable"),
    ],
)
def test_image_that_can_not_be_embedded_is_a_problem_and_stops_no_other(seen, code):
    index = FakeIndex()
    outcomes = {outcome.row: outcome for outcome in imported(index, FakeModels(bad=seen), "bad", "good")}
    assert (outcomes[0].status, outcomes[0].code) == (Status.PROBLEM, code)
    assert outcomes[1].status is Status.EMBEDDED
    assert {row.image_id for row in index.rows} == {"id of good"}


class FakeStages:
    def __init__(self, error=None):
        self.error = error
        self.terms = []

    async def views(self, image, terms=PATIENT):
        self.terms.append(terms)
        if self.error:
            raise self.error
        return VIEWS

    async def embed(self, crops, terms=PATIENT):
        self.terms.append(terms)
        return Embedded(np.eye(256, dtype=np.float32)[: len(crops)], MODEL)


async def see(stages, deadline_s=10.0):
    models = StageModels(stages, asyncio.get_running_loop(), deadline_s)
    return await asyncio.to_thread(models.see, [b"a", b"b"])


async def test_models_are_asked_from_another_thread_and_give_way_to_shoppers():
    stages = FakeStages()
    seen = await see(stages)
    assert [(each.model, len(each.embeddings)) for each in seen] == [(MODEL, 2)] * 2
    assert all(terms.bulk and terms.left_s() <= 10 for terms in stages.terms)


async def test_stage_that_is_away_or_slow_is_the_reason_of_each_image():
    assert [error.code for error in await see(FakeStages(StageUnavailable("away")))] == ["stage_unavailable"] * 2

    class Slow(FakeStages):
        async def views(self, image, terms=PATIENT):
            await asyncio.sleep(60)

    assert [error.code for error in await see(Slow(), 0.05)] == ["deadline_exceeded"] * 2


class FakeDetector:
    def __init__(self):
        self.photos = 0

    def find(self, photos):
        self.photos += len(photos)
        return [(CHAIR, replace(CHAIR, confidence=0.1))] * len(photos)


@pytest.mark.parametrize(("setting", "views"), [("whole", [View.WHOLE]), ("whole+object", [View.WHOLE, View.OBJECT])])
async def test_detector_makes_the_views_that_an_import_makes(setting, views):
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    model = FakeDetector()
    stage = BatchedDetector(
        model, DetectorConfig(), max_pixels=10**6, max_objects=3, importing=ImportConfig(views=setting)
    )
    found = await stage.views(file.getvalue())
    await stage.close()
    assert [view for view, _ in found.views] == views
    assert (found.width, found.height, len(found.crops)) == (80, 60, len(views))
    assert found.phash == picture_hash(decode(file.getvalue()))
    assert model.photos == (setting != "whole")
