"""Compare an import with its bare models: the same images, decoded, detected and embedded in one process.

`pipeline` compares their rates and watches the import's memory, `again` imports the same catalogue a second time, and
once more with every hundredth image changed. The index is Milvus Lite. Both sides have all cores; the bare one runs
before the import and after it, so that the machine's noise meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from rich.console import Console

from scripts import import_side
from scripts.demo_catalogue import CantFetch
from scripts.import_side import images_below, make_data_dir, settings, write_catalogue
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, cores, descendants, memory_mib
from serve_app.errors import ShoplensError

QUICK_IMAGES = 96
CHANGED = 100
"""Every so many-th image is another one in the last import."""
SAMPLE_S = 1.0
WARM_PART = 0.25
"""Part of the import after which its memory is taken for what it needs."""
NICENESS = 15
"""Ray's workers give way to other processes by so much (RAY_worker_niceness), and so does the bare side."""
RATE_GOAL, MEMORY_GOAL = 0.9, 1.1
AGAIN_GOAL, CHANGED_GOAL = 0.05, 0.07
PARTS = ("pipeline", "again")


def main() -> int:
    arguments = _arguments()
    if arguments.bare:
        for line in _bare(*arguments.bare):
            print(json.dumps(line), flush=True)
        return 0
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="shoplens-bench-import-") as folder:
            report = run(arguments, Path(folder), console)
    except (ShoplensError, CantFetch, subprocess.SubprocessError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure; default: both")
    parser.add_argument("--images", type=Path, action="append", help="folder of images; default: the demo's photos")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_IMAGES} of them")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--bare", type=Path, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(arguments: argparse.Namespace, folder: Path, console: Console) -> Report:
    """Measure; raises ShoplensError, CantFetch, CalledProcessError."""
    images = images_below(arguments.images)
    images = images[:: max(1, len(images) // QUICK_IMAGES)][:QUICK_IMAGES] if arguments.quick else images
    data_dir, manifest = folder / "data", folder / "catalogue.csv"
    make_data_dir(data_dir)
    write_catalogue(manifest, images)
    report = Report("bench_import", {"images": len(images), "views": settings(data_dir).importing.views})
    # Compared with two short runs of the bare side, one of all the images would take as long again.
    few = folder / "some.csv"
    write_catalogue(few, images[:: max(1, len(images) // 256)])
    bare: list[float] = []
    with console.status("the bare models …") as status:
        if "pipeline" in arguments.only:
            bare.append(_rate_of_bare(data_dir, few))
        status.update("the import …")
        first = _watched(data_dir, manifest)
        if "pipeline" in arguments.only:
            status.update("the bare models, again …")
            bare.append(_rate_of_bare(data_dir, few))
            _compare(report, first, statistics.mean(bare))
        if "again" in arguments.only:
            status.update("the same import again …")
            again = _watched(data_dir, manifest)
            write_catalogue(manifest, _changed(images, folder))
            status.update("an import of which a hundredth has changed …")
            changed = _watched(data_dir, manifest)
            for name, found, goal in (("the same", again, AGAIN_GOAL), ("1 % changed", changed, CHANGED_GOAL)):
                report.rows.append({"import": name, "seconds": found.seconds, **found.statuses})
                part = found.seconds / first.seconds
                report.goals.append(Goal(f"import again, {name}: of the first one's time", part, goal, "lower"))
    return report


@dataclass
class Watched:
    """Hold what was seen of an import: its seconds, images by what became of them, and its processes' memory."""

    seconds: float = 0.0
    start_s: float = 0.0
    """Until the first images were stored: most of it is the start of Ray and of the models."""
    statuses: Counter[str] = field(default_factory=Counter)
    work: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[float, float]] = field(default_factory=list)
    _first: int = 0

    def add(self, step: Mapping[str, Any], at_s: float) -> None:
        self.statuses.update(step["statuses"])
        self.work.update(step["work"])
        if step["statuses"].get("embedded") and not self.start_s:
            self.start_s, self._first = at_s, self.statuses["embedded"]

    @property
    def rate(self) -> float:
        """Return the images a second, from the first ones that were stored to the last."""
        return (self.statuses["embedded"] - self._first) / (self.seconds - self.start_s)

    def growth(self) -> float:
        """Return the memory at the end as a part of what was needed once the import was under way."""
        warm_s = self.start_s + WARM_PART * (self.seconds - self.start_s)
        sizes = [mib for at_s, mib in self.memory if warm_s <= at_s <= self.seconds]
        span = max(1, len(sizes) // 4)
        return statistics.mean(sizes[-span:]) / statistics.mean(sizes[:span]) if sizes else 0.0


def _watched(data_dir: Path, manifest: Path) -> Watched:
    """Import in a process of its own and watch it; raises CalledProcessError."""
    found = Watched()
    start_s = time.monotonic()
    with import_side.start(data_dir, manifest, os.environ) as process, ThreadPoolExecutor(1) as thread:
        sampling = thread.submit(_sample, process, start_s)
        assert process.stdout is not None
        for line in process.stdout:
            step = json.loads(line)
            found.add(step, time.monotonic() - start_s)
            # The end of Ray is no part of the work, and the same for many images as for few.
            found.seconds = time.monotonic() - start_s
        found.memory = sampling.result()
    _check(process)
    return found


def _sample(process: subprocess.Popen[str], start_s: float) -> list[tuple[float, float]]:
    """Return the memory of a process and all below it, in MiB, by seconds."""
    found = []
    while process.poll() is None:
        total = 0.0
        for pid in (process.pid, *descendants(process.pid)):
            try:
                total += memory_mib(pid)
            except (OSError, ValueError):
                continue  # It has just ended.
        found.append((time.monotonic() - start_s, total))
        time.sleep(SAMPLE_S)
    return found


def _compare(report: Report, found: Watched, bare: float) -> None:
    span = found.seconds - found.start_s
    report.rows.append({"side": "bare models", "images/s": bare})
    report.rows.append({"side": "import", "images/s": found.rate})
    report.rows.append(
        {"import": "the first", "seconds": found.seconds, "of them start": found.start_s, **found.statuses}
    )
    report.rows += [{"part of the work": name, "of the time": spent / span} for name, spent in found.work.most_common()]
    sizes = [mib for _, mib in found.memory]
    report.rows.append({"memory of all processes, MiB": "most", "": max(sizes, default=0.0)})
    report.goals.append(Goal("import to bare models, images/s", found.rate / bare, RATE_GOAL, "higher"))
    report.goals.append(Goal("memory, end to a quarter of the import", found.growth(), MEMORY_GOAL, "lower"))


def _check(process: subprocess.Popen[str]) -> None:
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def _rate_of_bare(data_dir: Path, manifest: Path) -> float:
    nice = ["nice", "-n", str(NICENESS)]
    command = [*nice, sys.executable, "-m", "scripts.bench_import", "--bare", str(data_dir), str(manifest)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        found = [json.loads(line) for line in process.stdout]
    _check(process)
    images: int = sum(each["images"] for each in found)
    return images / float(sum(each["seconds"] for each in found))


def _bare(data_dir: Path, manifest: Path) -> Iterator[dict[str, Any]]:
    """Decode, detect and embed, portion by portion, as an import does it, and nothing else."""
    import torch

    from serve_app.catalogue.embedding import embed, load_models
    from serve_app.catalogue.manifest import Entry, read
    from serve_app.catalogue.plan import Planned
    from serve_app.catalogue.preparing import Decoded
    from serve_app.images import decode
    from serve_app.weights.loader import embedder_files, fingerprint

    config = settings(data_dir)
    models = load_models(config, fingerprint(embedder_files(config.embedder.head)))
    torch.set_num_threads(cores())
    entries = (entry for entry in read(manifest) if isinstance(entry, Entry))
    with ThreadPoolExecutor(config.importing.threads) as threads:
        is_first = True
        while block := list(islice(entries, config.importing.images_at_once)):
            for _ in range(2 if is_first else 1):
                start_s = time.monotonic()
                photos = list(threads.map(lambda entry: decode(Path(entry.image).read_bytes()), block))
                images = [
                    Decoded(Planned(entry, "", "", 0), photo, frozenset())
                    for entry, photo in zip(block, photos, strict=True)
                ]
                embed(models, images, config)
                seconds = time.monotonic() - start_s
            is_first = False
            yield {"images": len(block), "seconds": seconds}


def _changed(images: Sequence[Path], folder: Path) -> list[Path]:
    """Return the images with every CHANGED-th replaced by its mirror image."""
    found = list(images)
    for number in range(0, len(images), CHANGED):
        found[number] = folder / f"changed-{number}.png"
        with Image.open(images[number]) as image:
            ImageOps.mirror(image.convert("RGB")).save(found[number])
    return found


if __name__ == "__main__":
    raise SystemExit(main())
