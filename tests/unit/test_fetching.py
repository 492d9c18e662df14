"""Downloads are refused where they are not safe, spaced where they are, and end in any case."""

import asyncio
import contextlib
import gzip
import pickle
import socket
import tracemalloc

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from serve_app.config import FetchConfig, load_config
from serve_app.errors import BadConfig, FetchFailed, PhotoTooLarge, UrlRefused
from serve_app.fetching import (
    Fetcher,
    Validators,
    checked_url,
)

LOCAL = ("127.0.0.0/8",)
SPELLINGS = (
    "127.0.0.1 127.0.0.1. 127.1 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 0 １２７.0.0.1 127。0。0。1 "
    "[::1] [::ffff:127.0.0.1] [::ffff:7f00:1] [64:ff9b::7f00:1]"
)
NO_WEB_ADDRESSES = (
    "a.jpg //shop.test/a.jpg ftp://shop.test/ file:///etc/passwd data:,x http:// http:///a http://shop.test:99999/ "
    "http://[::1 http://a..b/ http://a\0b/ http://user@shop.test/ http://:secret@shop.test/"
)
KNOWN = Validators('"7"', "Mon, 01 Jan 2024 00:00:00 GMT")


class Server:
    """A web server that hands each request to `answer` and keeps it."""

    def __init__(self, answer, address):
        self.requests = []
        self.transports = set()
        self._answer = answer
        app = web.Application()
        app.router.add_get("/{path:.*}", self._handle)
        self.runner = TestServer(app, host=address)

    async def _handle(self, request):
        self.requests.append(request)
        self.transports.add(request.transport)
        answer = self._answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    @property
    def port(self):
        return self.runner.port

    def url(self, path="/a.jpg", host=None):
        return f"http://{host or self.runner.host}:{self.port}{path}"


def moved(url):
    return web.Response(status=302, headers={"Location": url})


@contextlib.asynccontextmanager
async def serving(answer=lambda request: web.Response(body=b"photo"), address="127.0.0.1", port_unlike=None):
    server = Server(answer, address)
    await server.runner.start_server(shutdown_timeout=0.01)
    while server.port == port_unlike:
        await server.runner.close()
        server = Server(answer, address)
        await server.runner.start_server(shutdown_timeout=0.01)
    try:
        yield server
    finally:
        await server.runner.close()


@contextlib.asynccontextmanager
async def serving_raw(*answers):
    """Serve bytes as they are, one answer per connection, then hang up."""
    left = list(answers)

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.jpg"


class Names(AbstractResolver):
    """Resolve by a dictionary of answers, the last of which stays; other names are 127.0.0.1."""

    def __init__(self, **answers):
        self._answers = answers

    async def resolve(self, host, port=0, family=socket.AF_INET):
        answers = self._answers.get(host.removesuffix(".test"), [["127.0.0.1"]])
        return [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            for each in (answers.pop(0) if len(answers) > 1 else answers[0])
        ]

    async def close(self):
        pass


def fetching(*, share=1.0, names=None, **settings):
    defaults = {"allow_private": LOCAL, "timeout_s": 10, "requests_per_s_per_host": 1000}
    return Fetcher(FetchConfig(**(defaults | settings)), share=share, resolver=names or Names())


async def failure(fetcher, url, max_bytes=1000, known=None):
    with pytest.raises((FetchFailed, PhotoTooLarge)) as raised:
        async with asyncio.timeout(20):
            await fetcher.fetch(url, max_bytes=max_bytes, known=known)
    return raised.value


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is a server's, which sets no event
            await asyncio.sleep(0.005)


# What is fetched


async def test_a_file_comes_with_its_type_and_what_names_its_version():
    headers = {"ETag": KNOWN.etag, "Last-Modified": KNOWN.last_modified, "Content-Type": "image/jpeg"}
    async with serving(lambda request: web.Response(body=b"photo", headers=headers)) as server, fetching() as fetcher:
        fetched = await fetcher.fetch(server.url(), max_bytes=5)
    assert (fetched.data, fetched.validators, fetched.content_type) == (b"photo", KNOWN, "image/jpeg")


async def test_a_known_file_that_has_not_changed_is_not_sent():
    async with serving(lambda request: web.Response(status=304)) as server, fetching() as fetcher:
        assert await fetcher.fetch(server.url(), max_bytes=5, known=KNOWN) is None
    headers = server.requests[0].headers
    assert (headers["If-None-Match"], headers["If-Modified-Since"]) == (KNOWN.etag, KNOWN.last_modified)


async def test_an_unknown_file_that_has_not_changed_is_a_failure():
    async with serving(lambda request: web.Response(status=304)) as server, fetching() as fetcher:
        assert (await failure(fetcher, server.url(), known=Validators())).code == "fetch_failed"
    assert "If-None-Match" not in server.requests[0].headers


async def test_a_version_that_could_not_be_sent_again_is_forgotten():
    answer = b'HTTP/1.1 200 OK\r\nETag: "\xff"\r\nContent-Length: 0\r\n\r\n'
    async with serving_raw(answer) as url, fetching() as fetcher:
        fetched = await fetcher.fetch(url, max_bytes=5)
    assert not fetched.validators


async def test_servers_learn_who_asks_and_nothing_more():
    def answer(request):
        return web.Response(headers={"Set-Cookie": "a=b; Path=/"})

    async with serving(answer) as server, fetching(user_agent="Shop bot") as fetcher:
        for _ in range(2):
            await fetcher.fetch(server.url(host="shop.test"), max_bytes=5)
    headers = server.requests[1].headers
    assert (headers["User-Agent"], headers["Accept-Encoding"]) == ("Shop bot", "identity")
    assert "Cookie" not in headers


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with serving() as server, fetching() as fetcher:
        assert (await fetcher.fetch(server.url(), max_bytes=5)).data == b"photo"


# Which addresses may be connected to


@pytest.mark.parametrize("host", SPELLINGS.split())
async def test_no_spelling_of_a_private_address_is_asked(host):
    async with serving() as server, Fetcher(FetchConfig(attempts=1)) as fetcher:
        error = await failure(fetcher, server.url(host=host))
        assert (error.code, server.requests) == ("url_refused", [])


async def test_a_redirect_to_a_private_address_is_refused():
    async with serving(address="127.0.0.2") as inner:
        outer = serving(lambda request: moved(inner.url()))
        async with outer as server, fetching(allow_private=("127.0.0.1/32",)) as fetcher:
            error = await failure(fetcher, server.url())
        assert (error.code, inner.requests) == ("url_refused", [])
    assert "127.0.0.2 is not public; fetch.allow_private" in error.message


async def test_a_name_that_resolves_to_another_address_the_second_time_is_refused():
    names = Names(shop=[["127.0.0.1"], ["127.0.0.2"]])
    async with serving(address="127.0.0.2") as inner:
        # The second port makes a second connection, and a second look-up.
        outer = serving(lambda request: moved(inner.url(host="shop.test")))
        async with outer as server, fetching(allow_private=("127.0.0.1/32",), names=names) as fetcher:
            error = await failure(fetcher, server.url(host="shop.test"))
        assert (error.code, len(server.requests), inner.requests) == ("url_refused", 1, [])


async def test_a_host_is_reached_at_those_of_its_addresses_that_may_be():
    names = Names(shop=[["127.0.0.2", "10.0.0.1", "127.0.0.1"]])
    async with serving() as server, fetching(allow_private=("127.0.0.1/32",), names=names) as fetcher:
        assert (await fetcher.fetch(server.url(host="shop.test"), max_bytes=5)).data == b"photo"


async def test_a_host_with_private_addresses_only_is_refused_at_once():
    names = Names(shop=[["10.0.0.1", "10.0.0.2"]])
    async with fetching(names=names) as fetcher:
        assert (await failure(fetcher, "http://shop.test/a.jpg")).code == "url_refused"


# Which URLs are asked for


@pytest.mark.parametrize(
    "url", ["", "http://a b/", f"http://{'a' * 64}/", f"http://a/{'a' * 9000}", *NO_WEB_ADDRESSES.split()]
)
def test_what_is_no_plain_web_address_is_refused(url):
    with pytest.raises(UrlRefused):
        checked_url(FetchConfig(), url)


@given(st.text())
def test_any_text_is_a_url_or_refused(text):
    with contextlib.suppress(UrlRefused):
        checked_url(FetchConfig(), f"http://{text}/")


@pytest.mark.parametrize("host", ["shop.test", "SHOP.test", "shop.test.", "a.cdn.test", "a.b.cdn.test"])
def test_named_hosts_are_fetched_from(host):
    checked_url(FetchConfig(allow_hosts=("Shop.test", "*.cdn.test")), f"http://{host}/")


@pytest.mark.parametrize(
    "host", ["other.test", "cdn.test", "evilcdn.test", "a.shop.test", "shop.test.evil", "127.0.0.1"]
)
def test_other_hosts_than_the_named_are_refused(host):
    with pytest.raises(UrlRefused, match=r"fetch\.allow_hosts"):
        checked_url(FetchConfig(allow_hosts=("shop.test", "*.cdn.test")), f"http://{host}/")


@pytest.mark.parametrize("target", ["http://shop.test/b", "ftp://shop.test/", "https://a:b@shop.test/", "https://[::1"])
def test_a_redirect_may_not_lead_to_less_safety(target):
    with pytest.raises(UrlRefused):
        checked_url(FetchConfig(), target, URL("https://shop.test/a"))


@pytest.mark.parametrize("target", ["/b", "b?c=d", "//other.test/b", "https://other.test/b"])
def test_a_redirect_may_be_relative(target):
    assert checked_url(FetchConfig(), target, URL("https://shop.test/a")).scheme == "https"


def test_messages_do_not_tell_secrets():
    with pytest.raises(UrlRefused) as raised:
        checked_url(FetchConfig(), "http://user:secret@shop.test/a.jpg?signature=secret")
    assert "http://shop.test/a.jpg" in raised.value.message
    assert "secret" not in raised.value.message


@pytest.mark.parametrize("setting", ["allow_hosts: [http://a]", "allow_hosts: ['*']", "allow_private: [10.1.2.3/8]"])
def test_settings_that_name_no_host_or_network_are_refused(setting, tmp_path):
    path = tmp_path / "shoplens.yaml"
    path.write_text(f"fetch:\n  {setting}\n")
    with pytest.raises(BadConfig, match=r"fetch\.allow_"):
        load_config(path)


# Redirects


async def test_redirects_are_followed():
    def answer(request):
        return web.Response(body=b"b") if request.path == "/b" else moved("/b")

    async with serving(answer) as server, fetching(max_redirects=1) as fetcher:
        assert (await fetcher.fetch(server.url("/a"), max_bytes=5)).data == b"b"


async def test_redirects_that_do_not_end_are_given_up():
    async with serving(lambda request: moved("/a")) as server, fetching(max_redirects=2) as fetcher:
        assert (await failure(fetcher, server.url("/a"))).code == "fetch_failed"
    assert len(server.requests) == 3


async def test_a_redirect_to_a_host_that_is_not_named_is_refused():
    def answer(request):
        return moved(f"http://b.test:{request.url.port}/")

    async with serving(answer) as server, fetching(allow_hosts=("a.test",)) as fetcher:
        assert (await failure(fetcher, server.url(host="a.test"))).code == "url_refused"
    assert len(server.requests) == 1


# Failures, and those worth another try


CODES = {401: "fetch_denied", 403: "fetch_denied", 404: "not_found", 410: "not_found"}


@pytest.mark.parametrize("status", [204, 206, 302, 400, 401, 403, 404, 410, 418, 501])
async def test_failures_that_will_not_pass_are_not_tried_again(status):
    async with serving(lambda request: web.Response(status=status)) as server, fetching() as fetcher:
        error = await failure(fetcher, server.url())
    assert (error.code, len(server.requests)) == (CODES.get(status, "fetch_failed"), 1)
    assert f"answers {status}" in error.message


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_passing_failures_are_tried_again(status):
    async with serving(lambda request: web.Response(status=status)) as server, fetching(attempts=2) as fetcher:
        assert (await failure(fetcher, server.url())).code == "fetch_failed"
    assert len(server.requests) == 2


async def test_a_failure_survives_the_way_between_processes():
    async with serving(lambda request: web.Response(status=503)) as server, fetching(attempts=1) as fetcher:
        error = await failure(fetcher, server.url())
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.retry_after_s) == (type(error), error.message, error.retry_after_s)


async def test_a_server_that_comes_back_is_asked_again():
    statuses = [503, 429, 200]
    async with serving(lambda request: web.Response(status=statuses.pop(0))) as server, fetching() as fetcher:
        assert (await fetcher.fetch(server.url(), max_bytes=5)).data == b""


async def test_a_body_that_ends_early_is_fetched_again():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with serving_raw(head + b"pho", head + b"photo") as url, fetching() as fetcher:
        assert (await fetcher.fetch(url, max_bytes=5)).data == b"photo"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npho"])
async def test_a_connection_that_always_breaks_is_a_failure(answer):
    async with serving_raw(answer, answer) as url, fetching(attempts=2) as fetcher:
        assert (await failure(fetcher, url)).code == "fetch_failed"


async def test_what_is_no_http_is_not_asked_again():
    async with serving_raw(b"SSH-2.0-OpenSSH\r\n") as url, fetching() as fetcher:
        assert (await failure(fetcher, url)).code == "fetch_failed"


async def test_a_server_that_is_away_is_a_failure():
    async with serving() as server:
        url = server.url()
    async with fetching(attempts=2) as fetcher:
        assert (await failure(fetcher, url)).code == "fetch_failed"


async def test_a_server_that_never_answers_is_given_up():
    async with serving(lambda request: asyncio.sleep(60)) as server, fetching(timeout_s=0.1, attempts=2) as fetcher:
        assert (await failure(fetcher, server.url())).code == "fetch_timeout"
    assert len(server.requests) == 2


async def test_a_body_that_trickles_is_given_up():
    async def trickle(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b".")
            await asyncio.sleep(0.02)

    async with serving(trickle) as server, fetching(timeout_s=0.3, attempts=1) as fetcher:
        assert (await failure(fetcher, server.url(), max_bytes=10**6)).code == "fetch_timeout"


async def test_redirects_share_the_time_of_an_attempt():
    async def dawdle(request):
        await asyncio.sleep(0.1)
        return moved("/a")

    async with serving(dawdle) as server, fetching(timeout_s=0.25, attempts=1, max_redirects=1000) as fetcher:
        assert (await failure(fetcher, server.url())).code == "fetch_timeout"


async def test_waiting_for_a_turn_takes_nothing_from_the_time_for_the_request():
    async with serving() as server, fetching(timeout_s=0.3, requests_per_s_per_host=2) as fetcher:
        await asyncio.gather(*(fetcher.fetch(server.url(), max_bytes=5) for _ in range(2)))


# Size


async def test_a_file_is_too_large_before_its_body_comes():
    async with serving_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n") as url, fetching() as fetcher:
        error = await failure(fetcher, url, max_bytes=5)
    assert (type(error), error.code) == (PhotoTooLarge, "photo_too_large")


async def test_a_body_without_an_end_is_cut_off():
    async def endless(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(bytes(10_000))

    async with serving(endless) as server, fetching() as fetcher:
        assert (await failure(fetcher, server.url(), max_bytes=10**6)).code == "photo_too_large"


def packed(data, encoding="gzip"):
    return lambda request: web.Response(body=data, headers={"Content-Encoding": encoding})


async def test_a_packed_body_is_unpacked_up_to_the_limit():
    async with serving(packed(gzip.compress(bytes(1000)))) as server, fetching() as fetcher:
        assert (await fetcher.fetch(server.url(), max_bytes=1000)).data == bytes(1000)
        assert (await failure(fetcher, server.url(), max_bytes=999)).code == "photo_too_large"


async def test_a_small_body_that_unpacks_to_a_large_one_takes_no_memory():
    bomb = gzip.compress(bytes(100 * 2**20), compresslevel=1)
    async with serving(packed(bomb)) as server, fetching() as fetcher:
        tracemalloc.start()
        try:
            error = await failure(fetcher, server.url(), max_bytes=2**20)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert error.code == "photo_too_large"
    assert peak_bytes < 10 * 2**20


@pytest.mark.parametrize(
    ("body", "encoding"), [(gzip.compress(b"photo")[:-1], "gzip"), (b"photo", "gzip"), (b"photo", "br")]
)
async def test_a_body_that_can_not_be_unpacked_is_a_failure(body, encoding):
    async with serving(packed(body, encoding)) as server, fetching(attempts=1) as fetcher:
        assert (await failure(fetcher, server.url())).code == "fetch_failed"


# Politeness


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_holds_for_the_whole_host(status):
    def busy(request):
        return web.Response(status=status, headers={"Retry-After": "20"}) if request.path == "/busy" else web.Response()

    async with serving(busy) as server, fetching(attempts=1) as fetcher:
        await failure(fetcher, server.url("/busy", host="a.test"))
        await fetcher.fetch(server.url("/other", host="b.test"), max_bytes=5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await fetcher.fetch(server.url("/same", host="a.test"), max_bytes=5)
    assert [request.path for request in server.requests] == ["/busy", "/other"]


async def test_a_host_that_wants_to_be_left_alone_for_long_is_a_failure_at_once():
    def busy(request):
        return web.Response(status=503, headers={"Retry-After": "9" * 400})

    async with serving(busy) as server, fetching(longest_wait_s=30) as fetcher:
        assert (await failure(fetcher, server.url())).retry_after_s == 600
        error = await failure(fetcher, server.url("/b.jpg"))
    assert (error.code, len(server.requests)) == ("fetch_failed", 1)
    assert "longer than fetch.longest_wait_s" in error.message


class Crowd:
    """Let requests in and none out, until `door` is open."""

    def __init__(self):
        self.inside = self.most = 0
        self.door = asyncio.Event()

    async def answer(self, request):
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.door.wait()
        self.inside -= 1
        return web.Response()


@pytest.mark.parametrize(
    ("hosts", "most", "limits"),
    [
        (1, 3, {"connections_per_host": 3}),
        (1, 2, {"connections_per_host": 4, "share": 0.5}),
        (1, 1, {"connections_per_host": 8, "share": 0.01, "requests_per_s_per_host": 100_000}),
        (4, 5, {"connections_per_host": 3, "connections": 5}),
    ],
)
async def test_no_more_requests_are_sent_at_once_than_allowed(hosts, most, limits):
    crowd = Crowd()
    async with serving(crowd.answer) as server, fetching(**limits) as fetcher:
        urls = [server.url(host=f"shop{number % hosts}.test") for number in range(12)]
        fetches = asyncio.gather(*(fetcher.fetch(url, max_bytes=5) for url in urls))
        await until(lambda: crowd.inside == most)
        await asyncio.sleep(0.1)  # for one more to come, if it may
        crowd.door.set()
        await fetches
    assert (crowd.most, len(server.requests)) == (most, 12)


async def test_a_fetch_that_is_cancelled_gives_its_turn_back():
    crowd = Crowd()
    limits = {"connections_per_host": 1, "connections": 1}
    async with serving(crowd.answer) as server, fetching(**limits) as fetcher:
        fetches = [asyncio.create_task(fetcher.fetch(server.url(), max_bytes=5)) for _ in range(3)]
        await until(lambda: crowd.inside)
        for each in fetches:
            each.cancel()
        await asyncio.wait(fetches)
        crowd.door.set()
        await fetcher.fetch(server.url(), max_bytes=5)


async def test_connections_are_used_again():
    async with serving() as server, fetching() as fetcher:
        for _ in range(3):
            await fetcher.fetch(server.url(), max_bytes=5)
    assert len(server.transports) == 1


async def test_connections_to_many_hosts_do_not_stay_open():
    async with serving() as server, fetching(connections=3) as fetcher:
        for number in range(20):
            await fetcher.fetch(server.url(host=f"shop{number}.test"), max_bytes=5)
        await until(lambda: sum(not each.is_closing() for each in server.transports) <= 3)
    assert len(server.transports) == 20


# Life


def test_a_fetcher_is_made_outside_of_any_event_loop():
    async def use():
        async with fetcher:
            return await failure(fetcher, "ftp://shop.test")

    fetcher = fetching()
    assert asyncio.run(use()).code == "url_refused"


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_is_a_part_of_the_whole(share):
    with pytest.raises(ValueError, match="share"):
        Fetcher(FetchConfig(), share=share)
