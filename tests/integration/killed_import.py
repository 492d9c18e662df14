"""An import that kills itself: `python -m tests.integration.killed_import MANIFEST DATA_DIR WRITES`.

Prints the images of each acknowledged write and ends by SIGKILL at the given one.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from serve_app.cli.local import set_ray_environment
from serve_app.config import load_config


def main(manifest: Path, data_dir: Path, writes: int) -> None:
    set_ray_environment()
    from serve_app.catalogue.driver import Job, run
    from serve_app.milvus.local import LocalMilvus

    with LocalMilvus(data_dir) as uri:
        job = Job(manifest, str(manifest.parent), datetime.now(UTC))
        for step in run(load_config(data_dir=data_dir), job, uri):
            written = [outcome.image for outcome in step.outcomes if outcome.written_rows]
            print(*written, sep="\n", flush=True)
            writes -= bool(written)
            if not writes:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
