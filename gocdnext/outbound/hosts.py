"""Which addresses are inside, and lists of hosts as operators write them. Pure: resolves no names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, Self

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER_OUTSIDE: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure answers virtual machines about themselves here, and the address is a public one
            "192.0.0.0/24",  # the like of another cloud; Python 3.11 counts only parts of it as special
            "100.64.0.0/10",
            "fec0::/10",  # site-local: withdrawn, still routed by some
        ),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")


def is_outside(address: Address) -> bool:
    """Whether an address belongs to the public internet: not this machine, its link, a private network or a cloud's metadata.

    An IPv6 address that stands for an IPv4 address is judged as that one.
    """
    inner = _meant(address)
    if inner is not None:
        return is_outside(inner)
    if any(address in network for network in _NEVER_OUTSIDE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _meant(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 address carries, where a gateway would send its packets on to it."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64_LOCAL:
        return ipaddress.IPv4Address(0)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


@dataclass(frozen=True, slots=True)
class Hosts:
    """A list of host names, domains (`.example.org` or `*.example.org`), addresses and networks; `*` is everything."""

    names: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    everything: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """The list that a text with commas (or blanks) between the entries means. Raises ValueError with the bad entry."""
        names, domains, networks, everything = set[str](), list[str](), list[Network](), False
        for entry in text.replace(",", " ").lower().split():
            if entry == "*":
                everything = True
            elif network := _network(entry):
                networks.append(network)
            elif "/" in entry or ":" in entry or "*" in entry.removeprefix("*."):
                raise ValueError(entry)
            elif entry.startswith(("*.", ".")):
                domains.append("." + entry.lstrip("*."))
            else:
                names.add(entry)
        return cls(frozenset(names), tuple(domains), tuple(networks), everything)

    def has_name(self, host: str) -> bool:
        """Whether the list names a host, or says everything. `host` may be an address in text."""
        host = host.lower().rstrip(".").strip("[]")
        if self.everything or host in self.names or any(host.endswith(domain) for domain in self.domains):
            return True
        try:
            return self.has_address(ipaddress.ip_address(host))
        except ValueError:
            return False

    def has_address(self, address: Address) -> bool:
        """Whether an address lies in one of the networks, also when it comes dressed as IPv6."""
        inner = _meant(address)
        return any(address in network or (inner is not None and inner in network) for network in self.networks)


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None
