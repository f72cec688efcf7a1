"""What of a channel is delivered and not acked, and how much more the channel takes.

Delivery tags are the channel's; a prefetch may be that of one holder (a consumer) or of all together.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from itertools import takewhile

import msgspec

from protocols.amqp091.channels.line import Line
from protocols.amqp091.codec.codes import PRECONDITION_FAILED, SoftError
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.streamqueue import StreamReading
from routing.cursors.delivery import Delivery
from routing.rights.policy import Identity


class Holder(ABC):
    """A consumer of the channel, as its window sees it."""

    __slots__ = ("identity", "prefetch")

    identity: Identity
    prefetch: int

    @abstractmethod
    def refresh(self) -> None:
        """Room has changed: credit anew."""

    @abstractmethod
    def settled(self, count: int) -> None:
        """So many of its deliveries are acked, or have gone back."""

    @abstractmethod
    def cancel(self) -> None:
        """The client wants no more of it."""

    @abstractmethod
    def end(self) -> None:
        """The channel is gone."""


class Unacked(msgspec.Struct, gc=False):
    """A delivery that waits for an ack. holder: whose prefetch it counts to, None for basic.get."""

    queue: Queue | StreamReading
    delivery: Delivery
    holder: Holder | None


class Window:
    """See the module's head."""

    __slots__ = ("_line", "cancelled", "holders", "prefetch", "prefetch_all", "stopped", "tag", "unacked", "waits")

    def __init__(self, line: Line) -> None:
        self._line = line
        self.tag = 0                            # of the newest delivery
        self.unacked: OrderedDict[int, Unacked] = OrderedDict()
        self.holders: dict[str, Holder] = {}    # by consumer tag
        self.cancelled: dict[Holder, None] = {} # that still hold something
        self.prefetch = 0                       # of each holder that comes, 0: no limit
        self.prefetch_all = 0                   # of all of them together
        self.stopped = False                    # by channel.flow
        self.waits = False                      # for deliveries that go back: what is behind them comes after them

    def room(self) -> int:
        """Deliveries that the channel takes now, whoever's they are."""
        peer = self._line.peer
        if peer.paused or self._line.closing or self.stopped or self.waits:
            return 0
        room = peer.broker.settings.unacked_max - len(self.unacked)
        if self.prefetch_all:
            room = min(room, self.prefetch_all - len(self.unacked))
        return max(room, 0)

    def refresh(self) -> None:
        for holder in self.holders.values():
            holder.refresh()

    def next_tag(self) -> int:
        self.tag += 1
        return self.tag

    def meant(self, tag: int, multiple: bool, method: tuple[int, int]) -> list[int]:
        """The tags that an answer is about. Raises SoftError 406 when there are none.

        method: class and method of the answer.
        """
        if not multiple:
            if tag not in self.unacked:
                raise unknown(tag, method)
            return [tag]
        if tag == 0:
            return list(self.unacked)
        self.check_multiple(tag, method)
        return list(takewhile(lambda one: one <= tag, self.unacked))

    def check_multiple(self, tag: int, method: tuple[int, int]) -> None:
        """Raises SoftError 406: no delivery up to this tag is unacked."""
        if tag and (not self.unacked or tag > self.tag or next(iter(self.unacked)) > tag):
            raise unknown(tag, method)

    def take_up_to(self, tag: int) -> Iterator[Unacked]:
        """One at a time. Others may come meanwhile, with higher tags."""
        unacked = self.unacked
        while unacked and next(iter(unacked)) <= tag:
            yield unacked.popitem(last=False)[1]

    def close(self) -> None:
        """What it holds goes back to its queues, in order."""
        holders, self.holders = self.holders, {}
        gone, self.cancelled = self.cancelled, {}
        self.unacked.clear()
        for holder in (*holders.values(), *gone):
            holder.end()


def unknown(tag: int, method: tuple[int, int]) -> SoftError:
    return SoftError(PRECONDITION_FAILED, f"unknown delivery tag {tag}", method)
