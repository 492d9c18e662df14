"""Ask the API server for KubeRay's objects."""

from __future__ import annotations

from typing import Any, Protocol

CALL_TIMEOUT_S = 10.0
GROUP, VERSION = "ray.io", "v1"

Object = dict[str, Any]


class Objects(Protocol):
    """KubeRay's objects in one namespace, by the names that the API gives their kinds."""

    def get(self, kind: str, name: str) -> Object: ...

    def list(self, kind: str, selector: str) -> list[Object]: ...

    def create(self, kind: str, body: Object) -> Object: ...

    def patch(self, kind: str, name: str, operations: list[Object]) -> None: ...


class Cluster:
    """The cluster that this pod runs in."""

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        config.load_incluster_config()
        self._api = client.CustomObjectsApi()
        self._namespace = namespace

    def get(self, kind: str, name: str) -> Object:
        found: Object = self._api.get_namespaced_custom_object(
            GROUP, VERSION, self._namespace, kind, name, _request_timeout=CALL_TIMEOUT_S
        )
        return found

    def list(self, kind: str, selector: str) -> list[Object]:
        found: list[Object] = self._api.list_namespaced_custom_object(
            GROUP, VERSION, self._namespace, kind, label_selector=selector, _request_timeout=CALL_TIMEOUT_S
        )["items"]
        return found

    def create(self, kind: str, body: Object) -> Object:
        made: Object = self._api.create_namespaced_custom_object(
            GROUP, VERSION, self._namespace, kind, body, _request_timeout=CALL_TIMEOUT_S
        )
        return made

    def patch(self, kind: str, name: str, operations: list[Object]) -> None:
        # Which kind of patch a body is, the client does not tell by itself.
        self._api.patch_namespaced_custom_object(
            GROUP,
            VERSION,
            self._namespace,
            kind,
            name,
            operations,
            _content_type="application/json-patch+json",
            _request_timeout=CALL_TIMEOUT_S,
        )
