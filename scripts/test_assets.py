"""Fetch what the tests need: the detector's weights and the demo's photos into a folder, kubectl into the cache."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.demo_catalogue import CantFetch, fetch_photos
from scripts.kubectl_binary import fetch_kubectl, kubectl
from scripts.processes import CantStart
from serve_app.errors import BadWeights
from serve_app.weights.fetching import fetch_detector


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        fetch_detector(folder / "yolo26n.pt", lambda text: print(text, file=sys.stderr))
        if not (folder / "photos").is_dir():
            print("fetching photos (52 MB) …", file=sys.stderr)
        fetch_photos(folder / "photos")
        if not kubectl().is_file():
            print("fetching kubectl (37 MB) …", file=sys.stderr)
        fetch_kubectl()
    except (BadWeights, CantFetch, CantStart) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
