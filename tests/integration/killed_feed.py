"""A feed that kills itself: `python -m tests.integration.killed_feed DATA_DIR BATCHES`.

Follows the topic in the settings, and ends by SIGKILL when so many batches were applied, before the last of them is
acknowledged.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from serve_app.catalogue import sources
from serve_app.cli.feed import Options, follow_feed
from serve_app.cli.options import console
from serve_app.config import load_config


def main(data_dir: Path, batches: int) -> None:
    acknowledge = sources.Topic.acknowledge
    left = batches

    def acknowledge_or_die(topic: sources.Topic) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        acknowledge(topic)

    sources.Topic.acknowledge = acknowledge_or_die  # type: ignore[method-assign]
    follow_feed(load_config(data_dir=data_dir), Options("kafka"), console())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
