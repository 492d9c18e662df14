"""Pages of a ranking that was fixed, while the catalogue changes."""

import asyncio
from dataclasses import replace

import pytest

from serve_app.cursors import Cursor, Cursors
from serve_app.domain import PATIENT
from serve_app.errors import BadParameter, IndexMissing, MilvusUnavailable, PhotoExpired, StageUnavailable
from serve_app.filters import Filter
from serve_app.keeping import NOBODY, Bounds, ShelfStore
from serve_app.money import PriceRange
from serve_app.objects import Focus
from serve_app.paging import Paging
from serve_app.photos import Photos
from serve_app.pipeline import MAX_RANKED, Answer, Found, Pipeline, Query
from serve_app.ranking import Sort
from serve_app.rules import NO_RULES, Action, Rule, Rules
from serve_app.sessions import Sessions
from tests.unit.builders import curve, hit
from tests.unit.test_pipeline import CHAIR, FakeDetector, FakeEmbedder

MODEL = "0123456789ab"


class Catalogue:
    """Search and refresh products that may change; nearest is what comes first."""

    def __init__(self, count: int) -> None:
        self.hits = [hit(f"p{number:04}", 1 - number / 10_000, f"i{number}") for number in range(count)]
        self.searches: list[tuple[int, Filter]] = []
        self.degraded: tuple[str, ...] = ()
        self.error: Exception | None = None
        self.models: list[str] = []

    async def search(self, embedded, k, wanted, strong, terms=PATIENT):
        self._fail()
        self.searches.append((k, wanted))
        return Found([self.hits[:k] for _ in embedded.embeddings], 1_000, "products", self.degraded)

    async def refresh(self, model, ranked, terms=PATIENT):
        self._fail()
        self.models.append(model)
        known = {each.product_id: each for each in self.hits}
        found = [replace(known[entry.product_id], score=entry.score) for entry in ranked if entry.product_id in known]
        return Found([found], 2_000, "products")

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


class Shop:
    """Hold sessions over one store, as one ingress node or several do."""

    def __init__(self, catalogue: Catalogue, store: ShelfStore | None = None, model: str = MODEL) -> None:
        self.catalogue = catalogue
        self.store = store or ShelfStore(Bounds(10**7, 10**7, 900))
        self.rules = NO_RULES
        flow = Pipeline(
            FakeDetector(CHAIR), FakeEmbedder(), catalogue, rows_per_product=2, rules=lambda: self.rules, curve=curve()
        )
        photos = Photos(self.store, 1, bytes)
        self.sessions = Sessions(flow, photos, Paging(flow, catalogue, photos, model))

    async def first(self, query: Query = Query(top_k=10, focus=Focus(0))) -> Answer:  # noqa: B008
        return await self.sessions.search(NOBODY, b"a photo", query)

    async def page(self, cursor: str, top_k: int = 10, query: Query | None = None, owner: str = NOBODY) -> Answer:
        return await self.sessions.page(owner, cursor, top_k, query)


def ids(answer: Answer) -> list[str]:
    return [each.product_id for each in answer.lists[0].products]


def names(*numbers: int) -> list[str]:
    return [f"p{number:04}" for number in numbers]


async def all_pages(shop: Shop, first: Answer, top_k: int = 10, between=lambda: None) -> list[str]:
    found, cursor = ids(first), first.lists[0].next
    while cursor:
        between()
        answer = await shop.page(cursor, top_k)
        found += ids(answer)
        cursor = answer.lists[0].next
    return found


@pytest.mark.parametrize("count", [0, 1, 10, 11, 20, 25, 95, 1_500])
async def test_pages_hold_every_product_once_in_order(count):
    shop = Shop(Catalogue(count))
    assert await all_pages(shop, await shop.first()) == names(*range(min(count, MAX_RANKED)))


async def test_search_that_nobody_pages_asks_the_index_once_and_for_no_more_rows():
    shop = Shop(Catalogue(500))
    await shop.first()
    assert [k for k, _ in shop.catalogue.searches] == [20]


async def test_rest_of_a_ranking_is_searched_for_once():
    shop = Shop(Catalogue(500))
    await all_pages(shop, await shop.first())
    assert [k for k, _ in shop.catalogue.searches] == [20, 2 * MAX_RANKED]


async def test_rest_is_searched_for_as_the_first_page_was():
    shop, wanted = Shop(Catalogue(500)), Filter(categories=("Men",), attributes=(("size", ("42", 42, True)),))
    first = await shop.first(Query(wanted=wanted, focus=Focus(0)))
    await shop.page(first.lists[0].next, 100)
    assert [each for _, each in shop.catalogue.searches] == [wanted, wanted]


async def test_page_shows_what_is_true_now_without_what_was_deleted_and_is_full():
    shop = Shop(Catalogue(100))
    first = await shop.first()
    shop.catalogue.hits[12] = replace(shop.catalogue.hits[12], price=5, in_stock=False)
    del shop.catalogue.hits[13:16]
    second = await shop.page(first.lists[0].next)
    assert ids(second) == names(10, 11, 12, 16, 17, 18, 19, 20, 21, 22)
    assert (second.lists[0].products[2].price, second.lists[0].products[2].in_stock) == (5, False)


async def test_no_product_comes_twice_and_none_is_lost_but_the_deleted_while_the_catalogue_changes():
    shop, deleted = Shop(Catalogue(300)), []
    first = await shop.first()
    await shop.page(first.lists[0].next, 100)  # The ranking is fixed to its end.

    def change() -> None:
        shop.catalogue.hits.reverse()
        shop.catalogue.hits.insert(0, hit("new", 0.99, f"new-{len(deleted)}"))
        deleted.append(shop.catalogue.hits.pop(7).product_id)

    found = await all_pages(shop, first, between=change)
    assert len(set(found)) == len(found)
    assert set(names(*range(300))) - set(found) <= set(deleted)
    assert "new" not in found


async def test_products_found_before_the_rest_was_searched_for_keep_their_places():
    shop = Shop(Catalogue(300))
    first = await shop.first()
    shop.catalogue.hits = [replace(each, score=1 - each.score) for each in reversed(shop.catalogue.hits)]
    found = await all_pages(shop, first)
    assert found[:20] == names(*range(20))
    assert sorted(found) == names(*range(300))


async def test_same_page_can_be_asked_for_again():
    shop = Shop(Catalogue(100))
    cursor = (await shop.first()).lists[0].next
    one, other = await shop.page(cursor), await shop.page(cursor)
    assert ids(one) == ids(other)
    assert one.lists[0].next == other.lists[0].next


async def test_two_who_turn_a_page_at_once_go_on_with_one_ranking():
    shop = Shop(Catalogue(300))
    cursor = (await shop.first()).lists[0].next
    answers = await asyncio.gather(*(shop.page(cursor, 100) for _ in range(3)))
    shop.catalogue.hits.reverse()
    assert len({tuple(ids(answer)) for answer in answers}) == 1
    assert len({(await all_pages(shop, answer))[-1] for answer in answers}) == 1


async def test_page_names_its_object_photo_and_model():
    shop = Shop(Catalogue(100))
    first = await shop.first(Query(focus=Focus(1)))
    chair, whole = first.lists
    (page,) = (await shop.page(chair.next)).lists
    assert (page.object, page.object_id) == (chair.object, "o0")
    assert (await shop.page(whole.next)).lists[0].object_id == "o1"
    answer = await shop.page(chair.next)
    assert (answer.token, answer.model, answer.width, answer.watermark_ms) == (first.token, MODEL, 640, 2_000)


async def test_cursor_works_at_another_node_that_shares_the_store():
    one = Shop(Catalogue(100))
    other = Shop(one.catalogue, one.store)
    assert ids(await other.page((await one.first()).lists[0].next)) == names(*range(10, 20))


async def test_ranking_that_is_stored_late_is_waited_for():
    class Late(ShelfStore):
        async def add(self, owner, token, parts):
            await asyncio.sleep(0.1)
            return await super().add(owner, token, parts)

    shop = Shop(Catalogue(100), Late(Bounds(10**7, 10**7, 900)))
    assert ids(await shop.page((await shop.first()).lists[0].next)) == names(*range(10, 20))


async def test_parameters_beside_a_cursor_have_to_be_its_own():
    shop, query = Shop(Catalogue(100)), Query(focus=Focus(0), min_score=0.1)
    cursor = (await shop.first(query)).lists[0].next
    assert ids(await shop.page(cursor, query=replace(query, top_k=50)))
    with pytest.raises(BadParameter):
        await shop.page(cursor, query=replace(query, min_score=0.2))


async def test_rates_that_were_loaded_between_two_pages_change_no_search():
    shop, asked = Shop(Catalogue(100)), PriceRange("USD", 0, 2500)
    query = Query(
        focus=Focus(0),
        wanted=Filter(prices=(asked, PriceRange("EUR", 0, 2000))),
        prices=asked,
        worths=(("EUR", 0.01), ("USD", 0.008)),
    )
    cursor = (await shop.first(query)).lists[0].next
    later = replace(query, wanted=Filter(prices=(asked, PriceRange("EUR", 0, 2100))), worths=(("EUR", 0.01),))
    page = await shop.page(cursor, 90, query=later)
    assert len(ids(page)) == 90
    assert {wanted for _, wanted in shop.catalogue.searches} == {query.wanted}
    with pytest.raises(BadParameter):
        await shop.page(cursor, query=replace(later, prices=PriceRange("USD", 0, 2600)))


async def test_cursor_of_another_key_has_expired():
    shop = Shop(Catalogue(100))
    with pytest.raises(PhotoExpired):
        await shop.page((await shop.first()).lists[0].next, owner="other shop")


async def test_lost_store_has_lost_its_rankings():
    shop = Shop(Catalogue(100))
    cursor = (await shop.first()).lists[0].next
    with pytest.raises(PhotoExpired):
        await Shop(shop.catalogue).page(cursor)


async def test_index_of_a_model_that_was_replaced_has_expired():
    shop = Shop(Catalogue(100))
    cursor = (await shop.first()).lists[0].next
    shop.catalogue.error = IndexMissing("gone")
    with pytest.raises(IndexMissing):
        await shop.page(cursor)
    with pytest.raises(PhotoExpired):
        await Shop(shop.catalogue, shop.store, "ba9876543210").page(cursor)


async def test_cursor_goes_on_in_the_index_of_its_model_after_another_one_is_rolled_out():
    shop = Shop(Catalogue(100))
    cursor = (await shop.first()).lists[0].next
    page = await Shop(shop.catalogue, shop.store, "ba9876543210").page(cursor, 100)
    assert len(ids(page)) == 90
    assert page.model == MODEL
    assert set(shop.catalogue.models) == {MODEL}


async def test_part_of_an_index_does_not_fix_a_ranking():
    shop = Shop(Catalogue(100))
    cursor = (await shop.first()).lists[0].next
    shop.catalogue.degraded = ("partial_index",)
    with pytest.raises(MilvusUnavailable):
        await shop.page(cursor, 100)
    shop.catalogue.degraded = ()
    assert len(ids(await shop.page(cursor, 100))) == 90


async def test_without_a_token_there_is_no_next_page():
    class Away(ShelfStore):
        async def open(self, owner, token, parts):
            raise StageUnavailable("gone")

    assert (await Shop(Catalogue(100), Away(Bounds(1, 1, 1))).first()).lists[0].next is None


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "ä", "." * 10, "e30.x"])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises((BadParameter, PhotoExpired)):
        Cursors(b"key").read(text)


def test_cursor_that_was_changed_or_signed_elsewhere_is_refused():
    text = Cursors(b"key").write(Cursor("token", "ranking", "query", 10))
    assert Cursors(b"key").read(text) == Cursor("token", "ranking", "query", 10)
    with pytest.raises(PhotoExpired):
        Cursors(b"other key").read(text)
    with pytest.raises(PhotoExpired):
        Cursors(b"key").read(("X" if text[0] != "X" else "Y") + text[1:])


async def test_order_by_price_is_fixed_to_its_end_at_once():
    shop = Shop(Catalogue(120))
    shop.catalogue.hits = [replace(each, price=1_000 - i, currency="EUR") for i, each in enumerate(shop.catalogue.hits)]
    first = await shop.first(Query(focus=Focus(0), sort=Sort.PRICE_ASC))
    assert await all_pages(shop, first) == names(*reversed(range(120)))
    assert len(shop.catalogue.searches) == 1


async def test_styles_come_once_over_all_pages():
    shop = Shop(Catalogue(200))
    shop.catalogue.hits = [replace(each, parent_id=f"style {i % 50}") for i, each in enumerate(shop.catalogue.hits)]
    first = await shop.first(Query(focus=Focus(0), by_parent=True))
    shop.catalogue.hits[:5] = []  # Another product of these styles is now the nearest of its style.
    found = await all_pages(shop, first)
    assert len(found) == len(set(found)) == 45 + 5
    assert len({int(name[1:]) % 50 for name in found}) == 50


def matches(answer: Answer) -> dict[str, float]:
    (entry,) = answer.lists
    assert entry.chances is not None
    return dict(zip(ids(answer), entry.chances.matches(entry.products), strict=True))


async def all_matches(shop: Shop, query: Query) -> dict[str, float]:
    answer = await shop.first(query)
    found = matches(answer)
    while answer.lists[0].next:
        answer = await shop.page(answer.lists[0].next)
        found |= matches(answer)
    return found


LONG = Query(top_k=100, focus=Focus(0))
SHORT = Query(top_k=10, focus=Focus(0))


async def test_chances_are_those_of_one_long_page():
    shop = Shop(Catalogue(100))
    long = matches(await shop.first(LONG))
    assert await all_matches(shop, SHORT) == long
    assert len(set(long.values())) > 50


@pytest.mark.parametrize(
    ("query", "rules"),
    [
        (replace(SHORT, sort=Sort.PRICE_DESC), NO_RULES),
        (replace(SHORT, min_score=0.995), NO_RULES),
        (replace(SHORT, by_parent=True), NO_RULES),
        (replace(SHORT, top_k=1), NO_RULES),
        (SHORT, Rules((Rule("worst", Action.BURY, frozenset({"p0000"})),), band=0.01)),
        (SHORT, Rules((Rule("first", Action.PIN, frozenset({"p0009"})),), band=0.01)),
        (SHORT, Rules((Rule("recalled", Action.HIDE, frozenset({"p0000"})),))),
    ],
    ids=["price", "min_score", "parent", "one", "bury", "pin", "hide"],
)
async def test_chance_of_a_product_is_the_same_whatever_is_shown_beside_it(query, rules):
    catalogue = Catalogue(100)
    catalogue.hits = [
        replace(each, price=i, currency="EUR", parent_id=f"style {i // 2}") for i, each in enumerate(catalogue.hits)
    ]
    plain, shop = matches(await Shop(catalogue).first(LONG)), Shop(catalogue)
    shop.rules = rules
    shown = await all_matches(shop, query)
    assert shown == {name: plain[name] for name in shown}
    assert list(shown)[:10] != names(*range(10)) or query.min_score or query.top_k == 1
    assert 10 <= len(shown) <= 100


async def test_products_of_a_lower_chance_are_left_out_of_all_pages():
    shop = Shop(Catalogue(300))
    plain = matches(await shop.first(LONG))
    least = sorted(plain.values())[50]
    shop.catalogue.searches.clear()
    found = await all_matches(shop, replace(SHORT, min_match=least))
    assert found == {name: match for name, match in plain.items() if match >= least}
    assert [k for k, _ in shop.catalogue.searches] == [20, 2 * MAX_RANKED]


async def test_nothing_is_searched_for_below_the_lowest_chance():
    shop = Shop(Catalogue(300))
    plain = matches(await shop.first(LONG))
    shop.catalogue.searches.clear()
    answer = await shop.first(replace(SHORT, min_match=sorted(plain.values())[-4]))
    assert (ids(answer), answer.lists[0].next) == (names(*range(4)), None)
    assert [k for k, _ in shop.catalogue.searches] == [20]


async def test_chances_stay_though_the_product_that_led_is_deleted():
    shop = Shop(Catalogue(100))
    first = await shop.first()
    before = matches(await shop.page(first.lists[0].next))
    del shop.catalogue.hits[:2]
    assert matches(await shop.page(first.lists[0].next)) == before


async def test_lower_bound_of_chances_belongs_to_its_cursor():
    shop, query = Shop(Catalogue(100)), replace(SHORT, min_match=0.01)
    cursor = (await shop.first(query)).lists[0].next
    with pytest.raises(BadParameter):
        await shop.page(cursor, query=replace(query, min_match=0.02))
