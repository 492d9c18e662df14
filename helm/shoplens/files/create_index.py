"""Make the index of the configured model where there is none, once Milvus answers. Does nothing where there is one."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from serve_app.catalogue.recipe import index_properties
from serve_app.config import Config, load_config
from serve_app.errors import ShoplensError, Unavailable
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.weights.chosen import model_of

RETRY_S = 5.0


def main() -> int:
    """Exit with 0 when there is a loaded index, else with 1 and the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="file of settings")
    parser.add_argument("--deadline-s", type=float, default=600, help="seconds to wait for Milvus")
    arguments = parser.parse_args()
    try:
        name = ensure(load_config(arguments.settings), time.monotonic() + arguments.deadline_s)
    except ShoplensError as error:
        print(f"index: {error}", file=sys.stderr)
        return 1
    print(f"index: {name} stands and is loaded")
    return 0


def ensure(config: Config, deadline: float) -> str:
    """Return the collection that the model's alias stands for; raises ShoplensError.

    Milvus may be away until the deadline, in seconds of time.monotonic().
    """
    while True:
        try:
            return _ensure(config)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for Milvus: {error}", flush=True)
            time.sleep(RETRY_S)


def _ensure(config: Config) -> str:
    assert config.milvus.uri is not None
    model = model_of(config)
    with closing(connect(config.milvus, config.milvus.uri)) as client:
        return indexing.ensure(
            client, config.milvus, config.catalogue, model, datetime.now(UTC), index_properties(config)
        )


if __name__ == "__main__":
    raise SystemExit(main())
