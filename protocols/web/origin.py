"""Which web pages may talk to a listener: browsers let any page send requests to any address, this machine included.

Used by the HTTP and WebSocket listeners. A page elsewhere shows itself by its Origin (RFC 6454); one that had its own
name resolve to our address (DNS rebinding) shows itself by the Host that it asks for.
"""
from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def origin_allowed(origin: str, host: str, allowed: tuple[str, ...]) -> bool:
    """True for our own host and for what the configuration lists. Browsers send Origin, other clients mostly do not."""
    if "*" in allowed or origin in allowed:
        return True
    own = _authority(f"//{host}")
    theirs = _authority(origin)
    if own is None or theirs is None or origin.lower() == "null":
        return False
    port = _DEFAULT_PORTS.get(urlsplit(origin).scheme)
    return theirs[0] == own[0] and (theirs[1] or port) == (own[1] or port)


def _authority(url: str) -> tuple[str, int | None] | None:
    try:
        parts = urlsplit(url)
        return (parts.hostname, parts.port) if parts.hostname else None
    except ValueError:
        return None


@lru_cache(maxsize=256)
def names_this_machine(host: str) -> bool:
    """True when a Host header is localhost or a loopback address. Without users a node trusts only such requests."""
    authority = _authority(f"//{host}")
    if authority is None:
        return False
    name = authority[0].rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):                  # RFC 6761 §6.3
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
