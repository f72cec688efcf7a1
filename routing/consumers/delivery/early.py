"""Early: events of a queue that go to a member before they are on disk, as soon as they have their offsets.

    published ──► offer() ── the queue is at its end, a member takes it ──► member        cursor.unsynced
                       └── else: skipped, it comes once it is on disk          │ answered: noted
    on disk ──► synced(): in flight, the answers count          refused ──► refused(): forgotten, and its answers

So the disk stands between a publisher and its confirm, and not between a message and who works on it. Order stays:
whatever is skipped holds up what is behind it. Called by consumer.py and registry/early.py.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from routing.consumers.definition.members import Members, Mode, R
from routing.consumers.definition.spec import ConsumerSpec
from routing.consumers.delivery import settle
from routing.consumers.delivery.handout import choose
from routing.cursors.cursor import Cursor, Delivery
from routing.cursors.unsynced import Unsynced
from routing.event import Event, is_expired

if TYPE_CHECKING:
    from routing.filters.interest import Interest
    from routing.log.partition import Partition


class Gives(settle.Settles[R], Protocol[R]):
    """What this needs of its consumer."""

    members: Members[R]
    spec: ConsumerSpec
    in_flight: int
    delivered: int
    paused: bool
    held: bool
    closed: bool

    @property
    def interest(self) -> Interest: ...
    @property
    def side(self) -> Any: ...
    @property
    def may_give(self) -> bool: ...
    @property
    def is_returning(self) -> bool: ...
    def room(self) -> int: ...
    def room_bytes(self) -> int: ...


def offer(consumer: Gives[Any], partition: Partition, events: list[Event], now_ms: Callable[[], int]) -> None:
    """Events of one topic that were just published, in order, with no gap to those before them: registry/early.py."""
    cursor = consumer.cursors.get(partition)
    if cursor is None or consumer.closed or not consumer.members.all:
        return
    waiting = deque(_wanted(consumer, cursor, events))
    if waiting and _is_at_end(consumer, cursor):
        _hand_out(consumer, cursor, waiting, now_ms)
    if waiting:
        cursor.skipped_to = waiting[-1].offset + 1


def _wanted(consumer: Gives[Any], cursor: Cursor, events: list[Event]) -> list[Event]:
    if events[0].offset < cursor.position or consumer.interest.by_event:
        return [event for event in events
                if event.offset >= cursor.position and consumer.interest.wants_event(event)]
    return events


def _is_at_end(consumer: Gives[Any], cursor: Cursor) -> bool:
    """Nothing of it goes before what is published now, and what goes now may go."""
    return (not cursor.behind and not cursor.waiting and not cursor.again and not cursor.early
            and cursor.skipped_to <= cursor.partition.end_offset and consumer.spec.mode is not Mode.KEY_SHARED
            and not consumer.paused and not consumer.held and not consumer.is_returning and consumer.may_give
            and consumer.side is not None and consumer.side.is_straight)


def _hand_out(consumer: Gives[Any], cursor: Cursor, waiting: deque[Event], now_ms: Callable[[], int]) -> None:
    """Give members what they take, from the front on."""
    going: deque[Event] = deque()
    clock_ms = 0
    looked_at: Any = None
    while waiting:
        event = waiting[0]
        if event.properties is not looked_at or event.qos == 2:
            clock_ms = clock_ms or now_ms()
            if not may_go(event, clock_ms):
                break
            looked_at = event.properties
        going.append(waiting.popleft())
    share = consumer.members.share(len(going))
    while going:
        chosen = choose(consumer, cursor.partition, going, share, early=True)
        if chosen is None:
            waiting.extendleft(reversed(going))
            return
        _send(consumer, cursor, *chosen)


def may_go(event: Event, now_ms: int) -> bool:
    """Not what is looked at when it is delivered (screening.py), nor what its publisher sends once, whatever happens:
    it would come twice, and not marked, if the node lost it.
    """
    properties = event.properties
    return event.qos != 2 and (properties is None or (
        properties.dead_letter is None and properties.deliver_at_ms is None and properties.dedupe_id is None
        and not is_expired(event, now_ms)))


def _send(consumer: Gives[Any], cursor: Cursor, member: Any, events: list[Event], size: int) -> None:
    count = len(events)
    deliveries = [Delivery(event, 1, member) for event in events]
    unsynced = cursor.unsynced
    if unsynced is None:
        unsynced = cursor.unsynced = Unsynced()
    unsynced.out.update([(delivery.event.offset, delivery) for delivery in deliveries])
    consumer.side.offered(events)
    consumer.hold(count, size)
    consumer.delivered += count
    member.credit -= count
    member.deliver(consumer, deliveries)


def returned(consumer: Gives[Any], member: Any) -> None:
    """What this member holds goes out again, marked, once it is on disk."""
    for cursor in consumer.cursors.values():
        if cursor.unsynced is not None:
            for delivery in cursor.unsynced.held_by(member):
                settle.nack(consumer, delivery, 0.0)


def synced(consumer: Gives[Any], cursor: Cursor, until: int) -> set[int]:
    """What stands before this offset is on disk. Returns the offsets that are out already."""
    assert cursor.unsynced is not None
    taken = cursor.unsynced.take(until)
    if not cursor.unsynced:
        cursor.unsynced = None
    acked: list[Delivery] = []
    others: list[Callable[[], None]] = []
    for delivery, answered, answer in taken:
        offset = delivery.event.offset
        cursor.in_flight[offset] = delivery
        if cursor.behind and offset >= cursor.position:
            cursor.passed_by.add(offset)                # its reader comes there
        if answer is not None:
            others.append(answer)
        elif answered:
            acked.append(delivery)
        elif consumer.spec.ack_timeout_s is not None:
            consumer.later(consumer.spec.ack_timeout_s, cursor, delivery)
    if taken:
        cursor.tail_stored = False
        consumer.touch()
    if acked:
        settle.ack(consumer, acked)
    for answer in others:
        answer()
    return {delivery.event.offset for delivery, _, _ in taken}


def refused(consumer: Gives[Any], cursor: Cursor) -> None:
    """What is not on disk does not come there: others get these offsets, and no answer is to be one to them."""
    cursor.skipped_to = 0
    cursor.position = min(cursor.position, cursor.partition.high_watermark)
    if cursor.unsynced is None:
        return
    out, durable_to = cursor.unsynced.out, cursor.partition.high_watermark
    gone = [out.pop(offset) for offset in list(out) if offset >= durable_to]
    for delivery in gone:
        cursor.unsynced.answers.pop(delivery.event.offset, None)
        delivery.event.offset = -1
    if not out:
        cursor.unsynced = None
    size = sum(len(delivery.event.payload) for delivery in gone)
    consumer.hold(-len(gone), -size)
    if consumer.side is not None:
        consumer.side.settled(size)
    consumer.ready()
