import asyncio
from dataclasses import replace

import numpy as np
import pytest

from serve_app.domain import PATIENT, Box, Detection, Hit, Source
from serve_app.errors import BadParameter, MilvusUnavailable, Truncated
from serve_app.filters import Filter
from serve_app.objects import Focus, query_boxes
from serve_app.pipeline import NO_OBJECT, Embedded, Found, Pipeline, Query, Sighting
from tests.unit.builders import curve, hit

CHAIR = Detection(Box(0.1, 0.1, 0.4, 0.4), "chair", 0.8)
SEAT = Detection(Box(0.1, 0.1, 0.6, 0.6), "chair", 0.8)


class FakeDetector:
    def __init__(self, *found: Detection) -> None:
        self.found = found

    async def detect(self, photo: bytes, focus: Focus, terms=PATIENT) -> Sighting:
        found = self.found if focus.detects else ()
        crops = np.zeros((len(query_boxes(found, focus)), 2, 2, 3), np.uint8)
        return Sighting(640, 480, found, crops, 1.0)


class FakeEmbedder:
    async def embed(self, crops, terms=PATIENT):
        return Embedded(np.eye(256, dtype=np.float32)[: len(crops)], "0123456789ab")


class FakeSearcher:
    """Answer each embedding from a list of its own; remember what was asked."""

    def __init__(self, *rows: list[Hit]) -> None:
        self.rows = rows
        self.asked: list[int] = []
        self.degraded: tuple[str, ...] = ()

    async def search(self, embedded, k, wanted, strong, terms=PATIENT):
        self.asked.append(k)
        self.narrowed = (wanted, strong)
        hits = [self.rows[int(np.argmax(embedding))][:k] for embedding in embedded.embeddings]
        return Found(hits, 1_000, f"products_{embedded.model}", self.degraded)


def pipeline(detector: FakeDetector, searcher: FakeSearcher, rows_per_product: int = 2) -> Pipeline:
    return Pipeline(detector, FakeEmbedder(), searcher, rows_per_product=rows_per_product)


async def test_each_object_gets_a_list_and_so_does_the_whole_photo():
    searcher = FakeSearcher([hit("room", 0.9)], [hit("chair", 0.8)])
    answer = await pipeline(FakeDetector(CHAIR), searcher).run(b"", Query())
    assert [entry.products[0].product_id for entry in answer.lists] == ["chair", "room"]
    assert answer.degraded == ()


class Photographed(FakeDetector):
    """Find in each photo what it is named after."""

    def __init__(self, **found: Detection) -> None:
        super().__init__()
        self.each = found

    async def detect(self, photo: bytes, focus: Focus, terms=PATIENT) -> Sighting:
        if photo == b"torn":
            raise Truncated("the photo ends before it is complete")
        found = (self.each[photo.decode()],) if focus.detects and photo.decode() in self.each else ()
        crops = np.zeros((len(query_boxes(found, focus)), 2, 2, 3), np.uint8)
        return Sighting(len(photo), 480, found, crops, float(len(photo)))


async def test_photos_of_one_thing_give_one_list_of_what_is_like_any_of_them():
    rows = [hit("front", 0.9), hit("both", 0.6)], [hit("back", 0.8), hit("both", 0.7)]
    searcher = FakeSearcher(*rows)
    given = pipeline(Photographed(front=SEAT, back=SEAT), searcher)
    answer = await given.run_together([b"front", b"back"], Query())
    (only,) = answer.lists
    assert [(each.product_id, each.score) for each in only.products] == [("front", 0.9), ("back", 0.8), ("both", 0.7)]
    assert (only.object.detection, only.object.main, answer.width) == (SEAT, True, len(b"front"))
    assert answer.timings_ms["decode"] == len(b"front")
    assert searcher.asked == [20]
    assert answer.degraded == ()


async def test_whole_of_a_photo_stands_in_where_nothing_is_found_in_it():
    searcher = FakeSearcher([hit("front", 0.9)], [hit("room", 0.8)])
    some = await pipeline(Photographed(front=SEAT), searcher).run_together([b"front", b"room"], Query())
    none = await pipeline(Photographed(), searcher).run_together([b"front", b"room"], Query())
    assert [each.product_id for each in some.lists[0].products] == ["front", "room"]
    assert (some.degraded, none.degraded) == ((), (NO_OBJECT,))


async def test_each_of_several_photos_is_searched_by_its_own_box():
    seen = []

    class Cutting(FakeDetector):
        async def detect(self, photo, focus, terms=PATIENT):
            seen.append((photo, focus.boxes))
            return await super().detect(photo, focus)

    boxes = CHAIR.box, Box(0, 0, 1, 0.5)
    searcher = FakeSearcher([hit("front", 0.9)], [hit("back", 0.8)])
    answer = await pipeline(Cutting(), searcher).run_together([b"f", b"b"], Query(focus=Focus(boxes=boxes)))
    assert sorted(seen) == [(b"b", boxes[1:]), (b"f", boxes[:1])]
    assert answer.lists[0].object.detection.box == boxes[0]
    assert len(answer.lists[0].products) == 2


async def test_wrong_photo_of_several_is_named():
    with pytest.raises(Truncated, match=r"images\.1: "):
        await pipeline(Photographed(), FakeSearcher()).run_together([b"front", b"torn"], Query())


async def test_all_lists_are_searched_in_one_call():
    searcher = FakeSearcher([hit("room", 0.9)], [hit("chair", 0.8)])
    await pipeline(FakeDetector(CHAIR), searcher).run(b"", Query(top_k=3))
    assert searcher.asked == [6]


async def test_a_search_is_narrowed_and_strong_as_asked():
    searcher = FakeSearcher([hit("room", 0.9)], [hit("chair", 0.8)])
    wanted = Filter(categories=("Men",))
    answer = await pipeline(FakeDetector(CHAIR), searcher).run(b"", Query(wanted=wanted, strong=True))
    assert searcher.narrowed == (wanted, True)
    assert answer.watermark_ms == 1_000


async def test_what_the_searcher_lacks_is_told():
    searcher = FakeSearcher([hit("room", 0.9)])
    searcher.degraded = ("partial_index",)
    answer = await pipeline(FakeDetector(), searcher).run(b"", Query())
    assert answer.degraded == (NO_OBJECT, "partial_index")


async def test_photo_without_objects_says_so():
    answer = await pipeline(FakeDetector(), FakeSearcher([hit("room", 0.9)])).run(b"", Query())
    assert answer.degraded == (NO_OBJECT,)
    assert answer.lists[0].object.main


async def test_given_box_is_searched_and_nothing_is_looked_for():
    focus = Focus(boxes=(CHAIR.box,), source=Source.SHOPPER)
    answer = await pipeline(FakeDetector(CHAIR), FakeSearcher([hit("chair", 0.8)])).run(b"", Query(focus=focus))
    (only,) = answer.lists
    assert (only.object.source, only.object.detection.box, only.object.detection.label) == ("shopper", CHAIR.box, None)
    assert answer.degraded == ()


async def test_page_is_full_though_one_product_has_many_images():
    rows = [hit("a", 1 - i / 1000, str(i)) for i in range(50)] + [hit(f"p{i}", 0.1 - i / 1000) for i in range(5)]
    answer = await pipeline(FakeDetector(), FakeSearcher(rows)).run(b"", Query(top_k=4))
    assert [h.product_id for h in answer.lists[0].products] == ["a", "p0", "p1", "p2"]


async def test_object_beyond_the_asked_number_is_shown_but_not_searched():
    lamp = Detection(Box(0.5, 0.5, 0.6, 0.6), "lamp", 0.5)
    searcher = FakeSearcher([hit("room", 0.9)], [hit("chair", 0.8)])
    answer = await pipeline(FakeDetector(CHAIR, lamp), searcher).run(b"", Query(focus=Focus(1)))
    assert answer.lists[1].object.detection is lamp
    assert answer.lists[1].products is None


async def test_stage_times_add_up_to_the_total():
    answer = await pipeline(FakeDetector(), FakeSearcher([])).run(b"", Query())
    stages = sum(answer.timings_ms[name] for name in ("decode", "detect", "embed", "search"))
    assert stages == pytest.approx(answer.timings_ms["total"])


async def test_error_of_a_stage_is_passed_on():
    class Down(FakeSearcher):
        async def search(self, embedded, k, wanted, strong, terms=PATIENT):
            raise MilvusUnavailable("Milvus does not answer")

    with pytest.raises(MilvusUnavailable):
        await pipeline(FakeDetector(), Down()).run(b"", Query())


async def test_answer_names_the_model_that_embedded_and_the_collection_that_was_searched():
    answer = await pipeline(FakeDetector(), FakeSearcher([])).run(b"", Query())
    assert (answer.model, answer.collection) == ("0123456789ab", "products_0123456789ab")


async def test_what_must_not_be_lacking_is_refused():
    searcher = FakeSearcher([hit("room", 0.9)])
    searcher.degraded = ("partial_index",)
    strict = Pipeline(FakeDetector(), FakeEmbedder(), searcher, refused=("partial_index",))
    with pytest.raises(MilvusUnavailable, match="partial_index"):
        await strict.run(b"", Query())


async def test_waiting_for_a_replica_to_start_is_told():
    class Young(FakeEmbedder):
        async def embed(self, crops, terms=PATIENT):
            await asyncio.sleep(0.05)
            return replace(await super().embed(crops), age_s=0.01)

    answer = await Pipeline(FakeDetector(), Young(), FakeSearcher([])).run(b"", Query())
    assert 30 <= answer.timings_ms["cold_start"] < answer.timings_ms["embed"]


def with_curve(searcher: FakeSearcher, model: str = "0123456789ab") -> Pipeline:
    return Pipeline(FakeDetector(CHAIR), FakeEmbedder(), searcher, rows_per_product=2, curve=curve(model))


async def test_chances_are_the_curves_by_the_scores_and_box_of_each_list():
    searcher = FakeSearcher([hit("room", 0.9), hit("sofa", 0.85)], [hit("chair", 0.8), hit("stool", 0.5)])
    answer = await with_curve(searcher).run(b"", Query())
    said = [entry.chances.matches(entry.products) for entry in answer.lists]
    expected = [curve().matches([0.8, 0.5], CHAIR.box.area), curve().matches([0.9, 0.85], 1.0)]
    assert said == [pytest.approx(each, abs=5e-5) for each in expected]


async def test_chances_are_told_by_a_curve_of_their_own_model_alone():
    searcher = FakeSearcher([hit("room", 0.9)], [hit("chair", 0.8)])
    answer = await with_curve(searcher, "ba9876543210").run(b"", Query())
    assert [entry.chances for entry in answer.lists] == [None, None]


@pytest.mark.parametrize("flow", [with_curve(FakeSearcher([], []), "ba9876543210"), pipeline(FakeDetector(), None)])
async def test_lowest_chance_without_a_curve_says_what_to_do(flow):
    with pytest.raises(BadParameter, match=r"0123456789ab has none here.*--fit.*embedder\.calibration"):
        await flow.run(b"", Query(min_match=0.5))


async def test_one_product_is_searched_for_until_it_is_known_what_it_leads():
    rows = [hit("a", 1 - i / 1000, str(i)) for i in range(20)] + [hit("b", 0.6), hit("c", 0.5)]
    searcher = FakeSearcher(rows, rows)
    answer = await with_curve(searcher).run(b"", Query(top_k=1))
    entry = answer.lists[-1]
    assert (entry.chances.best, entry.chances.second) == (1.0, 0.6)
    assert entry.chances.matches(entry.products) == [pytest.approx(curve().matches([1.0, 0.6], 1.0)[0], abs=5e-5)]
    assert searcher.asked == [4, 16, 64]
