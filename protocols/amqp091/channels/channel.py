"""A channel: its parts, and its end. What its frames do stands in methods/dispatch.py.

    OPEN ── soft error: channel.close ──► CLOSING ── close-ok ──► gone          Source: AMQP 0-9-1 §1.5, §4.2.6
      └──── channel.close of the client: close-ok ──────────────► gone

While it closes everything but close-ok and close is ignored: publishes and acks that were on the way do no harm.
"""
from __future__ import annotations

from collections.abc import Callable

from protocols.amqp091.channels.asker import Asker
from protocols.amqp091.channels.confirms import Confirms
from protocols.amqp091.channels.content import Assembly
from protocols.amqp091.channels.getter import Getter
from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.channels.publishing import Publishing
from protocols.amqp091.channels.transaction import Transaction
from protocols.amqp091.channels.window import Window
from protocols.amqp091.codec.methods import Method
from routing.rights.policy import Identity


class Channel:
    """See the module's head. Loop thread only."""

    __slots__ = ("_forget", "asker", "assembly", "confirms", "getters", "last_queue", "line", "number", "peer",
                 "publishing", "transaction", "window")

    def __init__(self, peer: Peer, publishing: Publishing, number: int, forget: Callable[[int], object]) -> None:
        """forget: its number may be opened again."""
        self.peer = peer
        self.publishing = publishing
        self.number = number
        self._forget = forget
        self.line = Line(peer, number)
        self.window = Window(self.line)
        self.confirms = Confirms(self.line)
        self.assembly = Assembly(peer)
        self.getters: dict[str, Getter] = {}            # by queue
        self.last_queue = ""                            # declared last: what an empty name means
        self.transaction: Transaction | None = None
        self.asker: Asker | None = None                 # direct reply-to

    @property
    def identity(self) -> Identity:
        return self.peer.identity

    @property
    def closing(self) -> bool:
        return self.line.closing

    def send(self, method: Method) -> None:
        self.peer.send(self.number, method)

    def take_identity(self, identity: Identity) -> None:
        for holder in self.window.holders.values():
            holder.identity = identity
        for getter in self.getters.values():
            getter.identity = identity

    def close(self) -> None:
        """What it holds goes back to its queues, in order. Idempotent."""
        self.assembly.close()
        self.line.closing = True
        self.transaction = None
        if self.peer.acks:
            self.peer.flush_acks()
        getters, self.getters = self.getters, {}
        self.window.close()
        for getter in getters.values():
            getter.end()
        if self.asker is not None:
            self.asker.close()
            self.asker = None

    def leave(self) -> None:
        """Both sides have closed it."""
        self.close()
        self._forget(self.number)
