"""A network namespace that holds nothing but `lo`: Milvus listens on every interface there is."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from scripts.processes import CantStart


def go_inside(module: str) -> None:
    """Run `module` again, with this process's arguments and `--inside`, in a namespace of its own; never returns.

    Raises CantStart where none can be made.
    """
    unshare = ["unshare", "--net"]
    if shutil.which("unshare") and subprocess.run([*unshare, "true"], capture_output=True).returncode:
        unshare = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        raise CantStart("no network namespace can be made here: run this as root, or allow user namespaces")
    again = shlex.join([sys.executable, "-m", module, *sys.argv[1:], "--inside"])
    script = f"PATH=$PATH:/sbin:/usr/sbin; ip link set lo up && exec {again}"
    os.execvp(unshare[0], [*unshare, "sh", "-c", script])  # noqa: S606
