"""Fetch what the tests need into a folder: the detector's weights and the demo's photos."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.demo_catalogue import CantFetch, fetch_photos
from serve_app.errors import BadWeights
from serve_app.weights.fetching import fetch_detector


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        fetch_detector(folder / "yolo26n.pt", lambda text: print(text, file=sys.stderr))
        if not (folder / "photos").is_dir():
            print("fetching photos (52 MB) …", file=sys.stderr)
        fetch_photos(folder / "photos")
    except (BadWeights, CantFetch) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
