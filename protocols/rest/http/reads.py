"""What a client of the HTTP listener sends, in slices (transport/slices.py): the parser never holds the loop for long.

A read may bring 256 KiB: that is some ten thousand requests that are nothing, or forty thousand chunks of one byte.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocols.transport.slices import Slices
from routing.fairness.turns import Turns


class Reads(Slices):
    """Of one connection. aiohttp holds it, too, while a body or the queue of requests is full."""

    __slots__ = ("_begin_next", "_begins", "_parse", "transport")

    def __init__(self, turns: Turns, parse: Callable[[bytes], None], begin_next: Callable[[], None]) -> None:
        """parse: takes one slice.  begin_next: the turn has room for the request that waits."""
        super().__init__(turns)
        self.transport: asyncio.Transport | None = None     # while there is one
        self._parse = parse
        self._begin_next = begin_next
        self._begins = False            # a request waits for its turn

    def begin(self) -> None:
        """There is a request, and the one before it is done."""
        if self._turns.admits(self):
            self._begin()
        else:
            self._begins = True
            self._turns.queue(self)

    def _begin(self) -> None:
        turns = self._turns
        start_s, start_cpu_s = turns.clock_s(), turns.asked_cpu_s
        self._begin_next()
        turns.charge(self, turns.used_s(start_s, start_cpu_s))

    def go_on(self) -> float:
        if self._begins:
            self._begins = False
            self._begin()
        return super().go_on()

    def _deliver(self, data: bytes) -> None:
        self._parse(data)

    def _stop_stream(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def _start_stream(self) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def buffered_bytes(self) -> int:
        transport = self.transport
        return transport.get_write_buffer_size() if transport is not None else 0
