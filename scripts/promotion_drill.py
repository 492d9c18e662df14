"""Promote models while shoppers search: one that stays, one that the gate stops, one that the watch brings back.

Real models and `shoplens model promote` on the demo's catalogue, which a Milvus cluster holds; two worker nodes, each
with a replica of every stage. A roll-out is what an operator's would be: the same document with another model. The one
that stays is tried on the shoppers' searches before, which may restart no replica.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from PIL import Image
from rich.console import Console
from safetensors.numpy import save_file

from scripts import demo_catalogue, shoppers
from scripts.demo_shop import default_folder
from scripts.import_side import make_data_dir
from scripts.measuring import Goal, Report, percentile, wait_until
from scripts.milvus_binary import unpack_milvus
from scripts.milvus_cluster import MilvusCluster
from scripts.processes import CantStart
from scripts.ray_nodes import HERE, SERVE_PORT, RayNodes
from scripts.stand_in_service import is_ready
from serve_app.weights.loader import digest, embedder_files, fingerprint, load_tensors

WORKERS = 2
RATE = 0.5
"""Searches a second: two cores embed the catalogue anew beside them."""
DEADLINE_S = 20.0
MAX_LOSS = 0.1
"""What 51 products can show."""
BLUNT_NUMBERS = 4
"""Of 256 numbers, those that the deliberately worse model keeps."""
AGAIN_QUALITY = 80
"""Of the JPEGs that photos are saved as once more: an evaluation leaves out the very same file."""
ROUNDS, QUICK_ROUNDS = 5, 3
SHADOWED = 20
"""Searches that a model repeats before it is rolled out: all, one by one."""
START_S = 240.0
SAME_SCORE = 1e-3
"""How far a score may lie from that of before: which crops share a batch changes its last digits."""
EXIT_STAYS, EXIT_STOPPED = 0, 3

SUMMARY = "nothing: models are promoted in a service on Ray nodes and a Milvus cluster"
HAS_NAMESPACE = True


@dataclass(frozen=True, slots=True)
class Act:
    """Name a promotion: of which head, by which questions its gate decides, and how it has to end.

    `shadowed` searches are repeated before.
    """

    name: str
    head: str
    gate: tuple[str, ...]
    exit_code: int
    says: str
    shadowed: int = 0


def acts(folder: Path) -> list[Act]:
    """Return what is done, in order.

    The last gate is a careless one: it asks with the catalogue's own photos, saved once more, which any model finds.
    """
    views = ("--leave-one-view-out",)
    return [
        Act("as good: stays", "turned", views, EXIT_STAYS, "stays", SHADOWED),
        Act("worse: the gate", "blunt", views, EXIT_STOPPED, "it finds less"),
        Act("worse: the watch", "blunt", ("--queries", f"{folder}/careless.csv"), EXIT_STOPPED, "rolling back"),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="promotions whose names contain one of these")


def prepare(arguments: argparse.Namespace, console: Console) -> None:
    """Fetch what can't be fetched from inside."""
    unpack_milvus()
    demo_catalogue.fetch_photos(default_folder() / "photos")


def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the promotions; raises CantStart, HTTPError and TimeoutError."""
    workdir = workdir.resolve()
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    report = Report("drills promotion", {"searches_per_s": RATE, "deadline_s": DEADLINE_S, "max_loss": MAX_LOSS})
    folder = workdir / "shop"
    make_data_dir(folder)
    photos = _write_sets(folder)
    heads = {name: _write_head(folder / f"{name}.safetensors", name) for name in ("turned", "blunt")}
    with _service(workdir, folder) as nodes:
        for name in heads:
            card = folder / f"{name}.md"
            card.write_text(f"The starter's head, {name}, for a drill.\n", encoding="utf-8")
            _shoplens(folder, "model", "register", f"{folder}/{name}.safetensors", "--name", name, "--card", str(card))
        for act in acts(folder):
            if arguments.only and not any(words in act.name for words in arguments.only):
                continue
            _promote(report, nodes, folder, photos, act, heads, rounds)
    return report


def _write_sets(folder: Path) -> list[Path]:
    """Write the catalogue, a canary set of photos that it lacks, and a careless set of photos that it holds.

    Returns the canary's photos.
    """
    (folder / "photos").symlink_to(default_folder() / "photos")
    manifest = demo_catalogue.write_manifest(folder)
    with manifest.open(newline="", encoding="utf-8") as file:
        first = {row["product_id"]: folder / row["image"] for row in reversed(list(csv.DictReader(file)))}
    (folder / "again").mkdir()
    again = {}
    for product, path in first.items():
        again[product] = folder / "again" / f"{path.stem}.jpg"
        Image.open(path).convert("RGB").save(again[product], quality=AGAIN_QUALITY)
    canary = demo_catalogue.held_out(demo_catalogue.by_model(folder / "photos"))
    for name, images in (("careless", again), ("canary", canary)):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "product_id"])
            writer.writerows((path.relative_to(folder), product) for product, path in images.items())
    return sorted(canary.values())


def _write_head(path: Path, kind: str) -> str:
    """Write a head made of the starter's and return the model's fingerprint.

    `turned` turns all embeddings alike, so that it is as good, and no number of it is comparable; `blunt` drops most.
    """
    starter = embedder_files().head
    weights = load_tensors(starter, digest(starter))
    projection = weights.tensors["projection"].astype(np.float32)
    if kind == "turned":
        turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((len(projection), len(projection))))
        projection = turn.astype(np.float32) @ projection
    else:
        projection[BLUNT_NUMBERS:] = 0
    tensors = {**weights.tensors, "projection": projection.astype(np.float16)}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, dict(weights.metadata))
    return fingerprint(embedder_files(path))


@contextmanager
def _service(workdir: Path, folder: Path) -> Iterator[RayNodes]:
    """Yield the nodes of a service that searches the imported catalogue."""
    stage = {"scaling": {"min_replicas": WORKERS, "max_replicas": WORKERS}, "max_replicas_per_node": 1}
    with MilvusCluster(workdir / "milvus") as milvus:
        settings: dict[str, Any] = {
            "data_dir": str(folder),
            "milvus": {"uri": milvus.uris[0].replace("127.0.0.1", HERE)},
            "http": {"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - in a network namespace of its own
            "auth": {"anonymous_search": True},
            "limits": {"deadline_s": DEADLINE_S, "cold_deadline_s": DEADLINE_S},
            **dict.fromkeys(("ingress", "detector", "embedder", "searcher"), stage),
        }
        (folder / "shoplens.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        with RayNodes(workdir / "ray", WORKERS) as nodes:
            _shoplens(folder, "import", f"{folder}/manifest.csv")
            document = folder / "serve.json"
            document.write_text(json.dumps(_document(folder)), encoding="utf-8")
            nodes.deploy(json.loads(document.read_text(encoding="utf-8")))
            wait_until(lambda: all(map(is_ready, nodes.urls)), timeout_s=START_S, what="readiness")
            yield nodes


def _document(folder: Path, tried: str | None = None) -> dict[str, Any]:
    """Return what is deployed; the model `tried` repeats every search."""
    from serve_app.app import serve_document
    from serve_app.config import ShadowConfig, load_config

    config = load_config(folder / "shoplens.yaml")
    return serve_document(config.model_copy(update={"shadow": ShadowConfig(model=tried, share=1.0)}))


def _shoplens(folder: Path, *arguments: str, may_end: Sequence[int] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run a command on the shop's settings, its output to a file as well; raises CantStart."""
    command = [sys.executable, "-m", "serve_app.cli", *arguments, "--config", f"{folder}/shoplens.yaml"]
    environ = os.environ | {"COLUMNS": "160"}
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ, check=False
    )
    with (folder / "commands.log").open("a", encoding="utf-8") as log:
        log.write(f"$ shoplens {' '.join(arguments)}\n{ended.stdout}\nexit {ended.returncode}\n")
    if ended.returncode not in may_end:
        raise CantStart(f"shoplens {arguments[0]} ended with {ended.returncode}: {ended.stdout.strip()[-500:]}")
    return ended


def _promote(
    report: Report, nodes: RayNodes, folder: Path, photos: Sequence[Path], act: Act, heads: dict[str, str], rounds: int
) -> None:
    """Promote a model while shoppers search, and judge what they saw, how it ended, and what answers now."""
    before, found_before = _answers(nodes.urls[0], photos)
    shadow, roll_out = (
        f"{sys.executable} -m scripts.promotion_drill {what} {nodes.dashboard} {folder} {{model}}"
        for what in ("shadow", "roll-out")
    )
    command = (
        "model", "promote", act.head, f"{folder}/manifest.csv", *act.gate, "--max-loss", str(MAX_LOSS),
        "--url", nodes.urls[0], "--canary", f"{folder}/canary.csv", "--roll-out", roll_out,
        "--rounds", str(rounds), "--max-slowdown", "5",
        "--shadow-searches", str(act.shadowed), "--shadow", shadow,
    )  # fmt: skip
    bodies = [photo.read_bytes() for photo in photos]
    seen, ended = asyncio.run(
        shoppers.search_during(
            nodes.urls, bodies, RATE, DEADLINE_S, lambda: _shoplens(folder, *command, may_end=(0, EXIT_STOPPED))
        )
    )
    after, found_after = _answers(nodes.urls[0], photos)
    wanted = heads[act.head] if act.exit_code == EXIT_STAYS else before
    same = sum(_same(then, now) for then, now in zip(found_before, found_after, strict=True))
    failed = [each for each in seen if each.first != "ok"]
    report.rows.append({
        "promotion": act.name, "searches": len(seen), "failed": len(failed),
        "codes": ", ".join(sorted({each.first for each in failed})) or "-",
        "wrong": sum(each.wrong for each in seen), "degraded": sum(each.degraded for each in seen),
        "p50 ms": 1e3 * percentile([each.ended_s - each.due_s for each in seen], 0.5),
        "p99 ms": 1e3 * percentile([each.ended_s - each.due_s for each in seen], 0.99),
        "minutes": max(each.ended_s for each in seen) / 60, "exit": ended.returncode,
        "answers as before": f"{same} of {len(photos)}",
    })  # fmt: skip
    print(f"done: {act.name}", flush=True)
    report.goals += [
        Goal(f"{act.name}: failed", len(failed), 0, "lower"),
        Goal(f"{act.name}: searched in another model's index", sum(each.wrong for each in seen), 0, "lower"),
        Goal(f"{act.name}: exit code is {act.exit_code}", ended.returncode == act.exit_code, 1, "higher"),
        Goal(f"{act.name}: says “{act.says}”", act.says in ended.stdout, 1, "higher"),
        Goal(f"{act.name}: {wanted} answers", after == wanted, 1, "higher"),
    ]
    if act.shadowed:
        then, now = ((folder / f"replicas-{name}.json").read_text() for name in (heads[act.head], "null"))
        report.goals += [
            Goal(f"{act.name}: compared with the old model", f"{act.shadowed} of" in ended.stdout, 1, "higher"),
            Goal(f"{act.name}: no replica started anew for it", then == now, 1, "higher"),
        ]
    if act.exit_code != EXIT_STAYS:
        report.goals.append(Goal(f"{act.name}: answers as before", same, len(photos), "higher"))


_Found = list[tuple[str, float]]


def _answers(url: str, photos: Sequence[Path]) -> tuple[str, list[_Found]]:
    """Return the model that answers, and products with scores of each photo's main list; raises HTTPError."""
    found, models = [], set()
    with httpx.Client(base_url=url, timeout=DEADLINE_S + 1) as client:
        for photo in photos:
            answer = client.post("/v1/search", files={"photo": photo.read_bytes()}).raise_for_status().json()
            models.add(answer["model"])
            main = next(each for each in answer["objects"] if each["main"])
            found.append([(product["product_id"], product["score"]) for product in main["products"]])
    return ", ".join(sorted(models)), found


def _same(then: _Found, now: _Found) -> bool:
    return len(then) == len(now) and all(
        before[0] == after[0] and abs(before[1] - after[1]) <= SAME_SCORE
        for before, after in zip(then, now, strict=True)
    )


def roll_out(dashboard: str, folder: Path, model: str) -> None:
    """Deploy the document with another model; raises HTTPError."""
    changed = json.loads((folder / "serve.json").read_text(encoding="utf-8"))
    changed["applications"][0]["args"]["embedder"]["model"] = None if model == fingerprint() else model
    _put(dashboard, changed)


def shadow(dashboard: str, folder: Path, model: str) -> None:
    """Deploy the document with a model that repeats every search, or with `null`; raises HTTPError.

    Which replicas the stages have at that moment is written down.
    """
    told = httpx.get(f"{dashboard}/api/serve/applications/", timeout=60).raise_for_status().json()
    replicas = {
        name: sorted(each["replica_id"] for each in found["replicas"])
        for name, found in told["applications"]["shoplens"]["deployments"].items()
        if name != "Shadow"
    }
    (folder / f"replicas-{model}.json").write_text(json.dumps(replicas, sort_keys=True), encoding="utf-8")
    _put(dashboard, _document(folder, None if model == "null" else model))


def _put(dashboard: str, document: dict[str, Any]) -> None:
    httpx.put(f"{dashboard}/api/serve/applications/", json=document, timeout=60).raise_for_status()


if __name__ == "__main__":
    {"roll-out": roll_out, "shadow": shadow}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), sys.argv[4])
