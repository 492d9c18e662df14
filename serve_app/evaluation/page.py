"""The report of an evaluation as one HTML file, for a merchandiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path, PurePosixPath

from serve_app.calibration import Check
from serve_app.evaluation.answers import Answered, Listed, Question, Run
from serve_app.evaluation.charts import histogram, reliability
from serve_app.evaluation.figures import MAIN, Compared, Row
from serve_app.evaluation.outcome import Outcome
from serve_app.evaluation.pictures import Pictures
from serve_app.evaluation.resampling import Difference

SHOWN_QUERIES = 24
SHOWN_PRODUCTS = 3
WORDS = {
    "main list": "what a shopper sees first: the list of the main object, or of the whole photo where there is none",
    "any list": "the best of all lists that were searched",
    "merged": "all lists as one, by score",
    "own box": "in scenes, only lists whose box is where the product is",
    "R@5": "the right product is among the first five",
    "mAP@10": "1 where the right products come first, 1/2 where the only one is second, 1/3 where it is third",
    "nDCG@10": "the same, with a smaller reward for the same style in another colour, and a milder discount",
    "hit@5": "in scenes, at least one of the right products is among the first five",
    "found@10": "in scenes, the share of the right products that are among the first ten",
    "[low, high]": "other products like these would give a figure between the two in 95 of 100 tries",
}
LACKED = {"no_detector": "came without a detector", "partial_index": "came from a part of the index"}
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; white-space: nowrap }
td.number { font-variant-numeric: tabular-nums }
svg { height: auto; max-width: 100% } svg text { fill: currentColor; font-size: 11px }
figure { display: inline-block; margin: .3rem .6rem .3rem 0; vertical-align: top; width: 8.2rem }
figure img, figure div { background: #8882; height: 8rem; object-fit: contain; width: 8rem }
figcaption { font-size: 12px; line-height: 1.3; overflow-wrap: anywhere }
.right img { outline: 3px solid #2a9d5c }
.query { border-top: 1px solid #8886; display: flex; flex-wrap: wrap; gap: 0 2rem }
.better { color: light-dark(#176b3a, #6fd79b) } .worse { color: light-dark(#a8203a, #ff8a98) }
"""


def write(path: Path, outcome: Outcome, pictures: Pictures) -> None:
    """Write the report; photos and images are read once more for their pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(outcome, pictures)), encoding="utf-8")


def _page(outcome: Outcome, pictures: Pictures) -> Iterator[str]:
    title = f"How well {escape(outcome.about)} is found"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>'
    yield f"<h1>{title}</h1><p>{escape(outcome.when)}. {_counts(outcome)}</p>"
    yield "<details><summary>What the words mean</summary><dl>"
    yield "".join(f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in WORDS.items())
    yield "</dl></details>"
    for each in outcome.judged:
        yield f"<h2>{escape(each.run.name)}</h2>"
        yield "".join(f"<p>{_sentence(row)}</p>" for row in each.rows if row.rule == MAIN and "R@1" in row.figures)
        yield "".join(
            f"<p>{number:,} answers {LACKED.get(flag, flag)}.</p>"
            for flag, number in each.degraded.items()
            if flag in LACKED
        )
        yield _figures(each.rows)
        if each.categories:
            yield "<h3>By category</h3>" + _figures(each.categories)
        yield "<h3>Scores of the first product</h3>"
        yield histogram(*_first_scores(each.run), f"Scores of right and wrong first products, {each.run.name}")
    if outcome.compared:
        yield from _comparison(outcome)
    yield from _calibration(outcome)
    yield from _queries(outcome, pictures)
    yield "</body></html>"


def _counts(outcome: Outcome) -> str:
    gallery = outcome.gallery
    text = f"{len(gallery.images):,} images of {len(gallery.products):,} products were searched."
    if outcome.unanswerable:
        text += f" {outcome.unanswerable:,} photos were left out, because no other image shows their product."
    if outcome.unusable:
        first = outcome.unusable[0]
        text += f" {len(outcome.unusable):,} files can't be used, as {first.image}: {first.reason}."
    return escape(text)


def _sentence(row: Row) -> str:
    first, five = row.figures["R@1"], row.figures["R@5"]
    return (
        f"<strong>{escape(row.line)}</strong>: of {row.photos:,} photos of {row.products:,} products, the right "
        f"product came first for <strong>{first.value:.0%}</strong>{_between(first.low, first.high)}, and among the "
        f"first five for {five.value:.0%}{_between(five.low, five.high)}."
    )


def _between(low: float, high: float) -> str:
    return f" (between {low:.0%} and {high:.0%} on other products like these)" if low == low else ""


def _figures(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", "", "photos", "products", *names))
    body = []
    for row in rows:
        cells = [f"{row.photos:,}", f"{row.products:,}", *(str(row.figures.get(name, "")) for name in names)]
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        body.append(f'<tr><th scope="row">{escape(row.line)}</th><td>{escape(row.rule)}</td>{numbers}</tr>')
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _comparison(outcome: Outcome) -> Iterator[str]:
    before, after = (each.run.name for each in outcome.judged)
    yield f"<h2>{escape(after)} against {escape(before)}</h2>"
    if outcome.overlap:
        yield f"<p>Of the products of {escape(before)} lists, {outcome.overlap} are in the other's too.</p>"
    yield (
        "<p>Photo by photo. A difference counts where chance alone would give one as large in fewer than 5 of 100 "
        "tries; with many lines, some will by chance.</p>"
    )
    yield "<table><tr>" + "".join(
        f'<th scope="col">{name}</th>' for name in ("", "", "", "difference", "95 %", "p", "smallest it could show", "")
    )
    yield "</tr>" + "".join(_compared_row(each) for each in outcome.compared) + "</table>"


def _compared_row(each: Compared) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(each.line)}</th><td>{escape(each.rule)}</td><td>{name}</td>'
        f'<td class="number">{found.value:+.3f}</td><td class="number">{found.low:+.3f} … {found.high:+.3f}</td>'
        f'<td class="number">{found.chance:.4f}</td><td class="number">{found.smallest:.3f}</td>{_verdict(found)}</tr>'
        for name, found in each.differences.items()
    )


def _verdict(found: Difference) -> str:
    if not found.significant:
        return "<td>no difference shown</td>"
    word = "better" if found.value > 0 else "worse"
    return f'<td class="{word}">{word}</td>'


def _first_scores(run: Run) -> tuple[list[float], list[float]]:
    right: list[float] = []
    wrong: list[float] = []
    for answered in run.answers:
        for product in answered.main.products[:1]:
            (right if product.product_id in answered.question.right else wrong).append(product.score)
    return right, wrong


def _calibration(outcome: Outcome) -> Iterator[str]:
    checks: list[tuple[str, Check]] = []
    if outcome.curve and outcome.curve.all_products and outcome.curve.first_products:
        checks += [("fitted here, first products of lists", outcome.curve.first_products)]
        checks += [("fitted here, all products of lists", outcome.curve.all_products)]
    if outcome.stored:
        checks += [("the given curve, first products of lists", outcome.stored[1])]
        checks += [("the given curve, all products of lists", outcome.stored[0])]
    if checks:
        yield "<h2>Can its chances be believed?</h2>"
        yield (
            "<p>From score, lead and box size a curve tells the chance that a product is the right one. Each circle "
            "holds products that got about the same chance; on the dashed line, what was said is true. A curve that is "
            "fitted here is checked in five parts, each by a curve of the other products.</p>"
        )
    for name, check in checks:
        yield f"<h3>{escape(name)}</h3>"
        yield (
            f"<p>{check.products:,} products, {check.right:,} of them right. Brier score {check.brier:.4f}, against "
            f"{check.constant_brier:.4f} for saying the same of all; mean distance {check.error:.3f}.</p>"
        )
        yield reliability(check, f"Chances said and true, {name}")


def _queries(outcome: Outcome, pictures: Pictures) -> Iterator[str]:
    runs = [each.run for each in outcome.judged]
    if len(runs) == 1:
        yield "<h2>The surest mistakes</h2><p>Framed green: the right product. Framed red: what was searched with.</p>"
        for answered in worst(runs[0])[:SHOWN_QUERIES]:
            yield _query([(runs[0].name, answered)], pictures)
        return
    for title, pairs in _pairs(runs[0], runs[1]).items():
        yield f"<h2>{escape(title)}: {len(pairs):,} photos</h2>"
        for pair in pairs[: SHOWN_QUERIES // 2]:
            yield _query(list(zip((run.name for run in runs), pair, strict=True)), pictures)


def _pairs(before: Run, after: Run) -> dict[str, list[tuple[Answered, Answered]]]:
    """Return the answers of both by what became of them, those that both got right left out."""
    others = {each.question.key: each for each in after.answers}
    wrong = worst(before)
    pairs = [(each, others[each.question.key]) for each in wrong]
    lost = [each for each in worst(after) if each.question.key not in {other.question.key for other in wrong}]
    firsts = {each.question.key: each for each in before.answers}
    return {
        f"Better with {after.name}": [pair for pair in pairs if rank(pair[1]) == 1],
        f"Worse with {after.name}": [(firsts[each.question.key], each) for each in lost],
        "Wrong with both": [pair for pair in pairs if rank(pair[1]) != 1],
    }


def worst(run: Run) -> list[Answered]:
    """Return the questions whose main list does not begin with a right product, the surest mistake first."""
    wrong = [each for each in run.answers if rank(each) != 1 and not each.question.is_scene]
    return sorted(wrong, key=lambda each: (rank(each) is not None, *(-found.score for found in each.main.products[:1])))


def rank(answered: Answered) -> int | None:
    """Return the place of the first right product in the main list, None where it is not in it."""
    ids = answered.main.ids
    return next((place for place, product in enumerate(ids, 1) if product in answered.question.right), None)


def _query(answers: Sequence[tuple[str, Answered]], pictures: Pictures) -> str:
    question = answers[0][1].question
    right = question.right[0]
    parts = [
        f"<div><p>{escape(question.line)}</p>",
        _figure(pictures.of_question(question, answers[0][1].main.box), f"searched with {_name(question)}", ""),
        _figure(pictures.of_product(right, question.left_out), f"right: {right}", "right"),
        "</div>",
    ]
    for name, answered in answers:
        place = rank(answered)
        found = f"right in place {place}" if place else "right not among the first ten"
        shown = _found(answered.main, question.right, pictures)
        parts.append(f"<div><p>{escape(name)}: {found}</p>{shown}</div>")
    return f'<div class="query">{"".join(parts)}</div>'


def _name(question: Question) -> str:
    return PurePosixPath(question.image).name


def _found(listed: Listed, right: Sequence[str], pictures: Pictures) -> str:
    return "".join(
        _figure(
            pictures.of_image(each.image_id),
            f"{place}. {each.product_id} {each.score:.3f}",
            "right" if each.product_id in right else "",
        )
        for place, each in enumerate(listed.products[:SHOWN_PRODUCTS], 1)
    )


def _figure(picture: str | None, caption: str, kind: str) -> str:
    text = escape(caption)
    shown = f'<img alt="" src="{picture}">' if picture else "<div>no picture</div>"
    return f'<figure class="{kind}">{shown}<figcaption>{text}</figcaption></figure>'
