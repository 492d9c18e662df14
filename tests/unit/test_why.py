"""Why a product is where it is: over rows in memory."""

from dataclasses import replace

import numpy as np
import pytest

from serve_app.domain import WHOLE_BOX, Box, Detection, StoredView, View
from serve_app.errors import UnknownProduct
from serve_app.filters import Filter, matches
from serve_app.pipeline import Embedded, Found, Pipeline, Query, Sighting, Stored
from serve_app.rules import Action, Rule, Rules
from serve_app.why import Explainer, Reason
from tests.unit.builders import curve, hit

MODEL = "0123456789ab"
CHAIR = Detection(Box(0.1, 0.1, 0.4, 0.4), "chair", 0.9)


def vector(cosine: float) -> np.ndarray:
    unit = np.zeros(256, np.float32)
    unit[0], unit[1] = cosine, np.sqrt(1 - cosine**2)
    return unit


ROWS = [(hit(f"p{number:02}", 0.0, f"i{number:02}"), vector(0.95 - number / 50)) for number in range(30)]


class Shop:
    """Be all stages: the whole photo is like the first axis, the chair like the second."""

    def __init__(self, rows=ROWS, *, lost: tuple[str, ...] = ()) -> None:
        self.rows = rows
        self.lost = lost

    async def detect(self, photo, focus, terms):
        return Sighting(640, 480, (CHAIR,), np.zeros((2, 1, 1, 3), np.uint8), 1.0)

    async def embed(self, crops, terms):
        return Embedded(np.stack([np.eye(256, dtype=np.float32)[axis] for axis in (0, 1)]), MODEL)

    async def search(self, embedded, k, wanted, strong, terms):
        kept = [(row, own) for row, own in self.rows if matches(wanted, row) and row.product_id not in self.lost]
        lists = [
            sorted((replace(row, score=float(own @ each)) for row, own in kept), key=lambda row: -row.score)[:k]
            for each in embedded.embeddings
        ]
        return Found(lists, 1, "products")

    async def product(self, model, product_id, vectors=False, strong=False, terms=None):
        assert (model, vectors, strong) == (MODEL, True, True)
        return Stored(tuple(StoredView(row, own, 1) for row, own in self.rows if row.product_id == product_id), 1)


async def place_of(product_id: str, shop: Shop, query: Query | None = None, rules: Rules | None = None):
    """Return the product's place in the list of the whole photo."""
    held = rules or Rules()
    pipeline = Pipeline(shop, shop, shop, rules=lambda: held, curve=curve())
    why = await Explainer(shop, shop, shop, pipeline, lambda: held, MODEL).why(b"", product_id, query or Query())
    return why.places[-1]


async def test_place_and_score_are_those_of_the_search():
    first, later = await place_of("p02", Shop()), await place_of("p17", Shop())
    assert (first.reason, first.rank, first.score) == (Reason.SHOWN, 3, pytest.approx(0.91))
    assert (later.reason, later.rank) == (Reason.FURTHER_DOWN, 18)
    assert [each.product_id for each in first.first] == [f"p{number:02}" for number in range(10)]
    assert first.object.detection.box == WHOLE_BOX


async def test_best_of_several_views_counts():
    rows = [*ROWS, (hit("p20", 0.0, "i20", View.OBJECT), vector(0.99))]
    place = await place_of("p20", Shop(rows))
    assert (place.rank, place.best.view, place.score) == (1, View.OBJECT, pytest.approx(0.99))


def ruled(action: Action) -> Rules:
    return Rules((Rule("ours", action, frozenset({"p03"})),), band=0.05)


SOLD_OUT = [(replace(row, in_stock=row.product_id != "p03"), own) for row, own in ROWS]
TWINS = [(replace(row, duplicate_of="i01" if row.product_id == "p03" else ""), own) for row, own in ROWS]
SISTERS = [(replace(row, parent_id="s" if row.product_id in ("p01", "p03") else ""), own) for row, own in ROWS]


@pytest.mark.parametrize(
    ("reason", "shop", "query", "rules"),
    [
        (Reason.HIDDEN, Shop(), Query(), ruled(Action.HIDE)),
        (Reason.FILTERED, Shop(SOLD_OUT), Query(wanted=Filter(in_stock=True)), None),
        (Reason.LOW_SCORE, Shop(), Query(min_score=0.93), None),
        (Reason.LOW_MATCH, Shop(), Query(min_match=0.9), None),
        (Reason.SAME_PICTURE, Shop(TWINS), Query(), None),
        (Reason.SAME_PARENT, Shop(SISTERS), Query(by_parent=True), None),
        (Reason.NOT_FOUND, Shop(lost=("p03",)), Query(), None),
    ],
)
async def test_product_that_is_in_no_list_is_told_why(reason, shop, query, rules):
    place = await place_of("p03", shop, query, rules)
    assert (place.reason, place.rank) == (reason, None)
    assert place.instead == ("p01" if reason in (Reason.SAME_PICTURE, Reason.SAME_PARENT) else None)
    assert place.score == pytest.approx(0.89)


async def test_rule_that_moves_a_product_is_named():
    shop, rules = Shop(), ruled(Action.BURY)
    pipeline = Pipeline(shop, shop, shop, rules=lambda: rules)
    why = await Explainer(shop, shop, shop, pipeline, lambda: rules, MODEL).why(b"", "p03", Query())
    assert (why.rule.name, why.views, why.collection) == ("ours", 1, "products")
    assert len(why.places) == 2


async def test_product_that_the_index_lacks_is_unknown():
    with pytest.raises(UnknownProduct, match="never imported"):
        await place_of("p99", Shop())
