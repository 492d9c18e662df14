"""Hits of the index, made into a page of products."""

from __future__ import annotations

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


def needs_more(
    page: Sequence[Hit], answers: Sequence[Sequence[Hit]], *, asked: int, top_k: int, min_score: float | None
) -> bool:
    """Tell whether the page could still be filled, or its order change, by asking the index for more rows.

    `answers` are the hits of every embedding of one list, each asked for `asked` rows. Rows further down
    score no higher than an answer's last one, so a page whose last product beats all of those is final.
    """
    cut_off = [hits[-1].score for hits in answers if len(hits) >= asked]
    if min_score is not None:
        cut_off = [score for score in cut_off if score >= min_score]
    if not cut_off:
        return False
    return len(page) < top_k or max(cut_off) > page[top_k - 1].score
