"""A shop's rules put products in order that are about equally similar."""

import logging
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.config import RankingConfig
from serve_app.errors import BadConfig
from serve_app.filters import Filter
from serve_app.objects import Focus
from serve_app.pipeline import Pipeline, Query
from serve_app.ranking import Sort
from serve_app.rules import MOST_IN_BAND, NO_RULES, Action, Rule, Rules
from serve_app.rules_file import MOST_RULES, read_rules, watch_rules
from tests.unit.builders import hit
from tests.unit.test_paging import Catalogue, Shop, all_pages, ids
from tests.unit.test_pipeline import FakeDetector, FakeEmbedder

FILE = """
- {name: autumn, action: boost, category: Men/Tops}
- {name: out of season, action: bury, attributes: {season: [summer, spring]}}
- {name: recalled, action: hide, product: [7, "8"]}
- {name: of the week, action: pin, product: "9", category: [Men]}
"""


def product(name, score, *, category="", in_stock=True, price=-1, **attributes):
    found = hit(name, score, attributes=attributes)
    return replace(found, category=category, in_stock=in_stock, price=price, currency="EUR" if price >= 0 else "")


def boost(*products):
    return Rule("up", Action.BOOST, frozenset(products))


def arranged(rules, *page, whole=True):
    return "".join(found.product_id for found in rules.arranged(page, whole=whole))


PAGE = [
    product("a", 0.9),
    product("b", 0.89, in_stock=False),
    product("c", 0.88),
    product("d", 0.8),
    product("e", 0.79),
]


def test_without_rules_similarity_decides():
    assert arranged(NO_RULES, *PAGE) == "abcde"
    assert not NO_RULES.arranges
    assert not Rules((Rule("gone", Action.HIDE),)).arranges


def test_rules_move_products_within_their_band_only():
    rules = Rules((boost("c", "e"),), band=0.05)
    assert arranged(rules, *PAGE) == "cabed"


def test_sold_out_products_come_last_of_those_that_no_rule_moves():
    rules = Rules((Rule("down", Action.BURY, frozenset("a")),), sold_out_last=True, band=0.05)
    assert arranged(rules, *PAGE) == "cbade"


def test_pinned_come_before_boosted_and_the_first_rule_of_a_product_counts():
    rules = Rules((boost("a", "c"), Rule("pin", Action.PIN, frozenset("bc"))), band=0.2)
    assert arranged(rules, *PAGE) == "bacde"
    assert [rules.rule(each) and rules.rule(each).name for each in PAGE] == ["up", "pin", "up", None, None]


def test_a_rule_holds_for_what_has_all_that_it_names():
    rule = Rule("r", Action.BOOST, frozenset({"a", "b"}), Filter(("Men",), attributes=(("size", ("S",)),)))
    assert rule.holds(product("a", 1, category="Men/Tops", size=["M", "S"]))
    assert not rule.holds(product("a", 1, category="Men/Tops"))
    assert not rule.holds(product("a", 1, size="S"))
    assert not rule.holds(product("c", 1, category="Men", size="S"))


def test_a_band_has_no_more_products_than_are_searched_for():
    page = [product(f"p{number}", 0.5) for number in range(2 * MOST_IN_BAND + 1)]
    rules = Rules((boost(f"p{MOST_IN_BAND}", f"p{2 * MOST_IN_BAND}"),), band=1)
    found = [each.product_id for each in rules.arranged(page, whole=True)]
    assert [found.index(f"p{MOST_IN_BAND}"), found.index(f"p{2 * MOST_IN_BAND}")] == [MOST_IN_BAND, 2 * MOST_IN_BAND]


def test_of_a_last_band_that_may_go_on_is_returned_what_nothing_can_come_before():
    rules = Rules((boost("c"),), band=0.05)
    assert arranged(rules, *PAGE, whole=False) == "cab"
    assert arranged(rules, *PAGE[:3], whole=False) == "c"
    down = Rules((Rule("down", Action.BURY, frozenset("a")),), sold_out_last=True, band=0.05)
    assert arranged(down, *PAGE[:3], whole=False) == "c"
    assert arranged(down, *PAGE[:3], whole=True) == "cba"


class Ruled(Shop):
    def __init__(self, catalogue, rules):
        super().__init__(catalogue)
        pipeline = Pipeline(FakeDetector(), FakeEmbedder(), catalogue, rows_per_product=2, rules=lambda: rules)
        self.sessions._pipeline = self.sessions._paging._pipeline = pipeline


def stock(count, sold_out, step):
    catalogue = Catalogue(count)
    catalogue.hits = [
        replace(each, score=1 - number * step, in_stock=number not in sold_out, price=count - number, currency="EUR")
        for number, each in enumerate(catalogue.hits)
    ]
    return catalogue


@given(st.sets(st.integers(0, 90)), st.sets(st.integers(0, 90), max_size=20), st.sampled_from([0.0001, 0.002, 0.01]))
@settings(max_examples=25)
async def test_pages_are_those_of_one_long_list_however_long_they_are(sold_out, boosted, step):
    rules = Rules((boost(*(f"p{number:04}" for number in boosted)),), sold_out_last=True, band=0.03)
    long = ids(await Ruled(stock(90, sold_out, step), rules).first(Query(top_k=100, focus=Focus(0))))
    expected = [each.product_id for each in rules.arranged(stock(90, sold_out, step).hits, whole=True)]
    assert long == expected
    for top_k in (3, 10, 25):
        shop = Ruled(stock(90, sold_out, step), rules)
        assert await all_pages(shop, await shop.first(Query(top_k=top_k, focus=Focus(0))), top_k) == expected


async def test_hidden_products_are_in_no_list_and_lists_are_full():
    rules = Rules((Rule("recalled", Action.HIDE, frozenset({"p0001", "p0003"})),))
    found = ids(await Ruled(Catalogue(50), rules).first(Query(top_k=4, focus=Focus(0))))
    assert found == ["p0000", "p0002", "p0004", "p0005"]


async def test_rules_come_before_prices_within_a_band_of_prices():
    rules = Rules((boost("p0001"),), sold_out_last=True, band=0.03)
    query = Query(top_k=5, focus=Focus(0), sort=Sort.PRICE_ASC, currency="EUR")
    found = ids(await Ruled(stock(5, {4}, 0.001), rules).first(query))
    assert found == ["p0001", "p0003", "p0002", "p0000", "p0004"]


async def test_a_search_finds_its_last_band_to_the_end_in_one_call_where_its_products_may_be_lifted():
    catalogue = stock(500, set(), 0.0001)
    await Ruled(catalogue, Rules((boost("p0499"),), band=0.03)).first()
    assert [k for k, _ in catalogue.searches] == [2 * (10 + MOST_IN_BAND)]


@pytest.mark.parametrize(("sold_out", "searches"), [(0, [8]), (4, [8]), (6, [8, 32])])
async def test_more_is_searched_for_where_too_little_of_what_was_found_is_in_stock(sold_out, searches):
    catalogue = stock(500, set(range(sold_out)), 0.0001)
    found = await Ruled(catalogue, Rules(sold_out_last=True, band=0.03)).first(Query(top_k=4, focus=Focus(0)))
    assert [k for k, _ in catalogue.searches] == searches
    assert ids(found) == [f"p{number:04}" for number in range(sold_out, sold_out + 4)]


def test_file_of_rules_is_read(tmp_path):
    (tmp_path / "rules.yaml").write_text(FILE.replace("[7, ", '["7", '))
    rules = read_rules(tmp_path / "rules.yaml")
    assert [(rule.name, rule.action) for rule in rules] == [
        ("autumn", "boost"),
        ("out of season", "bury"),
        ("recalled", "hide"),
        ("of the week", "pin"),
    ]
    assert rules[1].wanted == Filter(attributes=(("season", ("summer", "spring")),))
    assert (rules[3].products, rules[3].wanted.categories) == ({"9"}, ("Men",))


@pytest.mark.parametrize(
    "text",
    [
        FILE,
        "rules: []",
        "- {name: a, action: boost}",
        "- {name: a, action: lift, product: x}",
        "- {name: '', action: pin, product: x}",
        "- {name: a, action: pin, product: x, colour: red}",
        "- {name: a, action: pin, category: /}",
        "- {name: a, action: pin, attributes: {size: {a: 1}}}",
        "- [",
        "\n".join(["- {name: a, action: pin, product: x}"] * (MOST_RULES + 1)),
        "!!python/object/apply:os.system [true]",
    ],
    ids=lambda text: text.strip()[:50],
)
def test_file_that_can_not_be_used_is_named_with_the_reason(tmp_path, text):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(BadConfig, match=r"rules\.yaml"):
        read_rules(tmp_path / "rules.yaml")


def test_rules_that_change_are_in_force_at_once_and_broken_ones_leave_the_last(tmp_path, caplog):
    path = tmp_path / "rules.yaml"
    file = watch_rules(path, RankingConfig(sold_out_last=True, rules_band=0.03))
    assert file.current() == Rules((), True, 0.03)
    path.write_text("- {name: a, action: pin, product: x}")
    assert [rule.name for rule in file.current().rules] == ["a"]
    path.write_text("- {name: longer, action: pin, product: x}")
    assert [rule.name for rule in file.current().rules] == ["longer"]
    path.write_text("nonsense")
    with caplog.at_level(logging.ERROR, "serve_app.watched_file"):
        assert [file.current().rules[0].name, file.current().rules[0].name] == ["longer", "longer"]
    assert len(caplog.records) == 1
    path.unlink()
    assert file.current().rules == ()


def test_rules_that_are_read_aside_hold_from_the_first_answer_and_change_without_holding_one_up(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("- {name: a, action: hide, product: x}")
    file = watch_rules(path, RankingConfig(), aside=True)
    assert [rule.name for rule in file.current().rules] == ["a"]
    path.write_text("- {name: longer, action: hide, product: x}")
    assert [rule.name for rule in file.current().rules] == ["a"]
    file._reading.join()
    assert [rule.name for rule in file.current().rules] == ["longer"]
