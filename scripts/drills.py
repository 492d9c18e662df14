"""Do harm to what Shoplens runs on, while it is searched and written to, and count what its users would see."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from httpx import HTTPError
from kubernetes.client.exceptions import ApiException
from pymilvus.exceptions import MilvusException
from rich.console import Console

from scripts import import_drill, kubernetes_drill, milvus_drills, promotion_drill, serve_drills, zero_drill
from scripts.demo_catalogue import CantFetch
from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.namespace import go_inside
from scripts.processes import CantStart
from serve_app.errors import ShoplensError

COULD_NOT_RUN = (
    CantStart, CantFetch, ShoplensError, MilvusException, ApiException, HTTPError, TimeoutError, LookupError, OSError,
    subprocess.CalledProcessError,
)  # fmt: skip
FILE_COLUMNS = 160


class Kind(Protocol):
    """What a module of drills offers."""

    SUMMARY: str
    HAS_NAMESPACE: bool
    """Whether it starts all that it harms, in a network namespace of its own."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None: ...

    def prepare(self, arguments: argparse.Namespace, console: Console, /) -> None:
        """Fetch what can't be fetched from inside a network namespace."""

    def run(self, arguments: argparse.Namespace, workdir: Path, console: Console, /) -> Report: ...


KINDS: Mapping[str, Kind] = {
    "milvus": milvus_drills,
    "serve": serve_drills,
    "zero": zero_drill,
    "import": import_drill,
    "kubernetes": kubernetes_drill,
    "promotion": promotion_drill,
}


def main() -> int:
    arguments = _arguments()
    kind = KINDS[arguments.what]
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not arguments.inside:
            kind.prepare(arguments, console)
            if kind.HAS_NAMESPACE:
                go_inside("scripts.drills")
        with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as scratch:
            report = kind.run(arguments, arguments.workdir or Path(scratch), console)
    except COULD_NOT_RUN as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        return 130
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="what", required=True, help="what is harmed")
    for name, kind in KINDS.items():
        each = kinds.add_parser(name, help=kind.SUMMARY, description=kind.SUMMARY)
        each.add_argument("--quick", action="store_true", help="end within minutes")
        each.add_argument("--json", type=Path, help="write the figures to this file")
        each.add_argument("--workdir", type=Path, help="keep data and logs here")
        each.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
        kind.add_arguments(each)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
