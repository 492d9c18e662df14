"""No address that anybody's network is behind is connected to."""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.addresses import AddressRefused, is_public, socket_to
from serve_app.config import FetchConfig

PRIVATE = (
    "0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 168.63.129.16 169.254.169.254 172.16.0.1 192.0.0.192 "
    "192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:10.0.0.1 "
    "::ffff:0:7f00:1 64:ff9b::a00:1 64:ff9b:1::101:101 100::1 2001::1 2001:db8::1 2002:7f00:1::1 3fff::1 fc00::1 "
    "fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1"
)


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"])
def test_public_addresses_are_public(text):
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", PRIVATE.split())
def test_other_addresses_are_not_public(text):
    assert not is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_an_address_within_an_address_is_judged_as_itself(inner):
    bits = int(inner)
    wrapped = (0xFFFF << 32 | bits, 0x64FF9B << 96 | bits, 0x2002 << 112 | bits << 80)
    assert {is_public(IPv6Address(each)) for each in wrapped} == {is_public(inner)}


@given(st.sampled_from(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/4"]), st.data())
def test_no_address_of_a_private_network_is_public(network, data):
    bits = data.draw(st.integers(*map(int, (IPv4Network(network)[0], IPv4Network(network)[-1]))))
    assert not is_public(IPv4Address(bits))


@pytest.mark.parametrize(
    ("text", "port", "settings"),
    [
        ("93.184.216.34", 443, {}),
        ("93.184.216.34", 8080, {"allow_hosts": ("shop.test",)}),
        ("10.1.2.3", 8080, {"allow_private": ("10.1.0.0/16",)}),
        ("64:ff9b::a01:203", 80, {"allow_private": ("10.1.0.0/16",)}),
    ],
)
def test_named_networks_and_ports_of_named_hosts_are_reached(text, port, settings):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    socket_to(FetchConfig(**settings), (family, socket.SOCK_STREAM, 0, "", (text, port))).close()


@pytest.mark.parametrize(
    ("text", "port", "settings"),
    [
        ("93.184.216.34", 22, {}),
        ("93.184.216.34", 8080, {"allow_private": ("10.1.0.0/16",)}),
        ("10.2.2.3", 80, {"allow_private": ("10.1.0.0/16",)}),
        ("10.1.2.3", 80, {"allow_hosts": ("shop.test",)}),
        ("2130706433", 80, {}),
    ],
)
def test_other_networks_and_ports_get_no_socket(text, port, settings):
    with pytest.raises(AddressRefused):
        socket_to(FetchConfig(**settings), (socket.AF_INET, socket.SOCK_STREAM, 0, "", (text, port)))
