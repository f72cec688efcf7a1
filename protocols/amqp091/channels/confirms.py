"""Publisher confirms of one channel: which of its messages are answered. Source: RabbitMQ, Publisher Confirms."""
from __future__ import annotations

from protocols.amqp091.channels.line import Line
from protocols.amqp091.codec import frames

ACK, NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"


class Confirms:
    __slots__ = ("confirmed", "line", "on", "published")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.on = False             # confirm.select has come
        self.published = 0          # the newest publish's tag
        self.confirmed = 0          # the newest that was answered

    def next_tag(self) -> int:
        """Of a message that has come; 0 when no confirm is owed."""
        if not self.on:
            return 0
        self.published += 1
        return self.published

    def skip(self, count: int) -> int:
        """Of the last of so many messages that have come; 0 when no confirm is owed."""
        if not self.on:
            return 0
        self.published += count
        return self.published

    def ack(self, tag: int) -> bytes:
        """The frame that says so of everything up to tag; none on a channel that closes."""
        multiple = tag != self.confirmed + 1
        self.confirmed = tag
        return self._frame(ACK, tag, multiple)

    def nack(self, tag: int) -> bytes:
        """Of this one alone. Everything before it was answered."""
        self.confirmed = tag
        return self._frame(NACK, tag, False)

    def _frame(self, method: bytes, tag: int, multiple: bool) -> bytes:
        if self.line.closing:
            return b""
        return frames.method_frame(
            self.line.number, method + tag.to_bytes(8, "big") + (b"\x01" if multiple else b"\x00"))
