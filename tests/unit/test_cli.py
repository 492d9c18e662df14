import os
import subprocess
import sys

import pytest

from serve_app import __version__
from serve_app.cli import EXIT_BAD_INPUT, EXIT_SETUP, EXIT_UNAVAILABLE, app, exit_code
from serve_app.errors import BadConfig, BadManifest, EmptyBody, MilvusUnavailable, ShoplensError
from serve_app.keys import Role, parse_keys


def shoplens(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "serve_app.cli", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EmptyBody("x"), EXIT_BAD_INPUT),
        (BadManifest("x"), EXIT_BAD_INPUT),
        (BadConfig("x"), EXIT_SETUP),
        (MilvusUnavailable("x"), EXIT_UNAVAILABLE),
        (ShoplensError("x"), 1),
    ],
)
def test_exit_code_tells_whose_turn_it_is(error, code):
    assert exit_code(error) == code


def test_every_command_has_help():
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names == {"serve", "import", "feed", "plan", "search"}
    assert {group.name for group in app.registered_groups} == {
        "index",
        "keys",
        "rates",
        "weights",
        "cluster",
        "evaluate",
        "model",
    }
    assert all(command.callback.__doc__ for command in app.registered_commands)


def test_help_teaches_the_manifest():
    outcome = shoplens("import", "--help")
    assert outcome.returncode == 0
    assert "product_id" in outcome.stdout


def test_version_is_printed():
    assert shoplens("--version").stdout.strip() == __version__


def test_error_is_one_line_without_traceback(tmp_path):
    wrong = tmp_path / "shoplens.yaml"
    wrong.write_text("detektor: 1\n")
    outcome = shoplens("index", "--config", str(wrong))
    assert outcome.returncode == EXIT_SETUP
    assert outcome.stderr.startswith("error: the settings are wrong: detektor")
    assert len(outcome.stderr.splitlines()) == 1


def test_photo_that_is_not_there_is_named(tmp_path):
    outcome = shoplens("search", str(tmp_path / "chair.jpg"), "--data-dir", str(tmp_path))
    assert outcome.returncode == EXIT_BAD_INPUT
    assert "chair.jpg" in outcome.stderr


def test_price_without_a_currency_is_named(tmp_path):
    outcome = shoplens("search", str(tmp_path / "chair.jpg"), "--price-min", "5")
    assert outcome.returncode == EXIT_BAD_INPUT
    assert "currency" in outcome.stderr


def test_missing_weights_name_the_command_that_gets_them(tmp_path):
    outcome = shoplens("serve", "--data-dir", str(tmp_path))
    assert outcome.returncode == EXIT_SETUP
    assert "shoplens weights fetch" in outcome.stderr


def test_unknown_command_is_a_usage_error():
    assert shoplens("serach").returncode == EXIT_BAD_INPUT


def test_command_line_loads_no_heavy_library():
    heavy = ("ray", "torch", "pymilvus", "pyarrow", "kubernetes")
    code = f"import sys, serve_app.cli; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_missing_kubeconfig_is_one_line(tmp_path):
    environment = os.environ | {"KUBECONFIG": str(tmp_path / "nothing")}
    command = [sys.executable, "-m", "serve_app.cli", "cluster", "status"]
    outcome = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert outcome.returncode == EXIT_SETUP
    assert "set KUBECONFIG" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_package_that_is_missing_is_named_with_the_extra_that_brings_it(tmp_path):
    # An import of what is None there fails as that of a package that is not installed.
    hidden = "import sys; sys.modules['numpy'] = None; sys.argv = ['shoplens', 'weights', 'show']"
    code = f"{hidden}; from serve_app.cli import main; main()"
    environment = os.environ | {"SHOPLENS_DATA_DIR": str(tmp_path)}
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert outcome.returncode == EXIT_SETUP
    assert outcome.stderr.startswith("error: this needs numpy, which is not installed; pip install 'shoplens[serve]'")
    assert len(outcome.stderr.splitlines()) == 1


def test_service_that_others_would_reach_does_not_start_without_keys(tmp_path):
    outcome = shoplens("serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path))
    assert outcome.returncode == EXIT_SETUP
    assert "auth.anonymous_search" in outcome.stderr


def test_new_key_is_printed_with_a_line_that_knows_it():
    outcome = shoplens("keys", "new", "--role", "write", "--name", "feed", "--per-minute", "30")
    key, line = (text.partition(": ")[2] for text in outcome.stdout.splitlines())
    found = parse_keys(line).find(key)
    assert (found.name, found.role, found.per_minute) == ("feed", Role.WRITE, 30)


def test_key_for_everyone_is_not_made():
    outcome = shoplens("keys", "new", "--role", "public")
    assert (outcome.returncode, outcome.stdout) == (EXIT_SETUP, "")
