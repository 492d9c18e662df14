"""The real detector where its weights lie in a folder that belongs to an image."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def test_ultralytics_keeps_its_settings_where_the_environment_says(weights: Path, tmp_path: Path) -> None:
    given, settings = tmp_path / "weights", tmp_path / "settings"
    given.mkdir()
    own = shutil.copy(weights, given)
    program = f"from pathlib import Path; from serve_app.detector import YoloDetector; YoloDetector(Path({str(own)!r}))"
    environment = os.environ | {"YOLO_CONFIG_DIR": str(settings)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list(given.iterdir()) == [Path(own)]
    assert (settings / "Ultralytics/settings.json").is_file()
