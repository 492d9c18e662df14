"""Make the RayJob of an import and follow it to its end.

Where one of the same release runs, that one is followed: two imports at once would do the same work twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from cluster import Cluster, Object, Objects

PAUSE_S = 10.0
ENDED = ("Complete", "Failed", "ValidationFailed")
"""States of a RayJob's deployment that nothing follows."""
OF_IMPORT = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component")


def main() -> int:
    """Exit with 0 when the import has ended well, else with 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--rayjob", type=Path, required=True, help="file with the RayJob")
    arguments = parser.parse_args()
    rayjob = yaml.safe_load(arguments.rayjob.read_text(encoding="utf-8"))
    owned(rayjob, os.environ["JOB_NAME"], os.environ["JOB_UID"])
    return run(Cluster(arguments.namespace), rayjob)


def owned(rayjob: Object, job: str, uid: str) -> None:
    """Let the Job that this pod belongs to own the RayJob, so that it goes with it."""
    rayjob["metadata"]["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid}]


def run(objects: Objects, rayjob: Object, sleep: Callable[[float], None] = time.sleep) -> int:
    """Return 0 when the import has ended well, else 1."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    name, told = _running(objects, rayjob), ""
    if name is None:
        name = str(objects.create("rayjobs", rayjob)["metadata"]["name"])
        print(f"{name} is made; its log: kubectl logs -f job/{name}", flush=True)
    else:
        print(f"{name} runs already; following it", flush=True)
    while True:
        try:
            status = objects.get("rayjobs", name).get("status", {})
        except ApiException as error:
            if error.status == 404:
                print(f"{name} was deleted before it ended", file=sys.stderr)
                return 1
            status = {}
        except HTTPError:
            status = {}
        if (text := _text(status)) and text != told:
            print(text, flush=True)
            told = text
        if status.get("jobDeploymentStatus") in ENDED:
            # A RayJob is Complete too when what it ran has failed.
            return int(status.get("jobStatus") != "SUCCEEDED")
        sleep(PAUSE_S)


def _running(objects: Objects, rayjob: Object) -> str | None:
    labels = rayjob["metadata"]["labels"]
    for found in objects.list("rayjobs", ",".join(f"{key}={labels[key]}" for key in OF_IMPORT)):
        if found.get("status", {}).get("jobDeploymentStatus") not in ENDED:
            return str(found["metadata"]["name"])
    return None


def _text(status: Object) -> str:
    parts = (status.get(key) for key in ("jobDeploymentStatus", "jobStatus", "reason", "message"))
    return " ".join(part for part in parts if part)


if __name__ == "__main__":
    raise SystemExit(main())
