"""A searcher whose parameters change while it runs: `python -m tests.integration.reconfigured DATA_DIR`.

Prints a line of JSON for each `nprobe`: the replica's process, and the share of rows that find themselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from scripts.measuring import free_port
from serve_app.cli.local import set_ray_environment
from serve_app.collection import alias
from serve_app.config import Config
from tests.contract.rows import embeddings, row
from tests.integration.service import replica_pid

APPLICATION = "shoplens"
FINGERPRINT = "0123456789ab"
LISTS = 64


def main(data_dir: Path) -> None:
    os.environ["PYTHONPATH"] = str(Path.cwd())
    set_ray_environment()
    from serve_app.app import local_ray
    from serve_app.milvus.local import LocalMilvus

    with LocalMilvus(data_dir) as uri:
        config = Config(
            data_dir=data_dir,
            milvus={"uri": uri, "index_type": "IVF_SQ8", "ivf_nlist": LISTS},
            http={"port": free_port(), "metrics_port": free_port()},
        )
        fill(config, uri)
        with local_ray(config):
            asyncio.run(deploy_and_ask_twice(config))


def build_app(args: dict[str, Any]) -> Any:
    """Return the searcher alone, deployed as the service deploys it."""
    from ray import serve

    from serve_app.app import deployment_options
    from serve_app.deployments import Searcher

    options = deployment_options(Config(**args))["Searcher"]
    return serve.deployment(**options)(Searcher).bind(args)


def fill(config: Config, uri: str) -> None:
    from datetime import UTC, datetime

    from serve_app.milvus import indexing
    from serve_app.milvus.client import connect
    from serve_app.milvus.writer import MilvusWriter

    client = connect(config.milvus, uri)
    indexing.ensure(client, config.milvus, config.catalogue, FINGERPRINT, datetime.now(UTC))
    writer = MilvusWriter(client, alias(config.catalogue, FINGERPRINT), config.milvus)
    writer.write([row(f"image-{number}", vector=vector) for number, vector in enumerate(embeddings(2_000, seed=1))])
    writer.flush()


async def deploy_and_ask_twice(config: Config) -> None:
    """Change the parameters as an operator does: in the document that Ray Serve is given.

    It stays in one event loop: Serve's handles are bound to the first that they meet.
    """
    from ray import serve

    handle: Any = None
    for nprobe in (1, LISTS):
        await asyncio.to_thread(deploy, config, nprobe)
        handle = handle or serve.get_app_handle(APPLICATION)
        print(json.dumps({"nprobe": nprobe, **await ask_until_different(handle, nprobe)}), flush=True)


def deploy(config: Config, nprobe: int) -> None:
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    from serve_app.app import serve_document

    params = config.searcher.params.model_copy(update={"nprobe": nprobe})
    changed = config.model_copy(update={"searcher": config.searcher.model_copy(update={"params": params})})
    document = serve_document(changed)
    (application,) = document["applications"]
    application |= {
        "name": APPLICATION,
        "import_path": "tests.integration.reconfigured:build_app",
        "route_prefix": None,
        "deployments": [given for given in application["deployments"] if given["name"] == "Searcher"],
    }
    serve.start(proxy_location="Disabled")
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(document), _blocking=True)


async def ask_until_different(handle: Any, nprobe: int) -> dict[str, Any]:
    """Return the searcher's process and its recall: at once for the first parameters, else once it has changed."""
    found = await ask(handle)
    for _ in range(100):
        if nprobe == 1 or found["recall"] > 0.7:
            break
        await asyncio.sleep(0.2)
        found = await ask(handle)
    return found


async def ask(handle: Any) -> dict[str, Any]:
    """Ask for the neighbours of some directions."""
    from serve_app.domain import PATIENT
    from serve_app.filters import NO_FILTER
    from serve_app.pipeline import Embedded

    queries, rows = embeddings(50, seed=2), embeddings(2_000, seed=1)
    found = await handle.search.remote(Embedded(queries, FINGERPRINT), 1, NO_FILTER, True, PATIENT)
    best = [f"image-{number}#whole" for number in (queries @ rows.T).argmax(axis=1)]
    right = sum(hits[0].row_id == wanted for hits, wanted in zip(found.hits, best, strict=True))
    return {"pid": replica_pid(os.getpid(), "Searcher"), "recall": right / len(queries)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
