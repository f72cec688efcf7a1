"""The part of an address that stands for one client: for lock-outs and rate limits. No I/O.

IPv6 addresses count by their /64, because one client owns all of it.
"""
from __future__ import annotations

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=4_096)
def network_of_host(host: str) -> str:
    """host: an address without its port; anything else stands for itself."""
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return host


def network_of(address: str) -> str:
    """address: "host:port" or "[v6]:port"."""
    return network_of_host(address.rpartition(":")[0].strip("[]") or address)
