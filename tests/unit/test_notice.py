"""NOTICE names what is shipped, and no licence that is not so."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
NAMED = dict(re.findall(r"^  ([a-z0-9-]+) +(\S.*)$", NOTICE, re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ("serve", "import", "export", "train", "test")


def locked(name: str) -> set[str]:
    """Return the packages of a lock that Shoplens itself asks for, not one of its groups for building and testing."""
    text = (ROOT / f"scripts/locks/{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text)
    asked = [block for block in blocks if re.search(r"# +(via )?shoplens \(pyproject\.toml\)$", block, re.M)]
    return {re.match(r"[a-z0-9-]+", block)[0] for block in asked}


def declared() -> set[str]:
    """Return the packages that pyproject.toml asks for, in any extra."""
    asked = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {re.match(r"[A-Za-z0-9_.-]+", each)[0] for some in asked for each in some}
    return names - {PROJECT["name"]}


@pytest.mark.parametrize("name", LOCKS)
def test_every_direct_dependency_of_a_lock_is_named(name):
    assert {"torch", "ray", "fastapi"} <= locked(name)
    assert locked(name) - NAMED.keys() == set()


def test_nothing_else_is_named():
    assert NAMED.keys() == declared()


@pytest.mark.parametrize("name", sorted(locked("test")))
def test_licence_is_the_one_that_the_package_declares(name):
    package = metadata.metadata(name)
    expression = package["License-Expression"]
    if expression:
        assert NAMED[name] == expression
        return
    words = " ".join([package["License"] or "", *(package.get_all("Classifier") or [])])
    family = re.match(r"[A-Z]+|Apache", NAMED[name])[0]
    assert re.search(r"Permission is hereby granted" if family == "MIT" and "MIT" not in words else family, words)


@pytest.mark.parametrize("file", ["resnet50.safetensors", "starter.safetensors"])
def test_weights_of_the_package_are_named(file):
    assert (ROOT / "serve_app/weights" / file).is_file()
    assert f"serve_app/weights/{file}" in NOTICE


def test_notice_comes_with_the_package_and_the_image():
    assert "NOTICE" in PROJECT["license-files"]
    assert "!NOTICE" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (.+) \./$", (ROOT / "serve_app/Dockerfile").read_text(encoding="utf-8"), re.M)
    assert any("NOTICE" in names.split() for names in copied)


@pytest.mark.parametrize("part", ["client", "api/page"])
def test_apache_parts_import_nothing_of_ultralytics(part):
    sources = [path for path in (ROOT / "serve_app" / part).iterdir() if path.is_file()]
    assert len(sources) >= 5
    for path in sources:
        assert "ultralytics" not in path.read_text(encoding="utf-8").lower(), path
    assert f"serve_app/{part}" in NOTICE
