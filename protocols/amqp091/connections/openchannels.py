"""The channels of one connection that are open or closing."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.amqp091.channels.channel import Channel
from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.channels.publishing import Publishing
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import HardError
from protocols.amqp091.codec.methods import ChannelClose, ChannelCloseOk, ChannelOpen, ChannelOpenOk, Method
from routing.rights.policy import Identity


class OpenChannels:
    """maximum: the highest number, as agreed."""

    __slots__ = ("_by_number", "_peer", "get", "maximum")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._by_number: dict[int, Channel] = {}
        self.get = self._by_number.get
        self.maximum = 0

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._by_number.values())

    def open(self, number: int, method: Method, publishing: Publishing) -> None:
        """A method on a number that is not open. Raises HardError: it does not open it, or there are too many."""
        if isinstance(method, ChannelClose):                        # of one that has gone: harmless
            self._peer.send(number, ChannelCloseOk())
        elif isinstance(method, ChannelCloseOk):
            return
        elif not isinstance(method, ChannelOpen):
            raise HardError(codes.CHANNEL_ERROR, "expected 'channel.open'", method.id)
        elif number > self.maximum:
            raise HardError(codes.NOT_ALLOWED, f"number of channels opened ({number}) has reached the "
                            f"negotiated channel_max ({self.maximum})", ChannelOpen.id)
        else:
            self._by_number[number] = Channel(self._peer, publishing, number, self._forget)
            self._peer.send(number, ChannelOpenOk())

    def _forget(self, number: int) -> None:
        self._by_number.pop(number, None)

    def take_identity(self, identity: Identity) -> None:
        for channel in self:
            channel.take_identity(identity)

    def refresh(self) -> None:
        """The socket takes more, or no more."""
        for channel in self:
            channel.window.refresh()

    def close(self) -> None:
        channels = list(self)
        self._by_number.clear()
        for channel in channels:
            channel.close()

    def counts(self) -> tuple[int, int]:
        """(consumers, deliveries that are not acked)"""
        return sum(len(one.window.holders) for one in self), sum(len(one.window.unacked) for one in self)
