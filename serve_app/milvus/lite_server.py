"""The server process of the local index: `milvus-lite server` that ends with its supervisor.

`python -m serve_app.milvus.lite_server FOLDER PORT` serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from pathlib import Path

from serve_app.milvus.rendezvous import HOST

STOP_GRACE_S = 20.0
"""How long it may take to write what it holds in memory, before it ends as it is."""


def serve(folder: Path, port: int) -> int:
    """Run the server until standard input ends: the supervisor has closed it, or is gone."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_follow_supervisor, name="follow-supervisor", daemon=True).start()

    from milvus_lite.cmdline import main as milvus_lite

    # Its own default is 0.0.0.0.
    return int(milvus_lite(["server", "--data-dir", str(folder), "--host", HOST, "--port", str(port)]))


def _follow_supervisor() -> None:
    """Wait for the end of standard input and interrupt the server, which then closes its files."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(STOP_GRACE_S)
    os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the local index until standard input ends.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    return serve(arguments.folder, arguments.port)


if __name__ == "__main__":
    raise SystemExit(main())
