"""The figures of a run: every metric by line and by list, with intervals, and two runs compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from serve_app.domain import Box
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Answered, Run
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.metrics import average_precision, ndcg, recall, share_found
from serve_app.evaluation.resampling import Difference, Interval, differences, intervals

CUTS = (1, 5, 10)
K = 10
OWN_BOX_IOU = 0.5
"""A list is of a known box where its own box overlaps that one by so much."""

MAIN, ANY, WHOLE, MERGED, OWN_BOX = "main list", "any list", "whole photo", "merged", "own box"

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """Hold the figures of one line by one rule of which list is looked at."""

    line: str
    rule: str
    photos: int
    products: int
    figures: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold how much better the second run is than the first."""

    line: str
    rule: str
    photos: int
    products: int
    differences: Mapping[str, Difference]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Hold one value of each figure, and the product (or scene) that it counts for."""

    cluster: str
    values: Values


def rows(run: Run, gallery: Gallery) -> list[Row]:
    """Return the figures of all lines, in the order of their first photos."""
    found = []
    for line, answers in _by(run.answers, lambda each: each.question.line).items():
        for rule, samples in _rules(answers, gallery):
            products = {product for each in answers for product in each.question.right}
            figures: dict[str, Interval] = {}
            for some in samples:
                names = list(some[0].values)
                table = [[each.values[name] for name in names] for each in some]
                figures |= zip(names, intervals(table, [each.cluster for each in some]), strict=True)
            found.append(Row(line, rule, len(answers), len(products), figures))
    return found


def category_rows(run: Run, gallery: Gallery) -> list[Row]:
    """Return the figures of unchanged photos by category, that of most photos first; none without categories."""
    answers = [each for each in run.answers if not each.question.change and not each.question.is_scene]
    by_category = _by(answers, lambda each: each.question.category)
    if set(by_category) <= {""}:
        return []
    found = []
    for category in sorted(by_category, key=lambda name: (-len(by_category[name]), name)):
        name = category or "without a category"
        asked = [replace(each, question=replace(each.question, line=name)) for each in by_category[category]]
        found += [each for each in rows(Run(run.name, run.model, tuple(asked)), gallery) if each.rule == MAIN]
    return found


def compared(before: Run, after: Run, gallery: Gallery) -> list[Compared]:
    """Compare two runs photo by photo; raises BadInput unless they are of the same photos."""
    answers = {each.question.key: each for each in after.answers}
    if answers.keys() != {each.question.key for each in before.answers}:
        raise BadInput("two runs can be compared on the same photos only; evaluate both on one set")
    found = []
    for line, old in _by(before.answers, lambda each: each.question.line).items():
        new = [answers[each.question.key] for each in old]
        for (rule, olds), (_, news) in zip(_rules(old, gallery), _rules(new, gallery), strict=True):
            gained: dict[str, Difference] = {}
            for some, others in zip(olds, news, strict=True):
                names = list(some[0].values)
                then, now = ([[each.values[name] for name in names] for each in side] for side in (some, others))
                gained |= zip(names, differences(then, now, [each.cluster for each in some]), strict=True)
            products = {product for each in old for product in each.question.right}
            found.append(Compared(line, rule, len(old), len(products), gained))
    return found


def overlap(exact: Run, other: Run) -> Interval:
    """Return the share of the products of exact lists that another run's lists hold too, by questions."""
    lists = {each.question.key: each.lists for each in other.answers}
    shares, clusters = [], []
    for answered in exact.answers:
        theirs = {each.box: set(each.ids) for each in lists[answered.question.key]}
        for each in answered.lists:
            if each.products:
                shares.append([len(theirs.get(each.box, set()).intersection(each.ids)) / len(each.products)])
                clusters.append(answered.question.right[0])
    return intervals(shares, clusters)[0]


def _rules(answers: Sequence[Answered], gallery: Gallery) -> Iterator[tuple[str, list[list[_Sample]]]]:
    """Yield rules with samples of equal clusters together."""
    if any(each.question.is_scene for each in answers):
        yield from _scene_rules(answers)
        return
    rules: dict[str, Callable[[Answered], Values]] = {
        MAIN: lambda each: ranked(each, each.main.ids, gallery),
        ANY: _best,
        WHOLE: lambda each: ranked(each, each.whole.ids, gallery),
    }
    for name, values in rules.items():
        yield name, [[_Sample(each.question.right[0], values(each)) for each in answers]]


def ranked(answered: Answered, products: Sequence[str], gallery: Gallery) -> Values:
    """Return every metric of one list."""
    right = answered.question.right
    return {
        **{f"R@{k}": recall(products, right, k) for k in CUTS},
        f"mAP@{K}": average_precision(products, right, K),
        f"nDCG@{K}": ndcg(products, gallery.grades(answered.question), K),
    }


def _best(answered: Answered) -> Values:
    lists = [each.ids for each in answered.lists]
    return {f"R@{k}": max(recall(ids, answered.question.right, k) for ids in lists) for k in CUTS}


def _scene_rules(answers: Sequence[Answered]) -> Iterator[tuple[str, list[list[_Sample]]]]:
    """Yield for each rule hits, by scene, and what share of the scenes' products was found, by product."""
    rules: dict[str, Callable[[Answered], list[list[str]]]] = {
        WHOLE: lambda each: [each.whole.ids],
        MAIN: lambda each: [each.main.ids],
        MERGED: lambda each: [merged(each)],
        ANY: lambda each: [listed.ids for listed in each.lists],
    }
    for name, lists_of in rules.items():
        hits, found = [], []
        for each in answers:
            lists, right = lists_of(each), each.question.right
            hits.append(
                _Sample(each.question.image, {f"hit@{k}": float(share_found(lists, right, k) > 0) for k in CUTS})
            )
            found += [_Sample(product, {f"found@{K}": share_found(lists, [product], K)}) for product in right]
        yield name, [hits, found]
    boxed = [
        _Sample(product, {f"found@{K}": share_found(_lists_of_box(each, box), [product], K)})
        for each in answers
        for product, box in each.question.boxes.items()
        if product in each.question.right
    ]
    if boxed:
        yield OWN_BOX, [boxed]


def merged(answered: Answered) -> list[str]:
    """Return the products of all lists as one, by their best scores."""
    best: dict[str, float] = {}
    for listed in answered.lists:
        for product in listed.products:
            best[product.product_id] = max(product.score, best.get(product.product_id, -1.0))
    return sorted(best, key=lambda product: (-best[product], product))


def _lists_of_box(answered: Answered, box: Box) -> list[list[str]]:
    return [each.ids for each in answered.lists if each.box.iou(box) >= OWN_BOX_IOU]


def _by(answers: Iterable[Answered], key: Callable[[Answered], str]) -> dict[str, list[Answered]]:
    groups: dict[str, list[Answered]] = defaultdict(list)
    for each in answers:
        groups[key(each)].append(each)
    return dict(groups)
