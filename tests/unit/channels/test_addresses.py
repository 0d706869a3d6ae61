"""Which addresses may be called."""

import ipaddress

import pytest

from app.channels.addresses import PUBLIC_ONLY, AddressPolicy
from app.core.errors import ConfigurationError


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.1.1",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
    ],
)
def test_private_and_special_addresses_are_refused(address: str):
    assert PUBLIC_ONLY.allows(ipaddress.ip_address(address)) is False


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "223.5.5.5", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_allowed(address: str):
    assert PUBLIC_ONLY.allows(ipaddress.ip_address(address)) is True


def test_a_listed_network_is_allowed_also_inside_v6():
    policy = AddressPolicy.parse(["10.0.0.0/8"])
    assert policy.allows(ipaddress.ip_address("10.9.9.9"))
    assert policy.allows(ipaddress.ip_address("::ffff:10.9.9.9"))
    assert not policy.allows(ipaddress.ip_address("192.168.0.1"))


def test_a_listed_name_is_allowed_wherever_it_leads():
    policy = AddressPolicy.parse([" Relay.internal. ", ""])
    assert policy.allows(ipaddress.ip_address("192.168.0.1"), "relay.internal")
    assert not policy.allows(ipaddress.ip_address("192.168.0.1"), "other.internal")


def test_where_networks_are_listed_a_short_name_may_be_tried():
    assert AddressPolicy.parse(["10.0.0.0/8"]).allows_host("receiver")
    assert not PUBLIC_ONLY.allows_host("receiver")
    assert not AddressPolicy.parse(["10.0.0.0/8"]).allows_host("localhost")


def test_a_wrong_entry_is_refused():
    with pytest.raises(ConfigurationError):
        AddressPolicy.parse(["10.0.0.0/99"])
