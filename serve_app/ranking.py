"""Hits of the index, made into a page of products."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from serve_app.calibration import LEADERS, Chances, Curve
from serve_app.domain import Hit

NO_WORTHS: Mapping[str, float] = MappingProxyType({})


class Sort(StrEnum):
    """The order of a list's products."""

    SIMILARITY = "similarity"
    PRICE_ASC = "price_asc"
    PRICE_DESC = "price_desc"


def group(hits: Iterable[Hit], *, min_score: float | None = None, by_parent: bool = False) -> list[Hit]:
    """Keep each product's best hit, best product first, and of products with one picture the first.

    `by_parent`, products of one parent are one, shown by the best of them.
    Equal scores are ordered by product id, so that the same photo always gets the same page.
    """
    best: dict[tuple[bool, str], Hit] = {}
    for hit in hits:
        if min_score is not None and hit.score < min_score:
            continue
        key = (True, hit.parent_id) if by_parent and hit.parent_id else (False, hit.product_id)
        known = best.get(key)
        if known is None or (hit.score, known.row_id) > (known.score, hit.row_id):
            best[key] = hit
    page: dict[str, Hit] = {}
    for hit in sorted(best.values(), key=lambda hit: (-hit.score, hit.product_id)):
        page.setdefault(hit.picture, hit)
    return list(page.values())


def cut_off(answers: Sequence[Sequence[Hit]], *, asked: int, min_score: float | None) -> float | None:
    """Return the highest score that a row which is not among the answers may have; None where there is none.

    `answers` are the hits of every embedding of one list, each asked for `asked` rows. Rows further down score no
    higher than an answer's last one.
    """
    scores = [hits[-1].score for hits in answers if len(hits) >= asked]
    return max((score for score in scores if min_score is None or score >= min_score), default=None)


def needs_more(page: Sequence[Hit], unseen: float | None, depth: int) -> bool:
    """Tell whether the first `depth` products could still be more, or in another order, with more rows.

    `unseen` is the cut-off of the rows that the page was made of.
    """
    return unseen is not None and (len(page) < depth or unseen > page[depth - 1].score)


def final_part(page: Sequence[Hit], unseen: float | None, depth: int) -> Sequence[Hit]:
    """Return those first products that no unseen row can come before, `depth` of them at least where there are."""
    if unseen is None:
        return page
    return page[: max(depth, bisect_right(page, -unseen, key=lambda hit: -hit.score))]


@dataclass(frozen=True, slots=True)
class Similar:
    """Hold a list's products, best first, and what may be missing among them.

    `unseen` is the highest score that a row may have which could still join them, None where none can.
    """

    page: list[Hit]
    unseen: float | None
    chances: Chances | None = None
    is_led_by_unseen: bool = False
    """Those that chances are measured by may be others than are known."""


def by_similarity(
    answers: Sequence[Sequence[Hit]],
    *,
    asked: int,
    shows: Callable[[Hit], bool],
    min_score: float | None,
    by_parent: bool,
    curve: Curve | None,
    area: float,
    min_match: float | None,
) -> Similar:
    """Make one list of the hits of its embeddings, each asked for `asked` rows; see `group` and `Chances`."""
    hits = [hit for answer in answers for hit in answer]
    shown = [hit for hit in hits if shows(hit)]
    page = group(shown, min_score=min_score, by_parent=by_parent)
    unseen = cut_off(answers, asked=asked, min_score=min_score)
    if curve is None:
        return Similar(page, unseen)
    is_plain = len(shown) == len(hits) and min_score is None and not by_parent
    plain = page if is_plain else group(hits)
    is_led_by_unseen = needs_more(plain, cut_off(answers, asked=asked, min_score=None), LEADERS)
    chances = Chances.of(curve, area, plain)
    if min_match is not None:
        page = chances.at_least(page, min_match)
        if unseen is not None and chances.highest(unseen) < min_match:
            unseen = None
    return Similar(page, unseen, chances, is_led_by_unseen)


def sort(
    page: Sequence[Hit],
    order: Sort,
    *,
    band: float,
    currency: str | None = None,
    worths: Mapping[str, float] = NO_WORTHS,
    place: Callable[[Hit], int] = lambda hit: 0,
) -> list[Hit]:
    """Return products, best first, in another order among those that are about equally similar.

    Within a band, products come by `place` first, the lowest first, then by price.

    A band is what scores at most `band` less than its first product; the next product begins another one. `worths` is
    what a minor unit of each currency is worth. Products whose price can't be compared with one in the currency, by
    default that of most of them, follow at their band's end.
    """
    if order is Sort.SIMILARITY:
        return list(page)
    prices = Counter(hit.currency for hit in page if hit.price >= 0)
    wanted = currency or min(prices, key=lambda each: (-prices[each], each), default="")
    compared = worths if wanted in worths else {wanted: 1.0}
    sign = -1 if order is Sort.PRICE_DESC else 1

    def key(hit: Hit) -> tuple[int, bool, float]:
        worth = compared.get(hit.currency)
        by_price = (True, 0.0) if worth is None or hit.price < 0 else (False, sign * hit.price * worth)
        return place(hit), *by_price

    sorted_page: list[Hit] = []
    while rest := page[len(sorted_page) :]:
        end = bisect_right(rest, band - rest[0].score, key=lambda hit: -hit.score)
        sorted_page += sorted(rest[:end], key=key)
    return sorted_page
