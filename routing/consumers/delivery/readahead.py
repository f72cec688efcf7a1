"""Reading ahead: what a consumer takes from the log into its cursors, and how much of it may wait there in memory.

Called by consumer.py when it pumps; what goes out of the cursors is handout.py's.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from routing.consumers.definition.members import Mode

if TYPE_CHECKING:
    from routing.cursors.cursor import Cursor
    from routing.event import Event
    from routing.filters.interest import Interest

READ_EVENTS = 512           # taken from the log at a time: half of the default in-flight window
READ_SCANNED = 1_024        # records looked at per loop turn, some 4 ms where each has a topic of its own
PARKED_EVENTS = 64          # kept in memory for a member without credit, if they are small; the rest is read again
PARKED_BYTES = 64 * 1024
KEYED_BYTES = 8 * 1024 * 1024       # waiting for their keys' members, besides what one scan of the log brings


class ReadsAhead(Protocol):
    """What reading needs of its consumer."""

    @property
    def interest(self) -> Interest: ...

    def lost_to_retention(self, records: int) -> None: ...
    def forget_fresh(self) -> None: ...
    def touch(self) -> None: ...


def read(consumer: ReadsAhead, cursor: Cursor, appetite: int, scanned_max: int) -> int:
    """Take the next events from the log, no more than can go out: the rest would be read again.

    appetite: deliveries that members would take now. Returns the records looked at. Raises Cold where the disk has to
    be asked first.
    """
    if cursor.position < cursor.start_offset and not cursor.owed:       # retention was faster than the reader
        consumer.lost_to_retention(cursor.start_offset - cursor.position)
        cursor.backlog.restart(cursor.start_offset)
    wanted = min(READ_EVENTS, appetite)
    found = cursor.scan(cursor.position, consumer.interest.wants, max_events=wanted, max_scanned=scanned_max,
                        patterns=consumer.interest.patterns, may_wait=True)
    cursor.position = found.next_offset
    cursor.behind = found.next_offset < cursor.partition.end_offset
    events = found.events
    if consumer.interest.by_event:
        events = list(filter(consumer.interest.wants_event, events))
    if cursor.passed_by:
        events = [event for event in events if event.offset not in cursor.passed_by]
    cursor.waiting.extend(events)
    cursor.backlog.taken(len(events), cursor.position)
    consumer.forget_fresh()
    if cursor.ahead:
        cursor.drop_waiting(lambda event: event.offset in cursor.ahead)
    consumer.touch()
    return found.scanned


def park(cursor: Cursor, mode: Mode) -> None:
    """Nobody takes what waits: keep a little in memory, leave the rest to the log.

    Key-shared keeps it (a window of READ_EVENTS at most), since later events of other keys may be acked already.
    """
    waiting = cursor.waiting
    if mode is Mode.KEY_SHARED:
        return
    small = len(waiting) <= PARKED_EVENTS and sum(len(event.payload) for event in waiting) <= PARKED_BYTES
    if not small:
        cursor.leave(waiting)
        waiting.clear()


def fitting(cursor: Cursor, events: list[Event]) -> int:
    """How many of the events may wait beside those that do, key-shared. One always may, however large."""
    size = sum(len(event.payload) for event in cursor.waiting)
    for count, event in enumerate(events):
        size += len(event.payload)
        if size > KEYED_BYTES and (count or cursor.waiting):
            return count
    return len(events)
