"""URLs that the service should not fetch from, as those of products' images and as those of searches."""

from __future__ import annotations

import json
from collections.abc import Iterator

from scripts.bad_requests import BAD, JSON, PRODUCTS, REFUSED, BadRequest, json_body

UNREACHABLE = (502, "fetch_failed")
REFUSED_URLS = (
    "http://127.0.0.1/a.jpg",
    "http://127.1/a.jpg",
    "http://0x7f000001/a.jpg",
    "http://2130706433/a.jpg",
    "http://0177.0.0.1/a.jpg",
    "http://0.0.0.0/a.jpg",
    "http://localhost/a.jpg",
    "http://[::1]/a.jpg",
    "http://[::ffff:127.0.0.1]/a.jpg",
    "http://[64:ff9b::7f00:1]/a.jpg",
    "http://[2002:7f00:1::]/a.jpg",
    "http://10.0.0.1/a.jpg",
    "http://172.16.0.1/a.jpg",
    "http://192.168.0.1/a.jpg",
    "http://100.64.0.1/a.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://192.0.0.192/opc/v2/instance/",
    "http://168.63.129.16/metadata",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fe80::1%25eth0]/a.jpg",
    "http://224.0.0.1/a.jpg",
    "http://255.255.255.255/a.jpg",
    "http://93.184.216.34:22/",
    "http://93.184.216.34:6379/",
    "http://user:pass@93.184.216.34/a.jpg",
    "http://127.0.0.1#@93.184.216.34/",
    "http://[::1",
    "http://a b/",
    "http:///a.jpg",
    "http://" + "a" * 300 + ".example/",
)
UNREADABLE_URLS = (
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.jpg",
    "gopher://127.0.0.1:6379/_INFO",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "//127.0.0.1/a.jpg",
    "/etc/passwd",
    "http:" + "a" * 5000,
    "",
)


NAMED_HOSTS = (
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "0.0.0.0",  # noqa: S104 - a host that is asked for, and refused
    "localhost",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
)
"""What nobody should name in fetch.search_hosts. A service that is started for the corpus does, so that searches meet
the check of addresses too, not that of names alone."""


def product_urls() -> Iterator[BadRequest]:
    for url in REFUSED_URLS:
        body = json.dumps({"images": [{"url": url}]}).encode()
        yield BadRequest("URL", url[:60], (REFUSED, UNREACHABLE), "PUT", f"{PRODUCTS}/bad-url", body, JSON)
    for url in UNREADABLE_URLS:
        body = json.dumps({"images": [{"url": url}]}).encode()
        yield BadRequest("URL", url[:60], (BAD,), "PUT", f"{PRODUCTS}/bad-url", body, JSON)


def search_urls() -> Iterator[BadRequest]:
    for url in REFUSED_URLS:
        yield json_body("URL of a search", url[:60], {"url": url}, REFUSED, UNREACHABLE)
    for url in UNREADABLE_URLS:
        yield json_body("URL of a search", url[:60], {"url": url}, REFUSED, BAD)
    for name, body in {
        "a list": {"url": ["http://127.0.0.1/a.jpg"]},
        "a number": {"url": 2130706433},
        "half a character": {"url": "http://\ud800/"},
        "beside a token": {"url": "http://127.0.0.1/a.jpg", "token": "a"},
        "beside a cursor": {"url": "http://127.0.0.1/a.jpg", "cursor": "a"},
    }.items():
        yield json_body("URL of a search", name, body, REFUSED, BAD)


MAKERS = (product_urls, search_urls)
