"""`shoplens weights compile`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.table import Table

from serve_app.cli.local import need_detector_weights
from serve_app.config import PRECISIONS, Compiler, Config, Precision, Stage
from serve_app.errors import BadConfig, ParityMissed
from serve_app.runtimes.artefacts import installed
from serve_app.runtimes.photos import find_photos
from serve_app.runtimes.runtime import Wanted

if TYPE_CHECKING:
    from serve_app.compiling import Made


def compile_weights(
    config: Config,
    photos: Path,
    backends: Sequence[str] | None,
    precisions: Sequence[str] | None,
    stages: Sequence[str] | None,
    console: Console,
) -> None:
    """Make what is asked for and show how near it comes; raises ParityMissed where something was refused."""
    networks = asked(backends, precisions, stages)
    compared, calibration = find_photos(photos)
    need_detector_weights(config)
    from serve_app.compiling import Reference, check_wanted, compile_network

    check_wanted(networks)
    console.print(f"{len(compared)} photos are compared; int8 is calibrated with {len(calibration)} others.")
    reference = Reference(config, compared, calibration)
    made = []
    with console.status("") as status:
        for each in networks:
            status.update(f"{each.stage}, {each.backend}, {each.precision}: making and comparing …")
            made.append(compile_network(config, each, reference))
    console.print(_table(made))
    refused = [each for each in made if each.problem]
    if refused:
        reasons = " | ".join(f"{_name(each)}: {each.problem}" for each in refused)
        raise ParityMissed(f"not near enough to PyTorch, and not kept: {reasons}")


def asked(
    backends: Sequence[str] | None, precisions: Sequence[str] | None, stages: Sequence[str] | None
) -> list[Wanted]:
    """Return what is to be made; raises BadConfig for what does not exist, or where no backend is installed."""
    known: list[Compiler] = list(get_args(Compiler))
    some = _of(known, backends, "backend") if backends else [each for each in known if installed(each)]
    if not some:
        extras = " or ".join(f"'shoplens[{each}]'" for each in known)
        raise BadConfig(f"no faster backend is installed; pip install {extras} brings one")
    exact: list[Precision] = _of(list(get_args(Precision)), precisions, "precision") if precisions else ["fp32"]
    parts: list[Stage] = _of(list(get_args(Stage)), stages, "stage") if stages else list(get_args(Stage))
    able = [Wanted(*each) for each in product(parts, some, exact) if each[2] in PRECISIONS[each[1]]]
    if not able:
        raise BadConfig(f"{' and '.join(some)} can't compute with {' or '.join(exact)}; choose another precision")
    return able


def _of(known: list[Any], given: Sequence[str], name: str) -> list[Any]:
    unknown = [each for each in given if each not in known]
    if unknown:
        raise BadConfig(f"{unknown[0]} is no {name}; choose from {', '.join(known)}")
    return [each for each in known if each in given]


def _table(made: Sequence[Made]) -> Table:
    table = Table("network", "near to PyTorch", "ms", "PyTorch ms", "s to make", "", box=None, pad_edge=False)
    for each in made:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in each.figures.items())
        told = "refused" if each.problem else "kept"
        table.add_row(_name(each), figures, f"{each.ms:.1f}", f"{each.reference_ms:.1f}", f"{each.seconds:.0f}", told)
    return table


def _name(made: Made) -> str:
    return f"{made.wanted.stage}, {made.wanted.backend}, {made.wanted.precision}"
