"""Which addresses lie outside: for gateways whose URL comes from somebody who must not reach inside (``Gateway.block_private``)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressNotAllowedError(ValueError):
    """A host has an address that is not a public one. Which one is not told: the caller may be the one who must not know."""

    def __init__(self) -> None:
        super().__init__("address not allowed")


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# The registries of special-purpose addresses (RFC 6890 and what came after). Not ipaddress.is_global: what that says differs
# between versions of Python, and it does not know all of these.
_NOT_PUBLIC = _networks(
    "0.0.0.0/8",  # this host: on Linux a connection to 0.0.0.0 reaches 127.0.0.1
    "10.0.0.0/8",
    "100.64.0.0/10",  # behind a carrier's NAT; metadata of Alibaba Cloud
    "127.0.0.0/8",
    "168.63.129.16/32",  # a public address, but Azure's own services within every virtual machine
    "169.254.0.0/16",  # link-local; metadata of most clouds
    "172.16.0.0/12",
    "192.0.0.0/24",  # protocol assignments; metadata of Oracle Cloud
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # relays of 6to4
    "192.168.0.0/16",
    "198.18.0.0/15",  # benchmarks
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "2001::/23",  # protocol assignments, Teredo among them
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4: an IPv4 address in disguise
    "3fff::/20",  # documentation
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""The only part of IPv6 that is routed everywhere: what is private, local or for one link lies outside of it."""
_CARRYING_IPV4 = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))
"""IPv4 written as IPv6: mapped, and translated by a network that has no IPv4."""


def is_public(text: str) -> bool:
    """Whether an address, as a resolver gives it, is one of the public internet. What cannot be read is not."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _CARRYING_IPV4):
            address = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        elif address not in _GLOBAL_UNICAST or address.scope_id is not None:
            return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def check_public(addresses: Iterable[str]) -> None:
    """Raises AddressNotAllowedError when one of a host's addresses is not public: such a host is trusted with none of them."""
    if not all(is_public(each) for each in addresses):
        raise AddressNotAllowedError
