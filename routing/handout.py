"""Handing out: which member gets which of the events that wait in a cursor. Called by consumer.py when it pumps."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.cursor import Cursor, Delivery
from routing.event import Event
from routing.members import Member, Mode, key_of

if TYPE_CHECKING:
    from routing.consumer import Consumer


def hand_out(consumer: Consumer, cursor: Cursor) -> bool:
    """Give waiting events to a member. False when nobody has credit or the windows are full."""
    if consumer.spec.mode is Mode.KEY_SHARED:
        return _hand_out_by_key(consumer, cursor)
    room = consumer.room()
    member = consumer.members.next() if room > 0 else None
    if member is None:
        return False
    waiting = cursor.waiting
    count = min(consumer.members.share(len(waiting)), member.credit, room)
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
            return False
    consumer.send(cursor, member, [Delivery(event, 1, member) for event in events], size)
    return True


def _hand_out_by_key(consumer: Consumer, cursor: Cursor) -> bool:
    """Key-shared: events whose member has no credit stay, and later ones of the same key behind them."""
    members = consumer.members
    batches: dict[int, tuple[Member, list[Delivery]]] = {}
    credits = {id(member): member.credit for member in members.all}
    room, room_bytes = consumer.room(), consumer.room_bytes()
    kept: list[Event] = []
    blocked = {key_of(delivery.event) for table in (cursor.again, cursor.delayed) for delivery in table.values()}
    while cursor.waiting and room > 0 and room_bytes > 0:
        event = cursor.waiting.popleft()
        key = key_of(event)
        member = members.owner(event)
        if key in blocked or credits[id(member)] <= 0:
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


def repeat(consumer: Consumer, cursor: Cursor) -> bool:
    """Deliver again what came back, before anything newer. False when credit ran out.

    By key, an event whose member has no credit holds back its key only, and so does one that waits for its delay.
    """
    by_key = consumer.spec.mode is Mode.KEY_SHARED
    blocked = {key_of(delivery.event) for delivery in cursor.delayed.values()} if by_key else set()
    limit = consumer.spec.max_deliveries
    for offset in sorted(cursor.again):
        delivery = cursor.again.get(offset)
        if delivery is None:                            # settled by a member while we handed out
            continue
        if limit is not None and delivery.attempts > limit:
            del cursor.again[offset]
            consumer.to_dead_letters(cursor, delivery)
            continue
        member: Member | None
        if by_key:
            member = consumer.members.owner(delivery.event)
            key = key_of(delivery.event)
            if member.credit <= 0 or key in blocked:
                blocked.add(key)
                continue
        else:
            member = consumer.members.next()
        if member is None or consumer.room() <= 0:
            return False
        del cursor.again[offset]
        if by_key:
            consumer.members.key_taken(delivery.event, member)
        consumer.redelivered += 1
        event = delivery.event
        consumer.send(cursor, member, [Delivery(event, delivery.attempts, member)], len(event.payload))
    return True
