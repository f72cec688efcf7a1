"""Outgoing: the way out of one connection. What is written while it is corked goes out together.

Answers to deliveries wait with their session until a batch is over, so that one disposition says many.
"""
from __future__ import annotations

from typing import Protocol

from protocols.amqp.codec.composite import Composite, encode_composite
from protocols.transport.wire import ByteChannel


class Answers(Protocol):
    """A session."""

    def flush_answers(self) -> None: ...


class Counts(Protocol):
    def count(self, name: str, number: int = 1) -> None: ...


class Outgoing:
    """What a Connection is in this respect: a base class, as every frame goes through it."""

    __slots__ = ("_answering", "_corked", "_counts", "_out", "_paused", "_wrote", "channel", "closed", "full")

    def __init__(self, channel: ByteChannel, counts: Counts, *, full: bool) -> None:
        """full: what is said has all its fields, for clients that count on them."""
        self.channel = channel
        self.full = full
        self.closed = False
        self._counts = counts
        self._out: list[bytes] = []
        self._corked = 0
        self._answering: dict[Answers, None] = {}
        self._paused = False
        self._wrote = False                             # since somebody has looked

    @property
    def paused(self) -> bool:
        return self._paused

    def cork(self) -> None:
        """What is written goes out together, at the last uncork()."""
        self._corked += 1

    def uncork(self) -> None:
        self._corked -= 1
        if not self._corked:
            self.send_out()

    def send_out(self) -> None:
        """What is held back by a cork goes now."""
        out = self._out
        if out:
            self._out = []
            data = out[0] if len(out) == 1 else b"".join(out)
            self._wrote = True
            self._counts.count("bytes_out", len(data))
            self.channel.write(data)

    def write(self, data: bytes) -> None:
        """Whole frames, or a header. Nothing once it is closed."""
        if not self.closed:
            self._out.append(data)
            if not self._corked:
                self.send_out()

    def write_frame(self, channel: int, body: bytes) -> None:
        """body: a performative and what follows it."""
        if not self.closed:
            self._out.append(b"".join((
                (len(body) + 8).to_bytes(4, "big"), b"\x02\x00", channel.to_bytes(2, "big"), body)))
            if not self._corked:
                self.send_out()

    def write_frames(self, frames: list[bytes]) -> None:
        """Parts of whole frames."""
        if not self.closed:
            self._out += frames
            if not self._corked:
                self.send_out()

    def say(self, channel: int, performative: Composite) -> None:
        self.write_frame(channel, encode_composite(performative, full=self.full))

    def answers_wait(self, session: Answers) -> None:
        self._answering[session] = None

    def flush_answers(self) -> None:
        """Say what has become of deliveries. Called at the end of a batch."""
        if self._answering:
            answering, self._answering = self._answering, {}
            self.cork()
            for session in answering:
                session.flush_answers()
            self.uncork()

    def pause_writing(self) -> None:
        self._paused = True
