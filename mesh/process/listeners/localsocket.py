"""The Unix socket beside the console listener: who runs the node needs no password. See mesh/management/doors/local.py.

The log's lock is held when it is opened, so a file that is left there belongs to a node that died. A data directory
with a path longer than an address may be (108 bytes, unix(7)) is reached through /proc/self/fd.
"""
from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

from mesh.management.doors.local import may_come_in, peer_of

logger = logging.getLogger(__name__)

NAME = "management.sock"
BACKLOG = 64


class LocalSocket:
    """open() → stop()."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._server: asyncio.AbstractServer | None = None

    async def open(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """A file system without sockets costs this door only: it is logged, and the node goes on."""
        try:
            sock = self._bind()
        except OSError as error:
            logger.warning("%s: %s; who runs this node logs in as everybody does", self.path, error.strerror or error)
            return
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Door(factory), sock=sock, backlog=BACKLOG)

    def _bind(self) -> socket.socket:
        self.path.unlink(missing_ok=True)
        folder = os.open(self.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)            # 0600 from its first moment
        try:
            sock.setblocking(False)
            sock.bind(f"/proc/self/fd/{folder}/{NAME}")
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
            os.close(folder)
        return sock

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)


class _Door(asyncio.Protocol):
    """Asks the kernel who it is before the first byte is read, then hands the connection over."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._factory = factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "set_protocol") and hasattr(transport, "abort")
        peer = peer_of(transport.get_extra_info("socket"))
        if peer is None or not may_come_in(peer[1]):
            logger.warning("user %s knocked at the local socket and was refused", peer[1] if peer else "?")
            transport.abort()
            return
        protocol = self._factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
