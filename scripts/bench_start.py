"""How soon a process that is started answers its first search: with PyTorch, and with compiled networks.

The bare pipeline, all stages in one process without Ray, is started again and again, the two sides in turns; a Milvus
Lite with the demo's catalogue is there before. What runs the networks has to be compiled in the folder before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from rich.console import Console

from scripts.bare_side import bare_process
from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, cores, median_and_spread
from serve_app.config import Stage, load_config
from serve_app.errors import BadConfig, ShoplensError
from serve_app.milvus.local import LocalMilvus
from serve_app.runtimes.artefacts import COMMAND
from serve_app.runtimes.chosen import runtime_for
from serve_app.runtimes.runtime import TORCH

GOAL_S = 5.0
STARTS, QUICK_STARTS = 9, 3
REFERENCE, COMPILED = "torch", "compiled"


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        report = run(arguments, console)
    except (ShoplensError, CantFetch, subprocess.SubprocessError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def run(arguments: argparse.Namespace, console: Console) -> Report:
    """Measure both sides; raises ShoplensError, CantFetch and SubprocessError."""
    config = load_config(data_dir=arguments.data_dir)
    photos = prepare(arguments.data_dir)
    running = {stage: runtime_for(config, stage) for stage in get_args(Stage)}
    if TORCH in running.values():
        raise BadConfig(f"not both networks are compiled in {arguments.data_dir}; `{COMMAND}` does it")
    settings = {"starts": arguments.starts, **{stage: each.backend for stage, each in running.items()}}
    report = Report("bench_start", settings)
    seconds: dict[str, list[float]] = {REFERENCE: [], COMPILED: []}
    with LocalMilvus(arguments.data_dir) as uri, console.status("starting …"):
        # The first start of each reads its files from disk, and is not counted.
        for number in range(1 + arguments.starts):
            for side in list(seconds) if number % 2 else list(seconds)[::-1]:
                started = time.perf_counter()
                with bare_process(arguments.data_dir, photos[:1], cores(), _environ(side, uri)) as bare:
                    bare.round(1, 1)
                    seconds[side].append(time.perf_counter() - started)
    for side, each in seconds.items():
        median, spread = median_and_spread(each[1:])
        report.rows.append({"networks": side, "first answer after s": median, "spread": spread})
    median = statistics.median(seconds[COMPILED][1:])
    report.goals.append(Goal("first answer of compiled networks, s", median, GOAL_S, "lower"))
    return report


def _environ(side: str, uri: str) -> Mapping[str, str]:
    backend = "torch" if side == REFERENCE else "auto"
    return {"SHOPLENS_MILVUS__URI": uri} | {f"SHOPLENS_{stage.upper()}__BACKEND": backend for stage in get_args(Stage)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three starts instead of nine")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_folder(),
        help="the demo's folder, with compiled networks; filled where it is empty (default: %(default)s)",
    )
    arguments = parser.parse_args()
    arguments.starts = QUICK_STARTS if arguments.quick else STARTS
    return arguments


if __name__ == "__main__":
    sys.exit(main())
