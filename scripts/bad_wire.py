"""What can't be said in a proper request: broken HTTP, bodies without an end, and servers that fetching should mind."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus

from scripts.bad_requests import JSON, PRODUCTS, Answer, BadRequest, good_photo, json_body

CLOSED: Answer = (0, "closed")
"""The connection was closed without an answer."""
UNREAD: Answer = (400, "")
"""Answers below HTTP have no code: the server's own words for what is no HTTP."""
WAIT_S = 30.0
SLOW_CLIENTS = 50
ENDLESS_BYTES = 64 * 2**20
WEB_HOST = "127.0.0.2"
"""Where the hostile server listens; a service that is started for the corpus may fetch from there, and nowhere near."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Hold what is done on a connection of its own, and the answers it may have."""

    kind: str
    name: str
    answers: tuple[Answer, ...]
    run: Callable[[str, int], Answer]


def attacks(*, slow: bool = True) -> list[Attack]:
    """Return all attacks; without `slow`, those that end within a second."""
    return list(_broken()) + list(_endless()) + (list(_slow()) if slow else [])


def _head(*lines: str, method: str = "POST", path: str = "/v1/search") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: shop", *lines, "", ""]).encode("latin-1")


def _broken() -> Iterator[Attack]:
    refused = (UNREAD, CLOSED, (431, ""), (414, ""))
    raw = "Content-Type: application/octet-stream"
    for name, data in {
        "noise": bytes(range(256)),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
        "version 9.9": b"GET / HTTP/9.9\r\n\r\n",
        "NUL in a header": _head("X: a\0b", "Content-Length: 0"),
        "header of 1 MB": _head("X: " + "a" * 2**20),
        "20,000 headers": _head(*[f"X-{i}: {'a' * 50}" for i in range(20_000)]),
        "path of 200 kB": _head(method="GET", path="/" + "a" * 200_000),
        "length below zero": _head("Content-Length: -1"),
        "two lengths": _head("Content-Length: 5", "Content-Length: 6") + b"hello",
        "length that is none": _head("Content-Length: 5e1"),
        "chunk of 2^64 bytes": _head(raw, "Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\na",
        "chunk without a size": _head(raw, "Transfer-Encoding: chunked") + b"zz\r\na\r\n",
    }.items():
        yield Attack("broken HTTP", name, refused, _sender(data))
    yield Attack("broken HTTP", "no version", (*refused, (200, "ok")), _sender(b"GET /\r\n\r\n"))
    both = _head(raw, "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n"
    yield Attack("broken HTTP", "length and chunks", (*refused, (400, "empty_body")), _sender(both))
    gone = _head(raw, "Content-Length: 1000") + b"half"
    yield Attack("broken HTTP", "client that leaves", (CLOSED,), _leaver(gone))


def _sender(data: bytes) -> Callable[[str, int], Answer]:
    def run(host: str, port: int) -> Answer:
        with socket.create_connection((host, port), timeout=WAIT_S) as connection:
            with suppress(OSError):
                connection.sendall(data)
            return _answer(connection)

    return run


def _leaver(data: bytes) -> Callable[[str, int], Answer]:
    def run(host: str, port: int) -> Answer:
        with socket.create_connection((host, port), timeout=WAIT_S) as connection:
            connection.sendall(data)
        return CLOSED

    return run


def _endless() -> Iterator[Attack]:
    too_large = ((413, "photo_too_large"),)
    for kind in ("application/octet-stream", "application/json", "multipart/form-data; boundary=b"):
        yield Attack("endless body", kind.split(";")[0], too_large, _streamer(kind))


def _streamer(kind: str) -> Callable[[str, int], Answer]:
    start = b"--b\r\nContent-Disposition: form-data; name=photo; filename=a\r\n\r\n" if "form" in kind else b'"'
    chunk = b"10000\r\n" + b"a" * 2**16 + b"\r\n"

    def run(host: str, port: int) -> Answer:
        with socket.create_connection((host, port), timeout=WAIT_S) as connection:
            with suppress(OSError):
                connection.sendall(_head(f"Content-Type: {kind}", "Transfer-Encoding: chunked"))
                connection.sendall(f"{len(start):x}\r\n".encode() + start + b"\r\n")
                for _ in range(ENDLESS_BYTES >> 16):
                    connection.sendall(chunk)
            return _answer(connection)

    return run


def _slow() -> Iterator[Attack]:
    yield Attack("slow client", "a byte a second", ((408, "upload_timeout"),), _trickle)
    yield Attack("slow client", "body that never comes", ((408, "upload_timeout"),), _stall)
    yield Attack("slow client", f"{SLOW_CLIENTS} that never end their headers", ((200, "ok"),), _slowloris)


def _trickle(host: str, port: int) -> Answer:
    with socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(_head("Content-Type: application/octet-stream", "Content-Length: 1000"))
        for _ in range(int(WAIT_S)):
            with suppress(OSError):
                connection.sendall(b"a")
            with suppress(TimeoutError):
                return _answer(connection)
    return CLOSED


def _stall(host: str, port: int) -> Answer:
    return _sender(_head("Content-Type: image/jpeg", "Content-Length: 1000") + b"\xff\xd8")(host, port)


def _slowloris(host: str, port: int) -> Answer:
    """Search while others hold connections open."""
    held = [socket.create_connection((host, port), timeout=WAIT_S) for _ in range(SLOW_CLIENTS)]
    try:
        for number, connection in enumerate(held):
            connection.sendall(b"POST /v1/search HTTP/1.1\r\nHost: shop\r\nX-%d: " % number)
        photo = good_photo()
        head = _head("Content-Type: image/jpeg", f"Content-Length: {len(photo)}", "Connection: close")
        return _sender(head + photo)(host, port)
    finally:
        for connection in held:
            connection.close()


def _answer(connection: socket.socket) -> Answer:
    """Read an answer's status and code; raises TimeoutError where none comes."""
    data = b""
    try:
        while b"\r\n\r\n" not in data or len(data) < _whole_bytes(data):
            received = connection.recv(2**16)
            if not received:
                break
            data += received
    except ConnectionError:
        pass
    if not data.startswith(b"HTTP/1."):
        return CLOSED
    status = int(data.split(b" ", 2)[1])
    if status == HTTPStatus.OK:
        return 200, "ok"
    try:
        return status, str(json.loads(data.partition(b"\r\n\r\n")[2])["code"])
    except (ValueError, KeyError):
        return status, ""


def _whole_bytes(data: bytes) -> int:
    head = data.partition(b"\r\n\r\n")[0]
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + 4 + (int(lengths[0]) if lengths else 0)


@contextmanager
def hostile_server() -> Iterator[str]:
    """Serve what no shop's server should until the block ends; yields its address."""
    server = http.server.ThreadingHTTPServer((WEB_HOST, 0), _Hostile)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{WEB_HOST}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


REDIRECTS = {
    "/to-loopback": "http://127.0.0.1:8000/v1/index",
    "/to-metadata": "http://169.254.169.254/latest/meta-data/",
    "/to-private": "http://10.0.0.1/a.jpg",
    "/to-name": "http://localhost:8000/v1/index",
    "/to-number": "http://2130706433/a.jpg",
    "/to-file": "file:///etc/passwd",
    "/to-ftp": "ftp://127.0.0.1/a",
    "/to-nothing": "http://",
    "/to-user": "http://user:pass@93.184.216.34/a.jpg",
}


class _Hostile(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path in REDIRECTS:
            self._send(302, headers={"Location": REDIRECTS[self.path]})
        elif self.path == "/round":
            self._send(302, headers={"Location": "/round"})
        elif self.path == "/html":
            self._send(200, b"<script>alert(1)</script>")
        elif self.path == "/packed":
            self._send(200, zlib.compress(bytes(64 * 2**20), wbits=31), headers={"Content-Encoding": "gzip"})
        elif self.path == "/endless":
            self._send(200, length=None)
            self._pour(b"a" * 2**16, 0)
        elif self.path == "/slow":
            self._send(200, length=1000)
            self._pour(b"a", 1)
        elif self.path == "/silent":
            time.sleep(WAIT_S)
        else:
            self._send(int(self.path.strip("/")))

    def _send(
        self, status: int, body: bytes = b"", *, length: int | None = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _pour(self, chunk: bytes, every_s: float) -> None:
        self.close_connection = True
        with suppress(OSError):
            for _ in range(ENDLESS_BYTES // len(chunk)):
                self.wfile.write(chunk)
                time.sleep(every_s)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def hostile_urls(address: str) -> Iterator[BadRequest]:
    """Yield products whose images are on a hostile server, and searches with its photos."""
    expected: dict[str, tuple[Answer, ...]] = dict.fromkeys(REDIRECTS, ((422, "url_refused"),))
    expected |= {
        # What leads nowhere is joined with where it stands, and so leads there again.
        "/to-nothing": ((502, "fetch_failed"),),
        "/round": ((502, "fetch_failed"),),
        "/html": ((422, "not_an_image"),),
        "/packed": ((413, "photo_too_large"),),
        "/endless": ((413, "photo_too_large"),),
        "/slow": ((504, "fetch_timeout"),),
        "/silent": ((504, "fetch_timeout"),),
        "/401": ((422, "fetch_denied"),),
        "/404": ((422, "not_found"),),
        "/418": ((502, "fetch_failed"),),
        "/500": ((502, "fetch_failed"),),
    }
    for path, answers in expected.items():
        body = json.dumps({"images": [{"url": address + path}]}).encode()
        yield BadRequest("hostile server", path, answers, "PUT", f"{PRODUCTS}/hostile", body, JSON)
        yield json_body("hostile server of a search", path, {"url": address + path}, *answers)
