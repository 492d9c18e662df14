"""Inputs that machines think of: schemathesis by the API's description, atheris by the lines that they reach."""

import subprocess
import sys

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from serve_app.api.app import create_app
from tests.unit.test_bad_requests import OpenService

EXAMPLES = 6
FUZZ_S = 3


def test_answers_are_as_the_description_says():
    described = schemathesis.openapi.from_asgi("/openapi.json", create_app(OpenService()))
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) >= 8
    bounds = settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )

    def validated(case: schemathesis.Case) -> None:
        case.call_and_validate()

    for operation in operations:
        bounds(given(operation.as_strategy())(validated))()


@pytest.mark.parametrize("target", ["photo", "filters"])
def test_no_input_is_answered_by_an_error_that_is_not_ours(target, tmp_path):
    command = [sys.executable, "-m", "scripts.fuzz", target, str(tmp_path), "--seconds", str(FUZZ_S)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
