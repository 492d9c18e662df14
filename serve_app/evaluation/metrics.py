"""How good one ranked list of products is.

Lists hold product ids, best first, each once; `right` are the products that would be right, at least one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

SAME_PRODUCT, SAME_STYLE = 3, 1
"""Grades of nDCG: the product itself, and its style in another colour."""


def recall(products: Sequence[str], right: Collection[str], k: int) -> float:
    """Return 1 where a right product is among the first `k`, else 0."""
    return float(any(product in right for product in products[:k]))


def share_found(lists: Collection[Sequence[str]], right: Collection[str], k: int) -> float:
    """Return the share of the right products that are among the first `k` of any list."""
    found = {product for products in lists for product in products[:k]}
    return len(found.intersection(right)) / len(right)


def average_precision(products: Sequence[str], right: Collection[str], k: int) -> float:
    """Return the mean, over the right products that `k` places have room for, of the precision where each stands.

    With one right product, this is one over its rank. https://doi.org/10.1007/978-0-387-39940-9_482
    """
    found, total = 0, 0.0
    for rank, product in enumerate(products[:k], 1):
        if product in right:
            found += 1
            total += found / rank
    return total / min(len(right), k)


def ndcg(products: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Return the graded gain of the first `k` products over the best possible one.

    `grades` names every product of the gallery that is worth anything. A gain is its grade over log2(rank + 1):
    Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418.
    """
    best = _gain(sorted(grades.values(), reverse=True)[:k])
    return _gain([grades.get(product, 0) for product in products[:k]]) / best if best else 0.0


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))
