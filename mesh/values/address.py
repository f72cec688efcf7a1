"""Addresses to bind: "127.0.0.1:1883", "[::1]:1883", "*:1883". Called by checks.py and listener.py."""
from __future__ import annotations

import ipaddress


def parse_bind(text: str) -> tuple[str, int]:
    """(host, port) of a bind address; host is "" for all interfaces. Raises ValueError."""
    host, colon, digits = text.strip().rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()) or int(digits) > 65_535:
        raise ValueError(f"expected HOST:PORT such as 127.0.0.1:1883 or [::1]:1883, got {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"an IPv6 address needs brackets, such as [::1]:1883, got {text!r}")
    if any(character.isspace() or not character.isprintable() for character in host):
        raise ValueError(f"a host name has no spaces, got {text!r}")
    return ("" if host in ("*", "") else host), int(digits)


def is_loopback(host: str) -> bool:
    """True when only programs on this machine can reach the address. "" (all interfaces) is not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
