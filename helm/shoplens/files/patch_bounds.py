"""Give the running clusters of a RayService the bounds of its worker groups, which KubeRay 1.7 leaves as they were."""

from __future__ import annotations

import argparse

from cluster import Cluster, Object, Objects

BOUNDS = ("minReplicas", "maxReplicas")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True, help="of the RayService")
    arguments = parser.parse_args()
    patch_all(Cluster(arguments.namespace), arguments.name)
    return 0


def patch_all(objects: Objects, name: str) -> None:
    """Patch the active cluster, and one that is being made, where their bounds differ from the RayService's."""
    service = objects.get("rayservices", name)
    wanted = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        cluster = service.get("status", {}).get(part, {}).get("rayClusterName")
        if not cluster:
            continue
        changes = operations(objects.get("rayclusters", cluster)["spec"]["workerGroupSpecs"], wanted)
        if changes:
            objects.patch("rayclusters", cluster, changes)
        print(f"{cluster}: {_told(changes)}")


def operations(groups: list[Object], wanted: list[Object]) -> list[Object]:
    """Return the JSON patch that gives each group its wanted bounds; none where they stand."""
    by_name = {group["groupName"]: group for group in wanted}
    found: list[Object] = []
    for at, group in enumerate(groups):
        target = by_name.get(group["groupName"], group)
        changes = [bound for bound in BOUNDS if group.get(bound) != target.get(bound)]
        if changes:
            path = f"/spec/workerGroupSpecs/{at}"
            # So that nothing is patched where the groups have moved meanwhile.
            found.append({"op": "test", "path": f"{path}/groupName", "value": group["groupName"]})
            found += [{"op": "add", "path": f"{path}/{bound}", "value": target[bound]} for bound in changes]
    return found


def _told(changes: list[Object]) -> str:
    told = [f"{each['path'].rpartition('/')[2]} {each['value']}" for each in changes]
    return ", ".join(told) if told else "bounds are current"


if __name__ == "__main__":
    raise SystemExit(main())
