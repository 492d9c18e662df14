"""What `shoplens evaluate …` does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from serve_app.calibration import Curve, read_curve
from serve_app.catalogue.formats import IMAGE_SUFFIXES
from serve_app.cli.evaluation_tables import show
from serve_app.cli.local import milvus_uri, need_models
from serve_app.config import Config
from serve_app.errors import BadInput, BadParameter
from serve_app.evaluation import live, offline
from serve_app.evaluation.answers import Question, Run
from serve_app.evaluation.calibrating import calibrate, check_on
from serve_app.evaluation.figures import overlap
from serve_app.evaluation.gallery import Gallery, read_gallery
from serve_app.evaluation.hardening import CHANGES
from serve_app.evaluation.models import models
from serve_app.evaluation.offline import Told, Unusable, over, settle, shelve
from serve_app.evaluation.outcome import Outcome, compare, judge
from serve_app.evaluation.page import write
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.pictures import Pictures
from serve_app.evaluation.questions import (
    QuestionSet,
    first_views,
    hardened,
    leave_one_view_out,
    read_questions,
    sample,
)
from serve_app.evaluation.remembering import Memory
from serve_app.evaluation.scenes import MANIFEST, write_scenes
from serve_app.evaluation.splitting import GALLERY, QUERIES, write_split

MEMORY_FILE = Path("evaluation/said.sqlite")


@dataclass(frozen=True, slots=True)
class Options:
    """Hold what `evaluate search` was asked for."""

    catalogue: Path
    queries: tuple[Path, ...] = ()
    leave_one_view_out: bool = False
    first_views: bool = False
    hard: bool = False
    model: str | None = None
    against: str | None = None
    url: str | None = None
    sample: int | None = None
    report: Path | None = None
    json: Path | None = None
    fit: Path | None = None
    curve: Path | None = None

    def check(self) -> None:
        """Raise BadParameter where options contradict each other."""
        if self.leave_one_view_out and self.first_views:
            raise BadParameter("--leave-one-view-out and --first-views exclude each other")
        if not (self.queries or self.leave_one_view_out or self.first_views):
            raise BadParameter("say what to search with: --queries, --leave-one-view-out or --first-views")
        if self.url and (self.leave_one_view_out or self.model or self.against):
            raise BadParameter(
                "a service answers with its own model and index: --url goes with --queries or --first-views"
            )


def evaluate_search(config: Config, options: Options, console: Console) -> None:
    """Evaluate one model or two, in this process or by a service, and show what was found."""
    options.check()
    stored = read_curve(options.curve) if options.curve else None
    if not options.url:
        need_models(config)
    gallery, problems = read_gallery(options.catalogue)
    asked = _questions(options, gallery)
    unusable = [Unusable(each.image, each.reason) for each in problems]
    with Photos(config) as photos:
        if options.url:
            runs, more = _live(options.url, asked, photos, console)
        else:
            asked, runs, more = _offline(config, options, asked, photos, console)
        outcome = _outcome(options.catalogue.name, asked, runs, [*unusable, *more], options.fit, stored)
        _finish(outcome, photos, options.report, options.json, console)
    if options.fit and outcome.curve:
        options.fit.write_text(outcome.curve.model_dump_json(indent=2) + "\n", encoding="utf-8")
        console.print(f"{options.fit} holds the curve for model {outcome.curve.model}.", markup=False)


def compare_models(config: Config, options: Options, console: Console) -> Outcome:
    """Let two models answer the same photos in this process, and return how the second differs; nothing is shown."""
    options.check()
    need_models(config)
    gallery, _ = read_gallery(options.catalogue)
    asked = _questions(options, gallery)
    with Photos(config) as photos:
        asked, runs, unusable = _offline(config, options, asked, photos, console)
        return _outcome(options.catalogue.name, asked, runs, unusable, None, None)


def evaluate_index(
    config: Config,
    queries: Sequence[Path],
    most: int | None,
    report: Path | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Compare the index of the settings' model with exact search over its rows."""
    from serve_app.evaluation.indexed import read_index, run_both

    need_models(config)
    with milvus_uri(config, console) as uri, Memory(config.data_dir / MEMORY_FILE) as memory, Photos(config) as photos:
        own = models(config, None, memory)
        with _told(console, "reading the index", None) as told:
            indexed = read_index(config, uri, own.embedder.fingerprint, told)
        gallery = indexed.gallery()
        asked = _merged([read_questions(path, gallery) for path in queries], gallery)
        questions = sample(asked.questions, most) if most else asked.questions
        if any(question.left_out & indexed.rows.image_ids for question in questions):
            console.print("The index holds photos that it is searched with: they find themselves.", style="yellow")
        with _told(console, "searching twice", 2 * len(questions)) as told:
            runs = run_both(questions, own, indexed, config, uri, photos, told)
        outcome = _outcome(indexed.collection, asked, runs, [], None, None)
        outcome = replace(outcome, overlap=overlap(*runs))
        _finish(outcome, photos, report, json_file, console)


def split(config: Config, catalogue: Path, folder: Path, console: Console) -> None:
    """Write a gallery and its queries."""
    gallery, _ = read_gallery(catalogue)
    with Photos(config) as photos:
        kept, asked = write_split(gallery, folder, photos)
    console.print(f"{folder / GALLERY} holds {kept:,} images, {folder / QUERIES} {asked:,}.", markup=False)


def make_scenes(
    config: Config,
    catalogue: Path,
    folder: Path,
    backgrounds: Path,
    number: int,
    seed: int,
    console: Console,
    *,
    first_views: bool,
) -> None:
    """Write scenes of a catalogue's products."""
    clutter = sorted(path for path in backgrounds.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not clutter:
        raise BadParameter(f"there are no photos in {backgrounds}")
    gallery, _ = read_gallery(catalogue)
    asked = _questions(Options(catalogue, leave_one_view_out=not first_views, first_views=first_views), gallery)
    with Photos(config) as photos, _told(console, "cutting products out", len(asked.questions)) as told:
        usable = [each for each in asked.questions if _is_readable(photos, each, told)]
        made = write_scenes(usable, photos.pixels, clutter, folder, number, seed=seed)
    console.print(f"{folder / MANIFEST} is a query set of {made:,} scenes.", markup=False)


def _is_readable(photos: Photos, question: Question, told: Told) -> bool:
    told(1)
    try:
        photos.pixels(question)
    except BadInput:
        return False
    return True


def _questions(options: Options, gallery: Gallery) -> QuestionSet:
    """Return all that is to be asked, with the gallery that answers it."""
    views = None
    if options.leave_one_view_out:
        views = leave_one_view_out(gallery)
    elif options.first_views:
        views = first_views(gallery)
    shelved = views.gallery if views else gallery
    sets = [views] if views else []
    asked = _merged([*sets, *(read_questions(path, shelved) for path in options.queries)], shelved)
    questions = sample(asked.questions, options.sample) if options.sample else asked.questions
    return replace(asked, questions=(*questions, *(hardened(questions, CHANGES) if options.hard else ())))


def _merged(sets: Sequence[QuestionSet], gallery: Gallery) -> QuestionSet:
    questions = tuple(question for each in sets for question in each.questions)
    return QuestionSet(questions, gallery, sum(each.unanswerable for each in sets))


def _offline(
    config: Config, options: Options, asked: QuestionSet, photos: Photos, console: Console
) -> tuple[QuestionSet, list[Run], list[Unusable]]:
    runs: list[Run] = []
    unusable: list[Unusable] = []
    named = [options.model, options.against] if options.against else [options.model]
    with Memory(config.data_dir / MEMORY_FILE) as memory:
        for each in named:
            own = models(config, each, memory)
            with _told(console, f"{own.name}: reading the catalogue", len(asked.gallery.entries)) as told:
                index, left = shelve(asked.gallery, own, config, told)
            if not runs:
                asked = settle(asked, index, photos)
            with _told(console, f"{own.name}: searching", len(asked.questions)) as told:
                found, refused = offline.run(asked.questions, own, over(index), config, photos, told)
            taken = any(found.name == run.name for run in runs)
            runs.append(replace(found, name=f"{found.name} {found.model}") if taken else found)
            unusable = [*left, *refused]
    return asked, runs, unusable


def _live(url: str, asked: QuestionSet, photos: Photos, console: Console) -> tuple[list[Run], list[Unusable]]:
    images = asked.gallery.images
    if any(question.left_out & images.keys() for question in asked.questions):
        raise BadParameter(
            "the catalogue holds photos that it is searched with; `shoplens evaluate split` makes one without"
        )
    with _told(console, f"asking {url}", len(asked.questions)) as told:
        found, unusable = live.run(asked.questions, url, photos, told, key=os.environ.get("SHOPLENS_KEY"))
    for answered in found.answers:
        for product in (product for listed in answered.lists for product in listed.products):
            if product.image_id not in images:
                raise BadInput(
                    f"the service found {product.image_id} of product {product.product_id}, which is not in the "
                    "catalogue; ask one whose index holds the catalogue alone"
                )
    return [found], unusable


def _outcome(
    about: str,
    asked: QuestionSet,
    runs: Sequence[Run],
    unusable: Sequence[Unusable],
    fit: Path | None,
    stored: Curve | None,
) -> Outcome:
    if not runs[0].answers:
        raise BadInput("no photo could be searched with")
    gallery = asked.gallery
    return Outcome(
        about=about,
        when=datetime.now(UTC).isoformat(timespec="minutes"),
        gallery=gallery,
        judged=tuple(judge(run, gallery) for run in runs),
        compared=compare(runs, gallery),
        unanswerable=asked.unanswerable,
        unusable=tuple(dict.fromkeys(unusable)),
        curve=calibrate(runs[0]) if fit else None,
        stored=check_on(stored, runs[0]) if stored else None,
    )


def _finish(outcome: Outcome, photos: Photos, report: Path | None, json_file: Path | None, console: Console) -> None:
    show(outcome, console)
    if json_file:
        text = json.dumps(outcome.document(), indent=2, ensure_ascii=False, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    if report:
        with console.status("making the report …"):
            write(report, outcome, Pictures(photos, outcome.gallery))
        console.print(f"{report} shows it with pictures.", markup=False)


@contextmanager
def _told(console: Console, what: str, total: int | None) -> Iterator[Told]:
    """Show how far something is."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(what), total=total)
        yield lambda done: progress.advance(task, done)
