"""Gathering what an install or an upgrade needs of a cluster."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from serve_app.cluster import inventory, reading
from serve_app.cluster.facts import Operator, RayService, SecretRef, Survey
from serve_app.cluster.observing import Api, Observer, Target
from serve_app.errors import NotInstalled

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
ENFORCED = "pod-security.kubernetes.io/enforce"
NO_LEVEL = "none"


class Surveyor:
    """Look at a cluster, and at the RayService that is or will be in it."""

    def __init__(self, api: Api, target: Target) -> None:
        self._api = api
        self._target = target
        self._observer = Observer(api, target)

    def survey(self, planned: Mapping[str, Any] | None, more_secrets: Iterable[SecretRef], *, before: bool) -> Survey:
        """Read all that `doctor` judges: for the `planned` RayService, else the installed one, else none."""
        observer, core = self._observer, self._target.core
        if planned is not None:
            wanted: RayService | None = reading.ray_service(planned)
        else:
            wanted = None if before else observer.service()
        nodes = observer.attempt("nodes", lambda: [inventory.node(each) for each in observer.list("/api/v1/nodes")])
        references = dict.fromkeys([*(wanted.secrets if wanted else ()), *more_secrets])
        quotas = observer.attempt(
            "quotas", lambda: [inventory.quota(each) for each in observer.list(f"{core}/resourcequotas")]
        )
        return Survey(
            kinds=self._kinds(),
            ray_versions=self._versions("ray.io"),
            gateway=bool(self._versions("gateway.networking.k8s.io")),
            operators=observer.attempt("operator", self._operators),
            nodes=None if nodes is None else tuple(nodes),
            taken=observer.attempt("pods of all namespaces", lambda: inventory.taken(observer.list("/api/v1/pods"))),
            storage_class=observer.attempt("storage classes", self._storage_class),
            secrets={reference: self._has(reference) for reference in references},
            quotas=None if quotas is None else tuple(quotas),
            security=observer.attempt("namespace", self._security),
            wanted=wanted,
            unread=dict(observer.unread),
        )

    def _versions(self, group: str) -> tuple[str, ...]:
        try:
            found = self._api.get(f"/apis/{group}")
        except NotInstalled:
            return ()
        return tuple(each["version"] for each in found["versions"])

    def _kinds(self) -> frozenset[str]:
        try:
            found = self._api.get("/apis/ray.io/v1")
        except NotInstalled:
            return frozenset()
        return frozenset(each["kind"] for each in found["resources"])

    def _operators(self) -> tuple[Operator, ...]:
        path = f"/apis/apps/v1/namespaces/{self._target.operator_namespace}/deployments"
        found = map(inventory.operator, self._observer.list(path))
        return tuple(each for each in found if each is not None)

    def _storage_class(self) -> str:
        for each in self._observer.list("/apis/storage.k8s.io/v1/storageclasses"):
            if (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
                return str(each["metadata"]["name"])
        return ""

    def _security(self) -> str:
        try:
            namespace = self._api.get(self._target.core)
        except NotInstalled:
            return ""
        return str((namespace["metadata"].get("labels") or {}).get(ENFORCED, NO_LEVEL))

    def _has(self, reference: SecretRef) -> bool | None:
        """Tell whether a Secret is there with a value for its key; None where that may not be read."""
        return self._observer.attempt(f"Secret {reference.name}", lambda: self._read(reference))

    def _read(self, reference: SecretRef) -> bool:
        try:
            data = self._api.get(f"{self._target.core}/secrets/{quote(reference.name)}").get("data") or {}
        except NotInstalled:
            return False
        if not reference.key:
            return True
        try:
            return bool(base64.b64decode(data.get(reference.key) or ""))
        except binascii.Error:
            return False
