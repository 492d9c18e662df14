"""Reading from a cluster's API server."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client
from kubernetes import config as kubeconfig
from kubernetes.config.config_exception import ConfigException

from serve_app.cluster.observing import Answer
from serve_app.errors import KubernetesUnavailable, NoKubeconfig, NotInstalled, RightMissing

TIMEOUT_S = 10.0
PROXY_TIMEOUT_S = 5.0
"""A network policy that keeps the API server from the pods lets its proxy hang."""
STREAM_TIMEOUT_S = 30.0
# The client's own configuration part has no types.
config: Any = kubeconfig

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class KubernetesApi:
    """Read objects, through proxies, and logs; writes nothing."""

    def __init__(self, context: str | None = None, config_file: str | None = None) -> None:
        """Take the kubeconfig's `context`, its current one, or a pod's own account; raises NoKubeconfig.

        The kubeconfig is `config_file`, else $KUBECONFIG, else ~/.kube/config.
        """
        self.namespace = "default"
        self._client = self._connect(context, config_file)
        self._client.configuration.retries = False
        self._client = client.ApiClient(self._client.configuration)

    def _connect(self, context: str | None, config_file: str | None) -> client.ApiClient:
        try:
            contexts, current = config.list_kube_config_contexts(config_file)
            made: client.ApiClient = config.new_client_from_config(config_file, context)
        except ConfigException as error:
            if context is None and POD_NAMESPACE.is_file():
                return self._connect_in_pod()
            raise NoKubeconfig(
                f"no cluster can be found: {_first_line(error)}; set KUBECONFIG, or name one of `kubectl config "
                "get-contexts` with --context"
            ) from error
        except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
            raise NoKubeconfig(f"the kubeconfig can't be read: {_first_line(error)}") from error
        chosen = current if context is None else next(each for each in contexts if each["name"] == context)
        self.namespace = chosen["context"].get("namespace", "default")
        return made

    def _connect_in_pod(self) -> client.ApiClient:
        configuration = client.Configuration()
        config.load_incluster_config(client_configuration=configuration)
        self.namespace = POD_NAMESPACE.read_text(encoding="utf-8").strip()
        return client.ApiClient(configuration)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON object at `path`; raises NotInstalled, RightMissing or KubernetesUnavailable."""
        response = self._request(path, query or {}, {}, TIMEOUT_S)
        with _reading(path):
            body = response.data
        _raise_for(response.status, body, path)
        try:
            document = json.loads(body)
        except ValueError as error:
            raise KubernetesUnavailable(f"the API server's answer to {path} is not JSON") from error
        assert isinstance(document, dict)
        return document

    def through(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return what a pod or Service behind the API server's proxy answers, whatever its status.

        Raises as `get` does, where it is the API server that refuses.
        """
        response = self._request(path, {}, headers or {}, PROXY_TIMEOUT_S)
        with _reading(path):
            body = response.data
        if response.status >= 400 and _refusal(body) is not None:
            _raise_for(response.status, body, path)
        return Answer(response.status, body)

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[str]:
        """Yield the lines of a log as they come; raises as `get` does."""
        response = self._request(path, query, {}, STREAM_TIMEOUT_S)
        try:
            if response.status >= 400:
                with _reading(path):
                    body = response.data
                _raise_for(response.status, body, path)
            yield from _lines(response, path)
        finally:
            response.close()

    def _request(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
    ) -> urllib3.HTTPResponse:
        prepared = self._client.param_serialize(
            "GET",
            path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json, */*", **headers},
            auth_settings=["BearerToken"],
        )
        with _reading(path):
            response: urllib3.HTTPResponse = self._client.call_api(*prepared, _request_timeout=timeout_s).response
        return response


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
        raise KubernetesUnavailable(
            f"the API server does not answer ({path}): {_first_line(error)}; is the cluster up, and is this the right "
            "context (`kubectl config current-context`)?"
        ) from error


def _raise_for(status: int, body: bytes, path: str) -> None:
    if status < 400:
        return
    message = _refusal(body) or body[:200].decode("utf-8", "replace").strip() or path
    if status == 404:
        raise NotInstalled(message)
    if status == 401:
        raise RightMissing("the API server does not know who asks: the kubeconfig's login is wrong or has expired")
    if status == 403:
        raise RightMissing(f"{message}; the Role that the chart brings holds this right: bind it to this user")
    raise KubernetesUnavailable(f"the API server answers {status}: {message}")


def _refusal(body: bytes) -> str | None:
    """Return the API server's own words; None is another's answer."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict) or document.get("kind") != "Status":
        return None
    return str(document.get("message") or document.get("reason") or "")


def _first_line(error: Exception) -> str:
    text = str(error.reason) if isinstance(error, client.ApiException) else str(error)
    return " ".join(text.splitlines()[:2]) or type(error).__name__


def _lines(response: urllib3.HTTPResponse, path: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    chunks = response.stream(2**16)
    while True:
        with _reading(path):
            chunk = next(chunks, None)
        if chunk is None:
            break
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from whole
    if rest:
        yield rest
