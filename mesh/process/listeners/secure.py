"""Accepting on an address with TLS: some connections in a turn of the loop, for a handshake is work.

A handshake takes the node most of a millisecond, and no protocol has a say before it is over: a thousand that are
opened at the same moment would hold the loop for a second. So no more of them begin in one turn than fit into it, and
what they take counts in the turns of the loop (routing/fairness). The others wait in the kernel.
"""
from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from mesh.system.tls import HANDSHAKE_TIMEOUT_S, SHUTDOWN_TIMEOUT_S
from routing.fairness.turns import Share, Turns
from routing.log.fs import SHORTAGE

logger = logging.getLogger(__name__)

BEGUN_MAX: Final = 4                # handshakes that begin in one turn: some 4 ms with all that belongs to them
SHORT_S: Final = 1.0                # after the machine was short of descriptors or memory


class SecureAcceptor(Share):
    """One bound socket. Loop thread only. Stands in the place of an asyncio.Server: close()."""

    __slots__ = ("_context", "_factory", "_is_reading", "_loop", "_sock", "_turns", "_under_way", "_where")

    def __init__(self, sock: socket.socket, factory: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext,
                 turns: Turns, where: str) -> None:
        """sock: bound; it is closed with this. where: for operators."""
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._factory = factory
        self._context = context
        self._turns = turns
        self._where = where
        self._is_reading = False
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        self._sock.setblocking(False)
        self._sock.listen(backlog)
        self._read()

    def close(self) -> None:
        """Nobody else comes. Handshakes under way go on."""
        if self._sock.fileno() >= 0:
            self._stop()
            self._sock.close()

    def describe(self) -> str:
        return f"TLS handshakes of {self._where}"

    def handshake_took(self, seconds: float) -> None:
        """Called for each step of a handshake."""
        self._turns.charge(self, seconds)

    # -- within -----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._sock.fileno(), self._ready)

    def _stop(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _ready(self) -> None:
        if self._turns.admits(self):
            self._accept()
        else:
            self._stop()
            self._turns.queue(self)

    def go_on(self) -> float:
        if self._sock.fileno() >= 0:
            self._accept()
            self._read()
        return 0.0

    def _accept(self) -> None:
        for _ in range(BEGUN_MAX):
            try:
                connection, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in SHORTAGE:
                    raise
                logger.error("%s: nobody is taken in for a second: %s", self._where, error.strerror)
                self._stop()
                self._loop.call_later(SHORT_S, self._after_shortage)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._secure(connection))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    def _after_shortage(self) -> None:
        if self._sock.fileno() >= 0:
            self._read()

    async def _secure(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        except (OSError, EOFError):
            logger.debug("! %s: a handshake came to nothing", self._where)     # counted by handshakes.py
