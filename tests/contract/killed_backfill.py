"""A backfill that kills itself: `python -m tests.contract.killed_backfill URI CATALOGUE COLLECTION BATCHES`."""

from __future__ import annotations

import os
import signal
import sys

from serve_app.milvus.backfill import Progress, backfill
from serve_app.milvus.client import connect
from tests.contract.engines import CONFIG


def main(uri: str, catalogue: str, collection: str, batches: int) -> None:
    left = batches

    def tell(_: Progress) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    backfill(connect(CONFIG, uri), uri, CONFIG, catalogue, collection, tell=tell, batch=60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
