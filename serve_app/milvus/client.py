"""Connections to Milvus, and what its errors mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
from pymilvus import AsyncMilvusClient, MilvusClient
from pymilvus.exceptions import (
    DataNotMatchException,
    DataTypeNotMatchException,
    DataTypeNotSupportException,
    MilvusException,
    ParamError,
)

from serve_app.config import MilvusConfig
from serve_app.errors import (
    BadConfig,
    DeadlineExceeded,
    FailingOver,
    IndexMissing,
    MilvusUnavailable,
    ShoplensError,
)

CONNECT_TIMEOUT_S = 5.0

GRPC_OPTIONS = {
    # gRPC's defaults wait up to two minutes between attempts to reach a server that was away.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
}

# Milvus Lite's server hangs up on pymilvus, which pings every 10 s, with "too many pings"; a server on this machine
# needs no pings to be known as gone: https://github.com/grpc/grpc/blob/master/doc/keepalive.md.
NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Client = MilvusClient
"""For who passes connections on without pymilvus."""

HOW_TO_INDEX = "`shoplens import MANIFEST` makes an index"

# Codes of the server: https://github.com/milvus-io/milvus/blob/master/pkg/util/merr/errors.go;
# those of Milvus Lite: milvus_lite/adapter/grpc/errors.py.
_MISSING_CODES = {100, 101, 103, 1600}
_REFUSED_CODES = {6, *range(1100, 1200)}
_FORBIDDEN_CODES = {1400, 1401, 1402}
_PROXY_CODES = {2, 8, 9}
"""There is no connection, or the proxy itself limits the rate: nothing is wrong with the index."""

# Milvus 2.3 answers code 65535, and Milvus Lite code 1, for anything else.
_MISSING_TEXT = re.compile(r"collection not found|can't find collection|collection not (fully )?loaded|alias not found")
_REFUSED_TEXT = re.compile(r"cannot parse|invalid|illegal|mismatch|should divide|not supported|out of range")

_REFUSED_TYPES = (ParamError, DataNotMatchException, DataTypeNotMatchException, DataTypeNotSupportException)


def connect(config: MilvusConfig, uri: str, timeout_s: float = CONNECT_TIMEOUT_S) -> MilvusClient:
    """Connect for life-cycle and writing calls; a lost connection is made anew by the next call.

    Raises MilvusUnavailable, or BadConfig where the server refuses the user.
    """
    _silence()
    with translated():
        return MilvusClient(
            uri, token=token_of(config), timeout=timeout_s, dedicated=True, grpc_options=_grpc_options(uri)
        )


def async_client(config: MilvusConfig, uri: str) -> AsyncMilvusClient:
    """Return a client that connects when it is entered."""
    _silence()
    return AsyncMilvusClient(
        uri, token=token_of(config), timeout=config.attempt_timeout_s, dedicated=True, grpc_options=_grpc_options(uri)
    )


async def leave_to_grpc(client: AsyncMilvusClient) -> None:
    """Let gRPC alone make a lost connection anew.

    pymilvus 3.0.2 does it itself after each failed call, up to the connection's time limit, and under one lock for
    all clients of an event loop: a proxy that is gone holds up the calls to the others. To be removed once
    AsyncConnectionManager.handle_error (pymilvus/client/connection_manager.py) locks a connection of its own.
    """

    async def unmoved(_: Exception) -> bool:
        return False

    handler: Any = await client._get_connection()
    handler._on_rpc_error = unmoved


def is_lite(client: MilvusClient) -> bool:
    """Tell Milvus Lite from a server."""
    return server_version(client) is None


def server_version(client: MilvusClient) -> tuple[int, ...] | None:
    """Return the numbers of a server's version, () where it tells none; None for Milvus Lite.

    The server of the PyPI package `milvus` calls itself `v2.3.5-lite`.
    """
    with translated():
        text = str(client.get_server_version(timeout=CONNECT_TIMEOUT_S))
    if text.startswith("milvus_lite"):
        return None
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(map(int, numbers[1].split("."))) if numbers else ()


def _silence() -> None:
    """Keep pymilvus from logging each error, with its traceback, that it raises too."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


def _grpc_options(uri: str) -> dict[str, Any]:
    return GRPC_OPTIONS | (NO_PINGS if urlsplit(uri).hostname in LOOPBACK else {})


def token_of(config: MilvusConfig) -> str:
    if not config.user:
        return ""
    password = config.password.get_secret_value()
    if config.password_file is not None:
        try:
            password = config.password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"milvus.password_file can't be read: {error}") from error
    return f"{config.user}:{password}"


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a call of pymilvus raises as an error of ours."""
    try:
        yield
    except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError, TimeoutError) as error:
        raise translate(error) from error


def translate(error: Exception) -> ShoplensError:
    """Return the error of ours that says what pymilvus's error means."""
    if isinstance(error, MilvusException):
        # After a retry, pymilvus puts gRPC's status into `code`.
        if isinstance(error.code, grpc.StatusCode):
            return _of_status(error.code, str(error.message))
        return _of_code(error)
    if isinstance(error, grpc.RpcError):
        return _of_status(error.code(), str(error.details()))
    return DeadlineExceeded("Milvus didn't answer in time")


def _of_status(status: Any, details: str) -> ShoplensError:
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("Milvus didn't answer in time")
    if status in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return BadConfig(f"Milvus refuses milvus.user or its password: {details}")
    return MilvusUnavailable(f"Milvus can't be reached: {status.name.lower()}, {details}")


def _of_code(error: MilvusException) -> ShoplensError:
    code, text = int(error.code), str(error.message)
    if code in _MISSING_CODES or _MISSING_TEXT.search(text):
        return IndexMissing(f"the index is missing or not loaded ({text}); {HOW_TO_INDEX}")
    if code in _FORBIDDEN_CODES:
        return BadConfig(f"Milvus refuses milvus.user: {text}")
    if code in _REFUSED_CODES or error.is_input_error or isinstance(error, _REFUSED_TYPES):
        return ShoplensError(f"Milvus refused a call: {text}")
    if "Retry timeout" in text:
        return DeadlineExceeded("Milvus didn't answer in time")
    if code == 65535 and _REFUSED_TEXT.search(text):
        return ShoplensError(f"Milvus refused a call: {text}")
    if code in _PROXY_CODES:
        return MilvusUnavailable(f"Milvus doesn't take the call: {text}")
    return FailingOver(f"Milvus can't serve: {text}")
