"""Free loopback ports below the ephemeral range, so that no outgoing connection takes one while a server restarts."""
from __future__ import annotations

import random
import socket

_FIRST, _LAST = 12_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that this process has not given out before."""
    for _ in range(1000):
        port = random.randrange(_FIRST, _LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port")
