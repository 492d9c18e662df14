"""Draw where the service's time goes while shoppers search: a flame graph (SVG) of all its processes.

It starts the demo's shop, keeps searches in flight and has py-spy look a hundred times a second what each thread that
works is doing. py-spy is no dependency: `pip install py-spy`, and root where the system lets no one else look.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
from rich.console import Console

from scripts.closed_loop import over_http
from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare, serving
from scripts.measuring import EXIT_COULD_NOT_RUN
from serve_app.errors import ShoplensError

LOOKS_A_SECOND = 100
WARM_UP = 16
UNHURRIED = {"SHOPLENS_LIMITS__DEADLINE_S": "60", "SHOPLENS_INGRESS__LATENCY_GOAL_S": "60"}
"""No search is to be refused, or to end at its deadline, because it is watched."""
ROUND = 16
"""Searches that are sent before it is seen whether the recording has ended."""


def main() -> int:
    arguments = _arguments()
    console = Console()
    recorder = shutil.which("py-spy")
    if recorder is None:
        console.print("could not run: py-spy is not on the PATH; `pip install py-spy` brings it", markup=False)
        return EXIT_COULD_NOT_RUN
    try:
        searches = asyncio.run(record(arguments, recorder))
    except (ShoplensError, CantFetch, subprocess.SubprocessError, httpx.HTTPError, TimeoutError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    console.print(f"{arguments.out}: {arguments.seconds} s, {searches} searches", markup=False)
    return 0


async def record(arguments: argparse.Namespace, recorder: str) -> int:
    """Record, and return how many searches were answered meanwhile.

    Raises ShoplensError, CantFetch, HTTPError, SubprocessError and TimeoutError.
    """
    photos = [path.read_bytes() for path in prepare(arguments.data_dir)]
    with serving(arguments.data_dir, UNHURRIED) as (service, url):
        await over_http(url, photos, WARM_UP, arguments.in_flight)
        recording = await asyncio.create_subprocess_exec(
            recorder, "record", "--subprocesses", "--pid", str(service.pid), "--duration", str(arguments.seconds),
            "--rate", str(LOOKS_A_SECOND), "--format", "flamegraph", "--output", str(arguments.out),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        ended = asyncio.create_task(recording.wait())
        answered = 0
        while not ended.done():
            outcome = await over_http(url, photos, ROUND, arguments.in_flight)
            if outcome["failed"]:
                raise httpx.HTTPError(outcome["failed"][0])
            answered += len(outcome["latencies_ms"])
        if await ended:
            raise subprocess.SubprocessError(f"py-spy ended with {recording.returncode}; its reason stands above")
        return answered


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the SVG that is written")
    parser.add_argument("--seconds", type=int, default=30, help="of recording (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=4, help="searches at once (default: %(default)s)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_folder(),
        help="the demo's folder; filled where it is empty (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
