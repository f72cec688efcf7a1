"""Bound addresses: sockets, TLS, new certificates while running. Knows no protocol; node.py gives the factories.

A listener binds its socket once and keeps it. New certificates mean a second asyncio server on a duplicate of the same
socket and the end of the first one: connections stay, and no client is turned away in between.
"""
from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable

from mesh.configuration.settings import ListenerSettings
from mesh.process.listeners.handshakes import Handshakes
from mesh.process.listeners.secure import SecureAcceptor
from mesh.values.address import format_address, is_loopback, parse_bind
from mesh.values.tls import TlsSettings
from routing.errors import ConfigError
from routing.fairness.turns import Turns

logger = logging.getLogger(__name__)

BACKLOG = 4_096         # a storm of 5,000 connections in 10 s must not see refused ones (net.core.somaxconn permitting)


class _Refused(asyncio.Protocol):
    """The connection that was one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "abort")
        logger.warning("a connection was refused: the limit of open files is near")
        transport.abort()


class Listener:
    """One address of one protocol. bind() → open() → reload() … → stop()."""

    def __init__(
        self, protocol: str, settings: ListenerSettings, *, anonymous: bool,
        may_accept: Callable[[], bool] = lambda: True, path: str = "",
    ) -> None:
        """path: where its settings stand in the file, for messages.

        anonymous: nobody has to log in, so the address must turn out to be loopback.
        may_accept: asked once per connection; where it says no, the connection is closed at once.
        """
        self._may_accept = may_accept
        self._path = path or f"listeners.{protocol}"
        self.protocol = protocol
        self.settings = settings
        self._anonymous = anonymous
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.AbstractServer | SecureAcceptor] = []
        self._turns: Turns | None = None
        self._factory: Callable[[], asyncio.BaseProtocol] | None = None
        self.handshakes = Handshakes(f"listener {protocol} ({settings.bind})")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens, with real ports."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    @property
    def secure(self) -> bool:
        return self.settings.tls is not None

    @property
    def texts(self) -> list[str]:
        return [format_address(host, port) for host, port in self.addresses]

    def bind(self) -> None:
        """Take the address, before the log is opened, so that a second node fails early. Raises ConfigError."""
        host, port = parse_bind(self.settings.bind)
        try:
            found = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise ConfigError(f"{self._path}.bind: {host}: {error.strerror}") from error
        for family, _, _, _, address in sorted(set(found), key=lambda entry: entry[0] != socket.AF_INET):
            if self._anonymous and self.settings.tls is None and not is_loopback(str(address[0])):
                raise ConfigError(
                    f"{self._path}.bind: {host} is {address[0]}, which other machines can reach")
            if port == 0 and self._sockets:
                break                       # a free port is free in one family only
            self._bind_one(family, address)
        if not self._sockets:
            raise ConfigError(f"{self._path}.bind: this machine has no {self.settings.bind}")

    def _bind_one(self, family: int, address: tuple[object, ...]) -> None:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:       # IPv6 is switched off
                return
            raise
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)      # the TIME_WAIT of the node before
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address)
            sock.listen(1)      # bind alone does not keep a second node out; open() raises the backlog
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRNOTAVAIL and self._sockets:
                return
            raise ConfigError(self._bind_problem(error, address)) from error
        self._sockets.append(sock)

    def _bind_problem(self, error: OSError, address: tuple[object, ...]) -> str:
        where = format_address(str(address[0]), int(str(address[1])))
        hint = {
            errno.EADDRINUSE: "another program listens there; stop it or choose another port",
            errno.EACCES: "not allowed; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        }.get(error.errno or 0, os.strerror(error.errno or 0))
        return f"{self._path}.bind: {where}: {hint}"

    async def open(self, factory: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None,
                   turns: Turns) -> None:
        """Accept connections; factory makes the protocol object of each. context: TLS, made from the settings.

        turns: of the loop, in which handshakes count.
        """
        self._turns = turns
        self._factory = lambda: factory() if self._may_accept() else _Refused()
        self._servers = await self._serve(context)

    async def _serve(self, context: ssl.SSLContext | None) -> list[asyncio.AbstractServer | SecureAcceptor]:
        assert self._factory is not None and self._turns is not None
        loop = asyncio.get_running_loop()
        servers: list[asyncio.AbstractServer | SecureAcceptor] = []
        for sock in self._sockets:
            copy = sock.dup()
            copy.setblocking(False)
            if context is None:
                servers.append(await loop.create_server(self._factory, sock=copy, backlog=BACKLOG))
                continue
            acceptor = SecureAcceptor(copy, self._factory, context, self._turns, self.handshakes.where)
            self.handshakes.watch(context, acceptor.handshake_took)
            acceptor.start(BACKLOG)
            servers.append(acceptor)
        return servers

    async def reload(self, tls: TlsSettings | None, context: ssl.SSLContext | None) -> None:
        """Use new certificates for new connections. The caller has made the context, so this cannot fail half way."""
        before, self._servers = self._servers, await self._serve(context)
        for server in before:
            server.close()
        if tls != self.settings.tls:
            self.settings = ListenerSettings(self.settings.bind, tls, self.settings.insecure)

    def stop(self) -> None:
        """Accept nothing more. Open connections are the protocol's business."""
        for server in self._servers:
            server.close()
        self._servers = []
        for sock in self._sockets:
            sock.close()
        self._sockets = []
