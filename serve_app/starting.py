"""What every replica does first."""

from __future__ import annotations

import importlib
import ipaddress
from typing import Any

from serve_app import telemetry
from serve_app.config import Config
from serve_app.errors import BadConfig

Settings = dict[str, Any]
"""The settings as JSON; each replica adds secrets from its own environment."""


def start(settings: Settings) -> Config:
    """Return the settings of a replica whose log and address are set up by them."""
    config = Config(**settings)
    telemetry.configure_logging(config.log_file)
    if ipaddress.ip_address(config.http.host).is_loopback:
        _listen_on_loopback()
    return config


def milvus_uris(config: Config) -> tuple[str, ...]:
    """Return the addresses of Milvus, the first choice first; raises BadConfig where there is none."""
    if config.milvus.uri is None:
        raise BadConfig("milvus.uri is not set; only `shoplens serve` starts a Milvus of its own")
    return config.milvus.uri, *config.milvus.more_uris


def _listen_on_loopback() -> None:
    """Keep a laptop's replicas from listening to its network.

    Ray Serve 2.60 binds each replica's gRPC server to every interface and unpickles what arrives
    (ray/serve/_private/replica.py, _on_initialized). To be removed once Serve lets the address be set.
    """
    replica: Any = importlib.import_module("ray.serve._private.replica")
    bind = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: bind(server, address.replace("[::]", "127.0.0.1"))
