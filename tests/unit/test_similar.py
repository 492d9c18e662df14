"""Products like a stored one, and its pages, over a catalogue in memory."""

from dataclasses import replace

import numpy as np
import pytest

from serve_app.domain import PATIENT, StoredView, View
from serve_app.errors import BadParameter, StageUnavailable, UnknownProduct
from serve_app.filters import Filter, matches
from serve_app.keeping import NOBODY, ShelfStore
from serve_app.pipeline import NO_TOKEN, Answer, Found, Query, Stored
from serve_app.similar import MOST_VECTORS, Products
from tests.unit.builders import hit
from tests.unit.test_paging import MODEL, Catalogue, Shop, ids, names
from tests.unit.test_sessions import AwayStore


class Stock(Catalogue):
    """Hold rows that are found by their product, and honour filters."""

    def __init__(self, count: int, views: int = 1) -> None:
        super().__init__(count)
        self.views = views
        self.vectors: list[int] = []

    async def search(self, embedded, k, wanted, strong, terms=PATIENT):
        self.vectors.append(len(embedded.embeddings))
        found = await super().search(embedded, k, wanted, strong, terms)
        passing = [each for each in self.hits if matches(wanted, each)][:k]
        return Found([passing for _ in embedded.embeddings], found.watermark_ms, "products", self.degraded)

    async def product(self, model, product_id, vectors=False, strong=False, terms=PATIENT):
        assert model == MODEL
        unit = np.eye(256, dtype=np.float32)[0]
        own = [each for each in self.hits if each.product_id == product_id]
        rows = [
            StoredView(replace(each, row_id=f"{each.image_id}-{n:03}", view=list(View)[n % 2]), unit, 5)
            for each in own
            for n in range(self.views)
        ]
        return Stored(tuple(rows), 900, "products")


class Similar(Shop):
    def __init__(self, catalogue: Stock, store: ShelfStore | None = None) -> None:
        super().__init__(catalogue, store)
        self.products = Products(self.sessions._pipeline, catalogue, MODEL)

    async def like(self, product_id: str, query: Query = Query(top_k=10)) -> Answer:  # noqa: B008
        return await self.sessions.begun(NOBODY, *await self.products.similar(product_id, query))

    async def further(self, cursor: str, product_id: str) -> Answer:
        return await self.sessions.page(NOBODY, cursor, 10, None, product_id=product_id)


async def test_a_product_is_left_out_of_what_is_similar_to_it():
    answer = await Similar(Stock(12)).like("p0003")
    assert ids(answer) == names(0, 1, 2, 4, 5, 6, 7, 8, 9, 10)
    assert (answer.model, answer.collection, answer.watermark_ms) == (MODEL, "products", 900)


async def test_of_products_like_another_one_none_has_a_chance_to_be_the_right_one():
    shop = Similar(Stock(30))
    first = await shop.like("p0003")
    further = await shop.further(first.lists[0].next, "p0003")
    assert (first.lists[0].chances, further.lists[0].chances) == (None, None)


async def test_all_pages_leave_the_product_out():
    shop = Similar(Stock(95))
    answer = await shop.like("p0042")
    found, cursor = ids(answer), answer.lists[0].next
    while cursor:
        answer = await shop.further(cursor, "p0042")
        found, cursor = found + ids(answer), answer.lists[0].next
    assert found == [name for name in names(*range(95)) if name != "p0042"]


async def test_a_list_without_further_pages_keeps_nothing():
    shop = Similar(Stock(5), AwayStore())
    answer = await shop.like("p0000")
    assert (answer.lists[0].next, answer.degraded) == (None, ())


async def test_a_store_that_is_away_costs_the_further_pages_and_nothing_else():
    answer = await Similar(Stock(50), AwayStore(StageUnavailable("away"))).like("p0000")
    assert ids(answer) == names(*range(1, 11))
    assert (answer.lists[0].next, answer.degraded) == (None, (NO_TOKEN,))


async def test_cursor_of_another_product_is_refused():
    shop = Similar(Stock(50))
    cursor = (await shop.like("p0000")).lists[0].next
    with pytest.raises(BadParameter, match="another list"):
        await shop.further(cursor, "p0001")


async def test_cursor_of_a_photo_is_refused_for_a_product():
    shop = Similar(Stock(50))
    cursor = (await shop.first()).lists[0].next
    with pytest.raises(BadParameter, match="another list"):
        await shop.further(cursor, "p0001")


async def test_cursor_of_a_product_is_refused_for_a_photo():
    shop = Similar(Stock(50))
    cursor = (await shop.like("p0000")).lists[0].next
    with pytest.raises(BadParameter, match="another list"):
        await shop.page(cursor)


async def test_a_search_is_narrowed_as_asked_beside_what_is_left_out():
    shop = Similar(Stock(50))
    await shop.like("p0000", Query(wanted=Filter(in_stock=True)))
    assert shop.catalogue.searches[0][1] == Filter(in_stock=True, but_product="p0000")


async def test_the_own_parent_is_left_out_where_parents_are_one():
    stock = Stock(6)
    stock.hits = [replace(each, parent_id=f"style {number // 2}") for number, each in enumerate(stock.hits)]
    assert ids(await Similar(stock).like("p0002", Query(by_parent=True))) == names(0, 4)
    assert ids(await Similar(stock).like("p0002")) == names(0, 1, 3, 4, 5)


async def test_a_product_of_many_images_is_searched_with_its_whole_ones_first():
    shop = Similar(Stock(3, views=3 * MOST_VECTORS))
    await shop.like("p0000")
    assert shop.catalogue.vectors == [MOST_VECTORS]


async def test_unknown_product_is_named_with_the_way_to_send_it():
    shop = Similar(Stock(3))
    with pytest.raises(UnknownProduct, match="PUT /v1/products"):
        await shop.like("nobody's")
    with pytest.raises(UnknownProduct):
        await shop.products.product("nobody's")


async def test_a_product_is_read_by_its_id():
    (view,) = (await Similar(Stock(3)).products.product("p0001")).rows
    assert view.hit.product_id == hit("p0001", 1).product_id


async def test_what_an_answer_lacks_is_told():
    stock = Stock(3)
    stock.degraded = ("partial_index",)
    assert (await Similar(stock).like("p0000")).degraded == ("partial_index",)
    assert NO_TOKEN not in (await Similar(stock).like("p0000")).degraded
