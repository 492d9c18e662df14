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

FINGERPRINT = "0123456789ab"
LISTS = 64


def main(data_dir: Path) -> None:
    set_ray_environment()
    from serve_app.app import APPLICATION, local_ray
    from serve_app.milvus.local import LocalMilvus

    with LocalMilvus(data_dir) as uri:
        config = Config(
            data_dir=data_dir,
            milvus={"uri": uri, "index_type": "IVF_SQ8", "ivf_nlist": LISTS},
            http={"metrics_port": free_port()},
        )
        fill(config, uri)
        with local_ray(config):
            for nprobe in (1, LISTS):
                print(json.dumps(deploy_and_ask(config, APPLICATION, nprobe)), flush=True)


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


def deploy_and_ask(config: Config, application: str, nprobe: int) -> dict[str, Any]:
    """Deploy the searcher as its own document says, and ask it for the neighbours of some directions."""
    from ray import serve

    from serve_app.app import arguments, deployment_options
    from serve_app.deployments import Searcher
    from serve_app.filters import NO_FILTER

    params = config.searcher.params.model_copy(update={"nprobe": nprobe})
    changed = config.model_copy(update={"searcher": config.searcher.model_copy(update={"params": params})})
    deployment: Any = serve.deployment(**deployment_options(changed.searcher))(Searcher)
    handle = serve.run(deployment.bind(arguments(changed), FINGERPRINT), name=application, route_prefix=None)
    queries, rows = embeddings(50, seed=2), embeddings(2_000, seed=1)

    async def ask() -> Any:
        return await handle.search.remote(queries, 1, NO_FILTER, True)

    found = asyncio.run(ask())
    best = [f"image-{number}#whole" for number in (queries @ rows.T).argmax(axis=1)]
    right = sum(hits[0].row_id == wanted for hits, wanted in zip(found.hits, best, strict=True))
    return {"nprobe": nprobe, "pid": replica_pid(os.getpid(), "Searcher"), "recall": right / len(queries)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
