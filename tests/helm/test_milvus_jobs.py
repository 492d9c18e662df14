"""The scripts of the chart's Jobs, against a real Milvus that asks for passwords."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import RpcError
from pymilvus import MilvusClient

from scripts.servers import CantStart, MilvusStandalone
from tests.helm.conftest import CHART

FILES = CHART / "files"
DEADLINE_S = "120"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMON_SECURITY_AUTHORIZATIONENABLED", "true")
        server = MilvusStandalone(tmp_path_factory.mktemp("milvus"))
        try:
            server.start()
        except CantStart as error:
            pytest.exit(str(error), returncode=2)
    try:
        yield server.uri
    finally:
        server.stop()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the Secret is mounted at."""
    folder = tmp_path_factory.mktemp("secret")
    put(folder, root="first-root", shoplens="first-shoplens")
    return folder


def put(folder: Path, *, root: str, shoplens: str, previous: str = "") -> None:
    (folder / "root-password").write_text(root)
    (folder / "password").write_text(shoplens + "\n")
    (folder / "previous-root-password").unlink(missing_ok=True)
    if previous:
        (folder / "previous-root-password").write_text(previous)


def run(script: str, uri: str, secret: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, FILES / script, f"--uri={uri}", f"--secret={secret}", f"--deadline-s={DEADLINE_S}"]
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environ)


def test_a_new_milvus_gets_its_users_and_is_searched(uri: str, secret: Path) -> None:
    done = run("users.py", uri, secret)
    assert done.returncode == 0, done.stderr
    assert "root: password changed" in done.stdout
    assert "shoplens: password set" in done.stdout
    searched = run("search_test.py", uri, secret)
    assert searched.returncode == 0, searched.stderr
    with pytest.raises(Exception, match="Fail connecting"):
        MilvusClient(uri, user="root", password="Milvus", timeout=5)


def test_running_again_changes_nothing(uri: str, secret: Path) -> None:
    done = run("users.py", uri, secret)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["root: password is current", "shoplens: password is current"]


def test_shoplens_may_not_do_what_it_need_not(uri: str, secret: Path) -> None:
    client = MilvusClient(uri, user="shoplens", password=(secret / "password").read_text().strip())
    assert client.list_collections() == [], "the search test leaves nothing behind"
    for forbidden in (
        client.list_users,
        client.list_roles,
        lambda: client.create_user("intruder", "intruder-1"),
        lambda: client.grant_role("shoplens", "admin"),
        lambda: client.rename_collection("a", "b"),
        lambda: client.update_password("root", "x", "intruder-1"),
    ):
        with pytest.raises(RpcError, match="permission deny"):
            forbidden()
    client.close()


def test_a_right_too_many_is_taken(uri: str, secret: Path) -> None:
    root = MilvusClient(uri, user="root", password=(secret / "root-password").read_text())
    root.grant_privilege("shoplens", "Global", "RenameCollection", "*")
    root.close()
    done = run("users.py", uri, secret)
    assert done.returncode == 0, done.stderr
    assert "shoplens: RenameCollection taken" in done.stdout


def test_passwords_that_changed_in_the_secret_change_in_milvus(uri: str, secret: Path) -> None:
    put(secret, root="second-root", shoplens="second-shoplens", previous="first-root")
    done = run("users.py", uri, secret)
    assert done.returncode == 0, done.stderr
    assert "root: password changed" in done.stdout
    assert "shoplens: password set" in done.stdout
    searched = run("search_test.py", uri, secret)
    assert searched.returncode == 0, searched.stderr


def test_an_unknown_root_password_is_told_with_the_fix(uri: str, secret: Path, tmp_path: Path) -> None:
    put(tmp_path, root="third-root", shoplens="third-shoplens")
    done = run("users.py", uri, tmp_path)
    assert done.returncode == 1
    assert "put the password that Milvus knows into the Secret" in done.stderr
    searched = run("search_test.py", uri, tmp_path)
    assert searched.returncode == 1
    assert "refuses the Secret's password" in searched.stderr
