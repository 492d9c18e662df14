"""Wait until a RayService is ready as it was last asked to be, and print its conditions as they change."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from cluster import Cluster, Object, Objects

PAUSE_S = 3.0
LOOKS = 2
"""So many looks in a row have to find it ready: KubeRay notes a generation before it acts on it."""


def main() -> int:
    """Exit with 0 when it is ready, with 1 where it does not get so in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True, help="of the RayService")
    parser.add_argument("--deadline-s", type=float, default=600)
    arguments = parser.parse_args()
    return wait(Cluster(arguments.namespace), arguments.name, arguments.deadline_s)


def wait(
    objects: Objects,
    name: str,
    deadline_s: float,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Return 0 once `name` is ready, 1 where it is not before the deadline."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    end, told, looks, reason = now() + deadline_s, "", 0, "it was not found"
    while now() < end:
        try:
            service = objects.get("rayservices", name)
        except (ApiException, HTTPError) as error:
            reason = f"the API server says: {getattr(error, 'reason', None) or error}"
            looks = 0
        else:
            if (text := _conditions(service)) != told:
                print(text, flush=True)
                told = text
            reason = lacking(service)
            looks = looks + 1 if not reason else 0
            if looks == LOOKS:
                print(f"{name} is ready")
                return 0
        sleep(PAUSE_S)
    print(f"{name} is not ready: {reason}; kubectl describe rayservice {name}", file=sys.stderr)
    return 1


def lacking(service: Object) -> str:
    """Return what a RayService lacks to be as it was asked to be; empty where it lacks nothing."""
    status = service.get("status", {})
    if status.get("observedGeneration", 0) < service["metadata"]["generation"]:
        return "KubeRay's operator has not seen this generation"
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    for kind, wanted in (("UpgradeInProgress", "False"), ("RollbackInProgress", "False"), ("Ready", "True")):
        condition = conditions.get(kind, {"status": "False", "reason": "", "message": "no such condition yet"})
        if condition["status"] != wanted:
            return f"{kind} is {condition['status']}: {condition['reason']} {condition['message']}".strip()
    for name, application in status.get("activeServiceStatus", {}).get("applicationStatuses", {}).items():
        if application.get("status") != "RUNNING":
            return f"the application {name} is {application.get('status')}: {application.get('message', '')}".strip()
    return ""


def _conditions(service: Object) -> str:
    lines = [
        f"  {each['type']}={each['status']} {each['reason']}: {each.get('message', '')}".rstrip(": ")
        for each in service.get("status", {}).get("conditions", [])
    ]
    return "\n".join(["conditions:", *lines]) if lines else "no conditions yet"


if __name__ == "__main__":
    raise SystemExit(main())
