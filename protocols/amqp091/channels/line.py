"""A channel's number, and whether it is closing: all that its parts know of it."""
from __future__ import annotations

from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec.methods import Method


class Line:
    __slots__ = ("closing", "number", "peer")

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.closing = False                # channel.close is out, or the channel has ended

    def send(self, method: Method) -> None:
        self.peer.send(self.number, method)
