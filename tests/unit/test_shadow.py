"""A model is tried on shoppers' searches beside the one that answers them."""

import asyncio

import numpy as np
import pytest

from serve_app.config import EmbedderConfig
from serve_app.domain import PATIENT, Box, Detection, Terms
from serve_app.errors import BadWeights, MilvusUnavailable, Overloaded, StageUnavailable
from serve_app.pipeline import Embedded, Found, Pipeline, Query, Sighting
from serve_app.shadow import KEPT, Mirror, Shadow
from serve_app.stages import BatchedEmbedder, TriedEmbedder
from tests.unit.builders import curve, hit
from tests.unit.fronts import MeanModel, front, settings
from tests.unit.test_front import CACHED, client, photo, upload

OLD, NEW = "0123456789ab", "ba9876543210"
CHAIR = Detection(Box(0.1, 0.1, 0.6, 0.6), "chair", 0.9)
CROPS = np.zeros((2, 1, 1, 3), np.uint8)


class Shop:
    """Be all stages, of both models, and count."""

    def __init__(self) -> None:
        self.found = {OLD: ("p1", "p2", "p3", "p4"), NEW: ("p4", "p9")}
        self.gate: asyncio.Event | None = None
        self.failure: Exception | None = None
        self.age_s = 1e9
        self.answers_as = NEW
        self.codes: list[str] = []
        self.terms: list[Terms] = []

    async def detect(self, photo, focus, terms):
        return Sighting(640, 480, (CHAIR,), CROPS, 1.0)

    async def embed(self, crops, terms):
        return Embedded(np.zeros((len(crops), 256), np.float32), OLD)

    async def embed_in_shadow(self, model, crops, terms):
        self.terms.append(terms)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return Embedded(np.zeros((len(crops), 256), np.float32), self.answers_as, self.age_s)

    async def search(self, embedded, k, wanted, strong, terms):
        hits = [hit(product, 0.9 - place / 10) for place, product in enumerate(self.found[embedded.model])]
        return Found([hits[:k]] * len(embedded.embeddings), 1, f"products_{embedded.model}")

    def repeated(self, outcome):
        self.codes.append(outcome.code)

    def not_repeated(self):
        self.codes.append("dropped")


class Counter:
    """Have a shop in which each search is repeated, and ask it."""

    def __init__(self, *, deadline_s: float = 5.0, share: float = 1.0, draws=(0.0,), tried_curve=None) -> None:
        self.shop = Shop()
        draws = list(draws)
        self.mirror = Mirror(
            OLD,
            self.shop,
            lambda tried: Pipeline(self.shop, self.shop, self.shop, curve=tried),
            self.shop,
            deadline_s=deadline_s,
            draw=lambda: draws[0] if len(draws) == 1 else draws.pop(0),
        )
        self.mirror.follow(NEW, share=share, most=2, curve=tried_curve)
        self.pipeline = Pipeline(self.shop, self.shop, self.shop, curve=curve(OLD), onlooker=self.mirror)

    async def ask(self, query: Query | None = None, terms: Terms = PATIENT):
        return await self.pipeline.run(b"", query or Query(), terms)

    async def settled(self) -> Shadow:
        """Return what is known once nothing is under way."""
        while self.mirror._running:
            await asyncio.wait(self.mirror._running)
        return self.mirror.state()


async def test_answered_search_is_repeated_in_the_tried_models_index_and_compared():
    counter = Counter()
    answer = await counter.ask()
    (outcome,) = (await counter.settled()).outcomes
    assert answer.model == OLD
    assert (outcome.code, outcome.served.empty, outcome.found.empty) == ("ok", False, False)
    assert outcome.shared == pytest.approx(1 / 4)
    assert outcome.served.took_ms == pytest.approx(answer.timings_ms["embed"] + answer.timings_ms["search"])
    assert counter.shop.codes == ["ok"]
    assert counter.shop.terms[0].bulk


async def test_shopper_does_not_wait_for_the_tried_model_and_what_is_too_much_is_dropped():
    counter = Counter()
    counter.shop.gate = asyncio.Event()
    for _ in range(5):
        await counter.ask()
    assert counter.shop.codes == ["dropped"] * 3
    counter.shop.gate.set()
    state = await counter.settled()
    assert (len(state.outcomes), state.dropped) == (2, 3)


async def test_share_of_the_searches_is_repeated():
    counter = Counter(share=0.5, draws=(0.1, 0.5, 0.9, 0.49))
    for _ in range(4):
        await counter.ask()
        await counter.settled()
    assert len(counter.mirror.state().outcomes) == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (StageUnavailable("it can't be loaded"), "stage_unavailable"),
        (MilvusUnavailable("away"), "milvus_unavailable"),
        (Overloaded("busy"), "dropped"),
    ],
)
async def test_failure_of_the_tried_model_is_counted_and_no_shoppers(failure, code):
    counter = Counter()
    counter.shop.failure = failure
    assert (await counter.ask()).lists[0].products
    await counter.settled()
    assert counter.shop.codes == [code]


async def test_what_takes_too_long_failed_once_the_model_has_answered_and_waits_for_it_before():
    counter = Counter(deadline_s=0.05)
    gate = counter.shop.gate = asyncio.Event()
    await counter.ask()
    await counter.settled()
    gate.set()
    await counter.ask()
    await counter.settled()
    gate.clear()
    await counter.ask()
    await counter.settled()
    assert counter.shop.codes == ["dropped", "ok", "deadline_exceeded"]


@pytest.mark.parametrize("changed", [{"age_s": 0.0}, {"answers_as": OLD}], ids=["just loaded", "another model"])
async def test_answer_that_says_nothing_of_the_tried_model_is_dropped(changed):
    counter = Counter()
    for name, value in changed.items():
        setattr(counter.shop, name, value)
    await counter.ask()
    await counter.settled()
    assert counter.shop.codes == ["dropped"]


async def test_bulk_calls_are_not_repeated():
    counter = Counter()
    await counter.ask(terms=Terms.within(5, bulk=True))
    assert (await counter.settled()).outcomes == ()


async def test_chances_are_asked_of_the_tried_models_own_curve():
    wants = Query(min_match=0.01)
    without, with_curve = Counter(), Counter(tried_curve=curve(NEW))
    for counter in (without, with_curve):
        await counter.ask(wants)
        await counter.settled()
    assert (without.shop.codes, with_curve.shop.codes) == (["bad_parameter"], ["ok"])


async def test_main_list_without_products_is_empty():
    counter = Counter()
    counter.shop.found[NEW] = ()
    await counter.ask()
    (outcome,) = (await counter.settled()).outcomes
    assert (outcome.served.empty, outcome.found.empty, outcome.shared) == (False, True, 0.0)


async def test_another_model_begins_another_series_and_the_served_one_is_not_tried():
    counter = Counter()
    await counter.ask()
    first = await counter.settled()
    counter.mirror.follow(NEW, share=0.5, most=1)
    assert counter.mirror.state().series == first.series
    counter.mirror.follow(None, share=1, most=1)
    counter.mirror.follow(NEW, share=1, most=1)
    assert counter.mirror.state().outcomes == ()
    assert counter.mirror.state().series != first.series
    counter.mirror.follow(OLD, share=1, most=1)
    assert counter.mirror.state() == Shadow()


async def test_outcomes_are_kept_up_to_a_bound_and_numbered_on():
    counter = Counter()
    for _ in range(KEPT + 3):
        await counter.ask()
        await counter.settled()
    state = counter.mirror.state()
    assert (state.first, len(state.outcomes)) == (3, KEPT)


async def test_front_repeats_searches_with_a_photo_that_the_models_saw(tmp_path):
    async with front(settings(tmp_path, cache=CACHED)) as made, client(made) as http:
        made.mirror.follow(NEW, share=1, most=2)
        answers = [(await upload(http, photo())).json() for _ in range(2)]
        while made.mirror._running:
            await asyncio.wait(made.mirror._running)
        told = (await http.get("/admin/shadow")).json()
    assert [each["model"] for each in answers] == [OLD, OLD]
    # The second came from the cache: its crops were never made.
    assert made.stages.asked.count("shadow") == 1
    assert made.tally.codes_in_shadow == ["ok"]
    assert made.tally.codes == ["ok", "ok"]
    assert (told["model"], told["shadow"]["model"], told["shadow"]["outcomes"][0]["shared"]) == (OLD, NEW, 1.0)


def batched(model: str) -> BatchedEmbedder:
    if model != NEW:
        raise BadWeights("its weights were changed")
    return BatchedEmbedder(MeanModel(NEW), EmbedderConfig())


async def test_tried_model_is_loaded_and_gone_without_a_restart():
    tried = TriedEmbedder(batched)
    with pytest.raises(Overloaded):
        await tried.embed(NEW, CROPS)
    await tried.take(NEW)
    embedded = await tried.embed(NEW, CROPS)
    assert (embedded.model, embedded.embeddings.shape) == (NEW, (2, 256))
    await tried.take(None)
    with pytest.raises(Overloaded):
        await tried.embed(NEW, CROPS)


async def test_tried_model_that_can_not_be_loaded_refuses_its_calls_and_says_why():
    tried = TriedEmbedder(batched)
    await tried.take("aaaaaaaaaaaa")
    with pytest.raises(StageUnavailable, match="weights were changed"):
        await tried.embed("aaaaaaaaaaaa", CROPS)
    await tried.take(NEW)
    assert (await tried.embed(NEW, CROPS)).model == NEW
    await tried.take(None)
