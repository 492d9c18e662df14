"""A process keeps its log handlers when it imports pymilvus."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging.handlers
handler = logging.handlers.MemoryHandler(1000, target=logging.StreamHandler())
{statement}
import sys
assert "pymilvus" in sys.modules
print(handler.target is not None)
"""


@pytest.mark.parametrize(
    ("statement", "kept"),
    [
        ("from serve_app.milvus.importing import import_pymilvus; import_pymilvus()", "True"),
        # Once pymilvus leaves handlers alone, ours may too.
        ("import pymilvus", "False"),
    ],
)
def test_pymilvus_closes_no_handler_of_ours(statement, kept):
    command = [sys.executable, "-c", SCRIPT.format(statement=statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kept
