"""Events that no stream captures, for a consumer that answers for them: in memory, in order, until they are acked.

    offer ──► waiting ── a member has credit ──► in flight ── acked ──► gone
                 ▲                                   │ member gone
                 └─── in front, attempts raised ◄────┘

There is no log behind it, so it is bounded (Limits.untracked_bytes_max, and the account of its user): beyond that new
events are lost, and counted. It does not outlive the node. Made by Consumer.keep_untracked(), which MQTT sessions
call; any other consumer gets such events at most once, from the members it has.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol

from routing.consumers.definition.members import Members, R
from routing.cursors.cursor import Delivery
from routing.event import Event, event_size_bytes
from routing.fairness.accounts import Account

PUMP_EVENTS = 512       # handed out in one turn


class Giver(Protocol[R]):
    """The consumer."""

    members: Members[R]
    account: Account
    in_flight_bytes: int

    def hold(self, count: int, size: int) -> None: ...
    def hand_untracked(self, member: R, deliveries: list[Delivery]) -> None: ...
    def ready(self) -> None: ...


class Untracked(Generic[R]):
    __slots__ = ("_consumer", "_in_flight", "_waiting", "bytes")

    def __init__(self, consumer: Giver[R]) -> None:
        self._consumer = consumer
        self._waiting: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}       # by the identity of their events
        self.bytes = 0                                  # of all of them

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def offer(self, events: Iterable[Event], bytes_max: int, next_place: Callable[[], int]) -> int:
        """Take what there is room for; QoS 0 only while somebody is there. Returns how many were lost."""
        consumer = self._consumer
        lost = 0
        for event in events:
            size = event_size_bytes(event)
            if ((not event.guaranteed and not consumer.members.all) or self.bytes + size > bytes_max
                    or consumer.account.room(consumer, size) < size):
                lost += 1
                continue
            if event.offset == -1:                      # what a session notes of one in flight needs a place for it
                event.offset = next_place()
            self._hold(size)
            self._waiting.append(Delivery(event))
        return lost

    def _hold(self, size: int) -> None:
        self.bytes += size
        self._consumer.hold(0, size)

    def pump(self) -> None:
        """Hand out while somebody has credit."""
        consumer, waiting = self._consumer, self._waiting
        budget = PUMP_EVENTS
        while waiting and budget > 0:
            member = consumer.members.next()
            if member is None:
                return
            count = min(consumer.members.share(len(waiting)), member.credit, budget)
            deliveries = [waiting.popleft() for _ in range(count)]
            for delivery in deliveries:
                delivery.member = member
                self._in_flight[id(delivery.event)] = delivery
            budget -= count
            consumer.hand_untracked(member, deliveries)
        if waiting:
            consumer.ready()

    def ack(self, event: Event) -> bool:
        """False: it was not in flight."""
        if self._in_flight.pop(id(event), None) is None:
            return False
        self._hold(-event_size_bytes(event))
        return True

    def take_back(self, member: R) -> None:
        """The member is gone: what it holds is delivered again, before anything newer."""
        mine = [delivery for delivery in self._in_flight.values() if delivery.member is member]
        for delivery in mine:
            del self._in_flight[id(delivery.event)]
        self._waiting.extendleft(Delivery(delivery.event, delivery.attempts + 1) for delivery in reversed(mine))

    def drop(self, unwanted: Callable[[Event], bool]) -> None:
        """Forget what has not been delivered and is unwanted."""
        if any(unwanted(delivery.event) for delivery in self._waiting):
            kept = deque(delivery for delivery in self._waiting if not unwanted(delivery.event))
            gone = sum(event_size_bytes(delivery.event) for delivery in self._waiting if unwanted(delivery.event))
            self._waiting = kept
            self._hold(-gone)

    def clear(self) -> None:
        self._waiting.clear()
        self._in_flight.clear()
        self._hold(-self.bytes)
