"""Browse: look at what is ready without taking it. Works for any consumer."""
from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from routing.event import Event

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Cursor

LIMIT_MAX = 1_000           # events of a page
STEP_EVENTS = 16            # read at a time: between them it is looked how large they are
BYTES_MAX = 1024 * 1024     # of payload, and what one step more brings
SCANNED_MAX = 2_048         # records looked at for a page: some 8 ms where each has a topic of its own


class Page(msgspec.Struct, frozen=True):
    """Ready events, in order within a partition. next: where the next page begins, None at the end.

    A page may be empty and not be the last: the work for one is bounded.
    """

    events: list[Event]
    next: str | None


def browse(consumer: Consumer, limit: int, after: str) -> Page:
    """after: "" or the next of an earlier page, "<number of partition>:<offset>". Raises ValueError when it is none."""
    limit = min(max(limit, 1), LIMIT_MAX)
    number, offset = _place(after)
    cursors = list(consumer.cursors.values())
    events: list[Event] = []
    scanned_max = SCANNED_MAX
    size = 0
    while number < len(cursors):
        step = min(limit - len(events), STEP_EVENTS)
        found, next_offset, scanned = _ready(consumer, cursors[number], offset, step, scanned_max)
        events += found
        size += sum(len(event.payload) for event in found)
        scanned_max -= scanned
        number, offset = (number, next_offset) if next_offset is not None else (number + 1, 0)
        if number < len(cursors) and (len(events) >= limit or scanned_max <= 0 or size >= BYTES_MAX):
            return Page(events, f"{number}:{offset}")
    return Page(events, None)


def _place(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    number, _, offset = text.partition(":")
    if not (number.isascii() and number.isdigit() and offset.isascii() and offset.isdigit()
            and len(number) < 10 and len(offset) < 20):
        raise ValueError("this is no place in a queue")
    return int(number), int(offset)


def _ready(consumer: Consumer, cursor: Cursor, offset: int, limit: int, scanned_max: int,
           ) -> tuple[list[Event], int | None, int]:
    """What is ready in one partition from an offset on; where to go on, None: at its end; and what it cost."""
    if limit <= 0 or scanned_max <= 0:
        return [], offset, 0
    held = {place: delivery for table in (cursor.again, cursor.delayed) for place, delivery in table.items()}
    events: list[Event] = []
    for place in sorted(place for place in held if place >= offset)[:limit + 1]:
        if len(events) == limit:
            return events, place, len(events)
        event = cursor.event(place) if held[place].is_bare else held[place].event
        if event is not None:
            events.append(event)
    cost = len(events)
    for event in list(cursor.waiting):
        if event.offset >= offset:
            if len(events) == limit:
                return events, event.offset, cost
            events.append(event)
    if not cursor.behind:
        return events, None, cost
    start = max(offset, cursor.position)
    if len(events) == limit or cost >= scanned_max:
        return events, start, cost
    interest = consumer.interest
    found = cursor.scan(start, interest.wants, max_events=limit - len(events), max_scanned=scanned_max - cost,
                        patterns=interest.patterns)
    events += [event for event in found.events if interest.wants_event(event) and event.offset not in cursor.ahead]
    done = found.next_offset >= cursor.partition.end_offset
    return events, None if done else found.next_offset, cost + found.scanned
