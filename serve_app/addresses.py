"""Which addresses downloads may connect to, checked where a socket is made: no name and no redirect gets around it."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from serve_app.config import FetchConfig

USUAL_PORTS = {80, 443}
NAT64 = ip_network("64:ff9b::/96")
GLOBAL_UNICAST = ip_network("2000::/3")
NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # IETF protocol assignments; Oracle Cloud answers at 192.0.0.192. Python 3.11 knows parts of it
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "168.63.129.16/32",  # Azure's platform, reached from its machines alone
        "3fff::/20",  # documentation, RFC 9637, newer than Python 3.11
    )
)

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Tell whether anybody may be meant by an address; one that stands for an IPv4 address is judged as that one."""
    meant = _meant(address)
    if meant.version == 6 and meant not in GLOBAL_UNICAST:
        return False
    special = meant.is_multicast or meant.is_reserved or any(meant in network for network in NOT_PUBLIC)
    return meant.is_global and not special


def _meant(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


class AddressRefused(OSError):
    """An address may not be connected to; an OSError, so that the next address of the host gets its turn."""


def socket_to(config: FetchConfig, info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for an address that may be connected to; the one way to any server.

    Ports other than 80 and 443 are for hosts and networks that the settings name.
    """
    family, kind, protocol, _, (text, port, *_) = info
    try:
        address = ip_address(text)
    except ValueError as error:
        raise AddressRefused(f"{text} is no address") from error
    if not any(each in network for each in (address, _meant(address)) for network in config.allow_private):
        if not is_public(address):
            raise AddressRefused(f"{text} is not public; fetch.allow_private names networks that may be fetched from")
        if port not in USUAL_PORTS and not config.allow_hosts:
            raise AddressRefused(f"port {port} is neither 80 nor 443; fetch.allow_hosts names hosts with other ports")
    return socket.socket(family, kind, protocol)
