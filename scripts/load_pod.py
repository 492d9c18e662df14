"""One pod of a load test in a cluster: the first of a Job leads, each other sends its share of the searches.

The leader waits for the senders, tells them when to start, and prints what became of all searches: first packed, for
`python -m scripts.load_test --from-log`, then as a table with the goals.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from scripts import load_log, load_photos
from scripts.load_log import Ran
from scripts.load_schedule import SHAPES, Schedule, Share
from scripts.load_sending import PORT, Load, SenderLost, follow, lead
from scripts.load_summary import Asked, sum_up
from scripts.measuring import EXIT_COULD_NOT_RUN, Report, machine, wait_until

WIDTH = 160
"""Columns of the log, which has no terminal to ask."""
CONNECT_TIMEOUT_S = 2.0


def main() -> int:
    arguments = _arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="shoplens-photos-") as scratch:
            photos = load_photos.found(arguments.photos) if arguments.photos else load_photos.make_up(Path(scratch))
            schedule = Schedule(
                arguments.shape, arguments.rate, arguments.peak_rate or arguments.rate, arguments.seconds
            )
            load = Load(arguments.url, photos, schedule, arguments.seed)
            if arguments.index == 0:
                return _lead(load, arguments)
            return _follow(load, arguments)
    except (SenderLost, subprocess.SubprocessError, OSError) as error:
        print(f"could not run: {error}", file=sys.stderr)
        return EXIT_COULD_NOT_RUN


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--url", required=True, help="of the service")
    parser.add_argument("--leader", required=True, help="host name of the pod that leads")
    parser.add_argument("--senders", type=int, required=True, help="pods that send; one more leads")
    parser.add_argument(
        "--index",
        type=int,
        default=os.environ.get("JOB_COMPLETION_INDEX"),
        help="number of this pod, 0 for the leader; default: that of the Job",
    )
    parser.add_argument("--shape", choices=SHAPES, required=True, help="how the load goes")
    parser.add_argument("--rate", type=float, required=True, help="base rate of all pods, searches per second")
    parser.add_argument("--peak-rate", type=float, help="peak rate of all pods; default: the base rate")
    parser.add_argument("--seconds", type=float, required=True, help="how long")
    parser.add_argument("--seed", type=int, default=1, help="draws the moments of the searches")
    parser.add_argument("--photos", type=Path, help="folder of JPEG photos to send; default: made-up pictures")
    parser.add_argument("--wait-s", type=float, required=True, help="seconds until all pods have to be there")
    parser.add_argument("--goal-p99-ms", type=float, required=True, help="99 %% of the accepted are to be faster")
    parser.add_argument("--goal-refused", type=float, required=True, help="part that may be refused")
    arguments = parser.parse_args()
    if arguments.index is None:
        parser.error("--index is missing, and JOB_COMPLETION_INDEX is not set")
    return arguments


def _lead(load: Load, arguments: argparse.Namespace) -> int:
    print(f"waiting for {arguments.senders} senders, then {load.schedule.seconds:g} s of searches", flush=True)
    answers, apart_s = lead(load, arguments.senders, arguments.wait_s)
    settings = {
        "shape": load.schedule.shape,
        "seconds": round(load.schedule.seconds),
        "base searches/s": round(load.schedule.base_rate, 2),
        "peak searches/s": round(load.schedule.highest_rate, 2),
        "photos": len(load.photos) if arguments.photos else f"{len(load.photos)} made up",
        "sending pods": arguments.senders,
        "started apart, s": round(apart_s, 3),
    }
    report = Report("load_test", settings, where=machine())
    asked = Asked(arguments.goal_p99_ms, arguments.goal_refused)
    for line in load_log.lines(Ran(load.schedule, asked, settings, report.when, machine()), answers):
        print(line)
    sum_up(report, load.schedule, answers, [], asked)
    console = Console(width=WIDTH)
    console.print(settings)
    report.show(console)
    return report.exit_code()


def _follow(load: Load, arguments: argparse.Namespace) -> int:
    what = f"an answer of the leader at {arguments.leader}:{PORT}"
    wait_until(lambda: _is_there(arguments.leader), timeout_s=arguments.wait_s, what=what)
    share = Share(arguments.index - 1, arguments.senders)
    print(f"sending share {share.index + 1} of {share.count} when the leader says so", flush=True)
    follow(load, share, arguments.leader, arguments.wait_s)
    print("sent", flush=True)
    return 0


def _is_there(leader: str) -> bool:
    try:
        socket.create_connection((leader, PORT), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
