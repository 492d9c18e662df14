"""The Milvus server of the PyPI package `milvus`, unpacked and configured.

Milvus 2.3.5 is the newest server that a package registry holds.
"""

from __future__ import annotations

import importlib.util
import lzma
import os
import re
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from scripts.processes import CantStart


def cache_folder() -> Path:
    """Return the user's cache folder of Shoplens, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoplens"


def unpack_milvus() -> Path:
    """Return the folder of the unpacked Milvus binary, kept in the user's cache folder.

    Raises CantStart where the package `milvus` isn't installed.
    """
    package = _milvus_package()
    cache = cache_folder()
    target = cache / f"milvus-{version('milvus')}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache, prefix="milvus-"))
    try:
        for packed in sorted((package / "data" / "bin").glob("*.lzma")):
            unpacked = fresh / packed.stem
            with lzma.open(packed) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            unpacked.chmod(0o755)
        fresh.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def write_settings(workdir: Path) -> Path:
    """Fill in the package's template, whose blanks read `{{ name(type): default }}`; return the folder it is in.

    All data lie below `workdir`. Variables of the environment win over this file: `A_B` over the key `a.b`.
    """
    source = _milvus_package() / "data"
    values = {
        "etcd_log_path": workdir / "etcd.log",
        "etcd_data_dir": workdir / "etcd",
        "local_storage_dir": workdir / "storage",
        "rocksmq_data_dir": workdir / "rocksmq",
        "system_log_path": '""',
    }

    def fill(blank: re.Match[str]) -> str:
        name, default = blank["name"], blank["default"] or ""
        return str(values.get(name, default.strip()))

    template = (source / "config.yaml.template").read_text(encoding="utf-8")
    settings = re.sub(r"\{\{\s*(?P<name>\w+)(?:\(\w+\))?\s*(?::(?P<default>[^}]*))?\}\}", fill, template)
    configs = workdir / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    (configs / "milvus.yaml").write_text(settings, encoding="utf-8")
    shutil.copy(source / "glog.conf", configs)
    return configs


def _milvus_package() -> Path:
    spec = importlib.util.find_spec("milvus")
    if spec is None or spec.origin is None:
        raise CantStart("the package `milvus` is missing; install the project with its development dependencies")
    return Path(spec.origin).parent
