"""Which addresses an account may point at: the guard against requests to our own network (SSRF).

Source: the security list, "SSRF"; the bad inputs, B36 and B51.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.core.errors import ConfigurationError

__all__ = ["PUBLIC_ONLY", "AddressPolicy", "IpAddress", "read_address", "url_problem"]

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Public addresses, and the listed private ones: ``hosts`` by name (any address behind them), ``networks``."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AddressPolicy:
        """Read entries like ``localhost``, ``10.0.0.0/8`` or ``::1``.

        Raises:
            ConfigurationError: an entry with a slash is no network.
        """
        hosts: set[str] = set()
        networks: list[_Network] = []
        for entry in (entry.strip().lower() for entry in entries):
            if not entry:
                continue
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError as error:
                if "/" in entry:
                    raise ConfigurationError(
                        f"{entry!r} is neither a host name nor a network such as 10.0.0.0/8"
                    ) from error
                hosts.add(entry.rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def allows(self, address: IpAddress, host: str = "") -> bool:
        """Whether a connection to this address may be made; ``host`` is the name that led to it."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        address = _unwrap(address)
        if any(address in network for network in self.networks if network.version == address.version):
            return True
        return address.is_global and not (
            address.is_multicast or address.is_reserved or address.is_unspecified
        )

    def allows_host(self, host: str) -> bool:
        """Whether a host may stand in an account's URL, as far as can be told without looking it up."""
        address = read_address(host)
        if address is not None:
            return self.allows(address, host)
        name = host.lower().rstrip(".")
        is_local = name == "localhost" or "." not in name or name.endswith(_PRIVATE_SUFFIXES)
        if not is_local or name in self.hosts:
            return True
        if name == "localhost":
            return self.allows(ipaddress.IPv4Address("127.0.0.1"))
        # Where private networks are allowed, only looking the name up can tell.
        return bool(self.networks)


PUBLIC_ONLY = AddressPolicy()
"""Nothing private."""


def read_address(host: str) -> IpAddress | None:
    """Return the address that a URL's host spells out; None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def url_problem(url: str, policy: AddressPolicy = PUBLIC_ONLY) -> str | None:
    """Return what is wrong with a URL that we are to call; None when nothing is."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that a URL can't have"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    return _scheme_problem(parts, host, port) or (
        None if policy.allows_host(host or "") else "points into a private network"
    )


def _scheme_problem(parts: SplitResult, host: str | None, port: int | None) -> str | None:
    if parts.scheme not in ("http", "https"):
        return "must begin with https:// or http://"
    if not host or port == 0:
        return "names no host"
    if "@" in parts.netloc:
        return "must not carry a user name or password"
    if parts.fragment:
        return "must not have a fragment"
    # Spellings of addresses that the operating system would accept and we can't judge, such as 127.1 or 0x7f000001.
    last = host.rstrip(".").rpartition(".")[2]
    if read_address(host) is None and (last.isdigit() or last.lower().startswith("0x")):
        return "writes its address in an unusual way"
    return None


def _unwrap(address: IpAddress) -> IpAddress:
    """Return the IPv4 address inside an IPv6 one that leads to it (v4-mapped, 6to4, NAT64)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return inner
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
