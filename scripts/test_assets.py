"""Fetch what the tests need: the detector, also as browsers run it, and the demo's photos into a folder, kubectl."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.demo_catalogue import CantFetch, fetch_photos
from scripts.kubectl_binary import fetch_kubectl, kubectl
from scripts.processes import CantStart
from serve_app.browser_detector import read_browser_detector
from serve_app.config import PageConfig, load_config
from serve_app.errors import BadWeights
from serve_app.weights.fetching import fetch_detector

ONNX_LOCK = Path(__file__).with_name("locks") / "onnx.txt"


def fetch_browser_detector(folder: Path, weights: Path) -> None:
    """Make the detector for browsers as the image does, unless it is there. Raises CalledProcessError."""
    settings = {"SHOPLENS_PAGE__DETECTOR": str(folder), "SHOPLENS_DETECTOR__WEIGHTS": str(weights)}
    config = load_config(data_dir=folder.parent).model_copy(update={"page": PageConfig(detector=folder)})
    if read_browser_detector(config) is not None:
        return
    print("making the detector for browsers; fetching 33 MB of ONNX Runtime, and what makes ONNX …", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="shoplens-onnx-") as packages:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--target", packages, "--requirement", str(ONNX_LOCK)], check=True)
        paths = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "serve_app.cli", "weights", "browser"]
        subprocess.run(command, check=True, env={**os.environ, **settings, "PYTHONPATH": paths})


def main() -> int:
    folder = Path(sys.argv[1])
    try:
        fetch_detector(folder / "yolo26n.pt", lambda text: print(text, file=sys.stderr))
        if not (folder / "photos").is_dir():
            print("fetching photos (52 MB) …", file=sys.stderr)
        fetch_photos(folder / "photos")
        fetch_browser_detector(folder / "browser", folder / "yolo26n.pt")
        if not kubectl().is_file():
            print("fetching kubectl (37 MB) …", file=sys.stderr)
        fetch_kubectl()
    except (BadWeights, CantFetch, CantStart, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
