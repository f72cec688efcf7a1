"""Reader: a share session as a member of its group's Consumer. Takes deliveries while a fetch waits, and no others."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.consumers.leases import give_back
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Delivery
    from routing.log.partition import Partition


class Reader:
    """Loop thread only. A Member of routing/consumers/consumer.py."""

    __slots__ = ("_taken", "_wake", "consumer", "credit", "identity")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.credit = 0
        self.consumer: Consumer | None = None           # None: it is none of its members (any more)
        self._taken: list[Delivery] = []
        self._wake: Callable[[], None] | None = None

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self._taken += deliveries
        self._woken()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self.consumer = None
        self._woken()

    def _woken(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def begin(self, count: int, wake: Callable[[], None]) -> None:
        """Take up to so many. wake is called once, when the first of them are there or none can come; never at once."""
        self.credit, self._wake = count, wake
        if self.consumer is not None:
            self.consumer.ready(self)

    def end(self) -> list[Delivery]:
        """Take no more. Returns what has come."""
        self.credit, self._wake = 0, None
        taken, self._taken = self._taken, []
        return taken

    def held(self) -> list[Delivery]:
        """Everything that it has and has not answered. Cost: what is in flight in the group."""
        if self.consumer is None:
            return []
        return [delivery for cursor in self.consumer.cursors.values() for delivery in cursor.in_flight.values()
                if delivery.member is self]

    def limit(self, partitions: set[Partition]) -> None:
        """From now on it takes from these only."""
        if self.consumer is not None:
            self.consumer.members.limit(self, partitions)

    def leave(self, *, in_peace: bool) -> None:
        """in_peace: what it holds counts as never handed out; else as an attempt, or who dies of a record would take it
        again for ever.
        """
        consumer = self.consumer
        self.end()
        if consumer is None:
            return
        if in_peace:
            give_back(consumer, self.held())
        self.consumer = None
        consumer.detach(self)
