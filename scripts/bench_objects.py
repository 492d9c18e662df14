"""Compare rules of which objects of a photo are searched and indexed, by how often the right product comes first.

Each photo is looked at and embedded once, for all rules, and what the models said is kept in DATA_DIR/evaluation, so a
run that was killed goes on where it was. A set is a catalogue that has several images of a product, each asked for
against all others, or scenes of it (`shoplens evaluate scenes`). One thing is changed at a time; the difference from
the present rule comes with a 95 % interval over products, or scenes. A goal is missed where another choice is better in
the main list over all sets with an interval clear of 0, in both halves of the products, and clearly worse on no set.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report
from scripts.objects_choices import LOWEST_CONFIDENCE, Choice, as_it_is, others
from scripts.objects_outcome import Found, Shelf, contradicted, rows_of
from scripts.objects_seen import see
from serve_app.config import Config, load_config
from serve_app.errors import ShoplensError
from serve_app.evaluation.models import models
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.remembering import Memory

MEMORY_FILE = Path("evaluation/said.sqlite")
QUICK = ("objects searched", "main object: both", "import views")


def main() -> int:
    arguments = _arguments()
    console = Console()
    config = load_config(data_dir=arguments.data_dir)
    now = as_it_is(config)
    choices = [now, *(each for each in others(now) if not arguments.quick or each.decision in QUICK)]
    try:
        found = {
            name: _found(name, *places, choices, arguments.sample, config, console)
            for name, places in _sets(arguments).items()
        }
    except (ShoplensError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    present = {name: each[0] for name, each in found.items()}
    report = Report("objects", {"sets": list(found), "choices": len(choices) - 1, "sample": arguments.sample})
    better = 0
    for number, choice in enumerate(choices):
        own = {name: each[number] for name, each in found.items()}
        report.rows += rows_of(own, present, choice)
        if number and contradicted(own, present):
            better += 1
            console.print(f"better than now: {choice.decision} {choice.name}", markup=False)
    report.goals.append(Goal("choices that are better than the present one", better, 0, "lower"))
    return report.finish(console, arguments.json)


def _found(
    name: str,
    catalogue: Path,
    scenes: Path | None,
    choices: Sequence[Choice],
    most: int | None,
    config: Config,
    console: Console,
) -> list[Found]:
    """Return what each choice finds of a set."""
    told = _Told(name, console)
    looking = config.model_copy(
        update={"detector": config.detector.model_copy(update={"min_confidence": LOWEST_CONFIDENCE})}
    )
    with Memory(config.data_dir / MEMORY_FILE) as memory, Photos(config) as photos:
        seen = see(name, catalogue, scenes, choices, most, models(looking, None, memory), photos, told)
    shelf = Shelf(seen)
    return [shelf.found_by(choice) for choice in choices]


class _Told:
    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._next = 0

    def __call__(self, done: int, every: int) -> None:
        if done >= self._next:
            self._console.print(f"{self._name}: {done} of {every} photos", markup=False)
            self._next = done + 50


def _sets(arguments: argparse.Namespace) -> dict[str, tuple[Path, Path | None]]:
    """Return each set's catalogue, and its scenes where it has some."""
    return {path.parent.name if path.stem == "manifest" else path.stem: (path, None) for path in arguments.views} | {
        f"{Path(scenes).parent.name}": (Path(catalogue), Path(scenes)) for catalogue, scenes in arguments.scenes
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=Path, action="append", default=[], help="a catalogue; may come again")
    parser.add_argument(
        "--scenes",
        nargs=2,
        action="append",
        default=[],
        metavar=("CATALOGUE", "SCENES"),
        help="a catalogue and scenes.csv of it; may come again",
    )
    parser.add_argument("--data-dir", type=Path, help="holds the detector's weights, and what models said")
    parser.add_argument("--sample", type=int, help="search with at most so many photos of each set")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer choices")
    arguments = parser.parse_args()
    if not (arguments.views or arguments.scenes):
        parser.error("name at least one set: --views or --scenes")
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
