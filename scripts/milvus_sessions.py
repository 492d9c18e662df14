"""What Milvus's roles keep in etcd about themselves."""

from __future__ import annotations

import base64
import json
import urllib.request
from dataclasses import dataclass

from scripts.processes import HTTP_TIMEOUT_S

SESSIONS = "by-dev/meta/session/"
NEXT_ID = SESSIONS + "id"


@dataclass(frozen=True, slots=True)
class Session:
    """Hold what a role registered under a lease: `KIND-ID`, and an active coordinator `KIND` too."""

    name: str
    server_id: int
    port: int


def sessions(etcd_port: int) -> list[Session]:
    """Return the sessions of all roles whose lease isn't over; raises OSError where etcd can't be asked."""
    keys = {"key": SESSIONS, "range_end": SESSIONS[:-1] + chr(ord(SESSIONS[-1]) + 1)}
    body = json.dumps({name: base64.b64encode(key.encode()).decode() for name, key in keys.items()})
    url = f"http://127.0.0.1:{etcd_port}/v3/kv/range"
    with urllib.request.urlopen(url, body.encode(), timeout=HTTP_TIMEOUT_S) as answer:
        found = json.load(answer).get("kvs", [])
    decoded = ([base64.b64decode(entry[part]).decode() for part in ("key", "value")] for entry in found)
    return [_session(key, value) for key, value in decoded if key != NEXT_ID]


def _session(key: str, value: str) -> Session:
    held = json.loads(value)
    return Session(key.removeprefix(SESSIONS), held["ServerID"], int(held["Address"].rpartition(":")[2]))
