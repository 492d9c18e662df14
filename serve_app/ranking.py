"""Hits of the index, made into a page of products."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from serve_app.domain import Hit


def group(hits: Iterable[Hit], *, min_score: float | None = None) -> list[Hit]:
    """Keep each product's best hit, best product first, and of products with one picture the first.

    Equal scores are ordered by product id, so that the same photo always gets the same page.
    """
    best: dict[str, Hit] = {}
    for hit in hits:
        if min_score is not None and hit.score < min_score:
            continue
        known = best.get(hit.product_id)
        if known is None or (hit.score, known.row_id) > (known.score, hit.row_id):
            best[hit.product_id] = hit
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
