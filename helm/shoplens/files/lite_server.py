"""Serve Milvus Lite to the pods of one release, and load its collections, which a restart has unloaded."""

from __future__ import annotations

import argparse
import functools
import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc

RETRY_S = 1.0

# Its server hangs up on clients of other hosts, which ping every 10 s: "too many pings"
# (https://github.com/grpc/grpc/blob/master/doc/keepalive.md). To be removed once milvus-lite lets options be set.
PINGS = [("grpc.http2.min_recv_ping_interval_without_data_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder")
    parser.add_argument("--port", type=int, default=19530)
    parser.add_argument("--ready", type=Path, required=True, help="file that is there once all is loaded")
    arguments = parser.parse_args()
    arguments.ready.unlink(missing_ok=True)
    # Closes its files, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    let_ping()
    threading.Thread(target=load_all, args=(f"http://127.0.0.1:{arguments.port}", arguments.ready), daemon=True).start()

    from milvus_lite.cmdline import main as milvus_lite

    everywhere = "0.0.0.0"  # noqa: S104 - a pod's own network
    command = ["server", "--data-dir", str(arguments.data), "--host", everywhere, "--port", str(arguments.port)]
    return int(milvus_lite(command))


def let_ping() -> None:
    """Let servers that this process makes bear clients that ping."""
    make: Any = grpc.server

    @functools.wraps(make)
    def server(*arguments: Any, options: Any = (), **others: Any) -> Any:
        return make(*arguments, options=[*(options or ()), *PINGS], **others)

    grpc.server = server


def load_all(uri: str, ready: Path) -> None:
    """Load every collection once the server answers, and say that it may be searched."""
    from serve_app.config import MilvusConfig
    from serve_app.errors import Unavailable
    from serve_app.milvus import indexing
    from serve_app.milvus.client import connect, translated

    while True:
        try:
            with closing(connect(MilvusConfig(), uri)) as client:
                with translated():
                    names = client.list_collections(timeout=indexing.CALL_TIMEOUT_S)
                for name in names:
                    indexing.load(client, name)
                break
        except Unavailable as error:
            print(f"not ready yet: {error}", flush=True)
            time.sleep(RETRY_S)
    ready.touch()
    print(f"{len(names)} collections are loaded", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
