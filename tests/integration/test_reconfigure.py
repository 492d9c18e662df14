"""Search parameters change without a restart."""

import json
import subprocess
import sys
from pathlib import Path


def test_a_searcher_takes_other_parameters_while_it_runs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.integration.reconfigured", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    before, after = (json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{"))
    assert before["pid"] == after["pid"]
    assert before["recall"] < 0.5
    assert after["recall"] > 0.7, "what eight bits a number leave of it"
