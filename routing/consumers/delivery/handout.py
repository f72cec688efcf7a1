"""Handing out: which member gets which of the events that wait in a cursor. Called by consumer.py when it pumps."""
from __future__ import annotations

from collections import deque
from contextlib import closing
from typing import Protocol

from routing.consumers.definition.members import Members, Mode, R
from routing.consumers.definition.spec import ConsumerSpec
from routing.cursors.cursor import Cursor, Delivery
from routing.event import Event
from routing.keys import key_hash

BARE_READS = 32             # events read from the log again in one turn, one by one
AGAIN_EVENTS = 384          # handed out again in one turn, one by one: some 3 ms


class Chooses(Protocol[R]):
    """What the choice needs of its consumer."""

    members: Members[R]
    in_flight: int

    def room(self) -> int: ...
    def room_bytes(self) -> int: ...


class Giver(Chooses[R], Protocol[R]):
    """What handing out needs of it."""

    spec: ConsumerSpec
    redelivered: int

    def send(self, cursor: Cursor, member: R, deliveries: list[Delivery], size: int) -> None: ...
    def ready(self) -> None: ...
    def lost_to_retention(self, records: int) -> None: ...
    def to_dead_letters(self, cursor: Cursor, delivery: Delivery) -> None: ...


def hand_out(consumer: Giver[R], cursor: Cursor, share: int) -> bool:
    """Give waiting events to a member, share at most. False when nobody has credit or the windows are full."""
    if consumer.spec.mode is Mode.KEY_SHARED:
        return _hand_out_by_key(consumer, cursor)
    chosen = choose(consumer, cursor.partition, cursor.waiting, share)
    if chosen is None:
        return False
    member, events, size = chosen
    consumer.send(cursor, member, [Delivery(event, 1, member) for event in events], size)
    return True


def choose(consumer: Chooses[R], partition: object, waiting: deque[Event], share: int, *, early: bool = False,
           ) -> tuple[R, list[Event], int] | None:
    """Take events off the front for a member: it, the events and their payload bytes. None: nobody takes any now.

    early: for one that takes what is not on disk.
    """
    room = consumer.room()
    member = consumer.members.next(partition) if room > 0 else None
    if member is None or (early and not consumer.members.is_early(member)):
        return None
    count = min(share, len(waiting), member.credit, room)
    if count == len(waiting):
        events = list(waiting)
        waiting.clear()
    else:
        events = [waiting.popleft() for _ in range(count)]
    size = sum([len(event.payload) for event in events])
    room_bytes = consumer.room_bytes()
    while size > room_bytes and (len(events) > 1 or consumer.in_flight):    # a large one goes alone
        event = events.pop()
        size -= len(event.payload)
        waiting.appendleft(event)
        if not events:
            return None
    return member, events, size


def _hand_out_by_key(consumer: Giver[R], cursor: Cursor) -> bool:
    """Key-shared: events whose member has no credit stay, and later ones of the same key behind them."""
    members = consumer.members
    batches: dict[int, tuple[R, list[Delivery]]] = {}
    credits = {id(member): member.credit for member in members.all}
    room, room_bytes = consumer.room(), consumer.room_bytes()
    kept: list[Event] = []
    again, delayed = cursor.again, cursor.delayed
    blocked: set[int] = set()
    while cursor.waiting and room > 0 and room_bytes > 0:
        event = cursor.waiting.popleft()
        key = key_hash(event)
        member = members.owner(event)
        if key in blocked or credits[id(member)] <= 0 or again.has_key(key) or delayed.has_key(key):
            blocked.add(key)
            kept.append(event)
            continue
        credits[id(member)] -= 1
        room -= 1
        room_bytes -= len(event.payload)
        members.key_taken(event, member)
        batches.setdefault(id(member), (member, []))[1].append(Delivery(event, 1, member))
    cursor.waiting.extendleft(reversed(kept))
    for member, deliveries in batches.values():
        consumer.send(cursor, member, deliveries, sum([len(delivery.event.payload) for delivery in deliveries]))
    return bool(batches) and not kept


def repeat(consumer: Giver[R], cursor: Cursor) -> bool:
    """Deliver again what came back, before anything newer. False when credit ran out, or this turn has had enough.

    By key, an event whose member has no credit holds back its key only, and so does one that waits for its delay.
    """
    by_key = consumer.spec.mode is Mode.KEY_SHARED
    blocked: set[int] = set()
    limit = consumer.spec.max_deliveries
    reads = 0
    with closing(cursor.again.in_order()) as returned:
        for count, delivery in enumerate(returned):
            if count >= AGAIN_EVENTS:
                consumer.ready()
                return False
            offset = delivery.event.offset
            member: R | None = None
            given_up = limit is not None and delivery.attempts > limit
            if not given_up:
                if consumer.room() <= 0 or consumer.members.credit() <= 0:
                    return False
                if by_key:
                    member = consumer.members.owner(delivery.event)
                    key = key_hash(delivery.event)
                    if member.credit <= 0 or key in blocked or cursor.delayed.has_key(key):
                        blocked.add(key)
                        continue
                else:
                    member = consumer.members.next(cursor.partition)
                    if member is None:
                        return False
            event: Event | None = delivery.event
            if delivery.is_bare:
                if reads >= BARE_READS:
                    consumer.ready()
                    return False
                reads += 1
                event = cursor.event(offset)
            del cursor.again[offset]
            if event is None:                           # retention has taken it
                consumer.lost_to_retention(1)
            elif given_up:
                consumer.to_dead_letters(cursor, Delivery(event, delivery.attempts))
            else:
                assert member is not None
                if by_key:
                    consumer.members.key_taken(event, member)
                if delivery.attempts > 1:               # else it never left the node, or was lent by another one
                    consumer.redelivered += 1
                consumer.send(cursor, member, [Delivery(event, delivery.attempts, member)], len(event.payload))
    return True
