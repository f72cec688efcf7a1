"""The event loop of a node: uvloop, where it is installed, with one hole closed.

uvloop's create_connection(sock=…) gives the file descriptor to libuv, but lets the Python socket know only after
connection_made(). A peer that resets the connection at once makes libuv close the descriptor before that; the Python
socket still has its number, and closes it again when it is collected, by which time it may belong to a client or to a
segment of the log. Seen with uvloop 0.23 in one of sixty such connections on loopback; issues 645 and 738 there are
the same hole for a connection that is cancelled. Links and webhooks both come this way.
"""
from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop when it is there: half the time per read and write."""
    try:
        import uvloop
    except ImportError:
        logger.warning("uvloop is not installed; the node works, at about half the speed")
        return asyncio.new_event_loop

    class Loop(uvloop.Loop):
        """See the module's head."""

        async def create_connection(self, *args: Any, **options: Any) -> Any:
            """A socket that is given (sock) belongs to libuv from here on, whatever comes of the connection."""
            sock: socket.socket | None = options.get("sock")
            try:
                return await super().create_connection(*args, **options)
            finally:
                if sock is not None:
                    sock.detach()

    return Loop
