"""The adapter of the kubernetes client, against a stand-in for an API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from serve_app.cluster.kubernetes_api import KubernetesApi
from serve_app.errors import KubernetesUnavailable, NoKubeconfig, NotInstalled, RightMissing


def refusal(code: int, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"kind": "Status", "code": code, "message": message}).encode()


ANSWERS = {
    "/pods": (200, b'{"items": [1]}'),
    "/forbidden": refusal(403, 'pods is forbidden: User "u" cannot list resource "pods"'),
    "/unknown": refusal(401, "Unauthorized"),
    "/missing": refusal(404, 'rayservices.ray.io "shoplens" not found'),
    "/broken": refusal(500, "etcd is away"),
    "/html": (200, b"<html>"),
    "/proxied": (503, b'{"status": "not ready"}'),
    "/no-endpoints": refusal(503, "no endpoints available for service"),
    "/log": (200, "one\nzwölf\n".encode() + b"x" * 200_000 + b"\nlast"),
}


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict[str, list[str]], dict[str, str]]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.seen.append((url.path, parse_qs(url.query), {name.lower(): value for name, value in self.headers.items()}))
        status, body = ANSWERS[url.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def write_kubeconfig(folder: Path, port: int) -> str:
    path = folder / "config"
    document = {
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}},
            {"name": "there", "context": {"cluster": "c", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


@pytest.fixture
def api(server, tmp_path) -> KubernetesApi:
    return KubernetesApi(config_file=write_kubeconfig(tmp_path, server.server_port))


def test_object_is_read_with_the_login_and_the_selector(api):
    assert api.get("/pods", {"labelSelector": "ray.io/cluster in (a,b)"}) == {"items": [1]}
    _, query, headers = Handler.seen[-1]
    assert query == {"labelSelector": ["ray.io/cluster in (a,b)"]}
    assert headers["authorization"] == "Bearer t0ken"


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("/forbidden", RightMissing, 'cannot list resource "pods"; the Role'),
        ("/unknown", RightMissing, "expired"),
        ("/missing", NotInstalled, '"shoplens" not found'),
        ("/broken", KubernetesUnavailable, "500: etcd is away"),
        ("/html", KubernetesUnavailable, "not JSON"),
    ],
)
def test_refusals_are_told_apart(api, path, error, words):
    with pytest.raises(error) as caught:
        api.get(path)
    assert words in caught.value.message


def test_answer_behind_the_proxy_is_handed_on_with_its_status(api):
    answer = api.through("/proxied", {"X-Ray-Authorization": "Bearer ray"})
    assert (answer.status, json.loads(answer.body)) == (503, {"status": "not ready"})
    assert Handler.seen[-1][2]["x-ray-authorization"] == "Bearer ray"


def test_refusal_of_the_proxy_itself_is_an_error(api):
    with pytest.raises(KubernetesUnavailable, match="no endpoints"):
        api.through("/no-endpoints")


def test_log_comes_in_lines_however_it_is_cut(api):
    assert list(api.lines("/log", {"container": "worker"})) == ["one", "zwölf", "x" * 200_000, "last"]


def test_log_that_is_forbidden_is_an_error(api):
    with pytest.raises(RightMissing):
        list(api.lines("/forbidden", {}))


def test_namespace_is_the_contexts(server, tmp_path):
    path = write_kubeconfig(tmp_path, server.server_port)
    assert KubernetesApi(config_file=path).namespace == "shop"
    assert KubernetesApi("there", config_file=path).namespace == "default"


def test_unknown_context_says_how_to_find_another(tmp_path):
    with pytest.raises(NoKubeconfig, match="get-contexts"):
        KubernetesApi("elsewhere", config_file=write_kubeconfig(tmp_path, 1))


@pytest.mark.parametrize("text", ["", "- 1", "{broken"])
def test_file_that_is_no_kubeconfig_is_one_error(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(NoKubeconfig):
        KubernetesApi(config_file=str(path))


def test_api_server_that_is_away_is_named(tmp_path):
    with pytest.raises(KubernetesUnavailable, match="does not answer"):
        KubernetesApi(config_file=write_kubeconfig(tmp_path, 9)).get("/pods")
