"""Sockets of links: options that find a dead peer soon, and what a certificate says. Called by transport.py."""
from __future__ import annotations

import socket
from typing import Any

from mesh.link.settings import LinkLimits

UNSENT_BYTES = 128 * 1024       # in the kernel; enough for a round trip's worth of wake-ups


def set_socket_options(sock: socket.socket | None, limits: LinkLimits) -> None:
    """Find a dead peer soon, and keep little in the kernel. What this system does not have is left out."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = [
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1), (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5), (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(limits.stale_after_s * 1000)),
    ]
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            try:
                sock.setsockopt(level, number, value)
            except OSError:
                pass
    try:
        sock.setsockopt(socket.IPPROTO_TCP, 25, UNSENT_BYTES)       # TCP_NOTSENT_LOWAT of Linux
    except OSError:
        pass


def common_name(certificate: dict[str, Any]) -> str | None:
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return None
