"""The way in of one connection: messages to the router, confirms back when their Tickets are complete.

All messages of one read, of whatever channels, go to the router as one list. Confirms go out in the order in which the
messages came, one frame per channel and commit. A message that has targets beyond its topic (topology.py) is published
for those at the same time, with the node's rights: those of the publisher were asked for its topic.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import msgspec

from protocols.amqp091.channels.confirms import Confirms
from protocols.amqp091.channels.line import Line
from protocols.amqp091.channels.peer import Peer
from protocols.amqp091.codec import codes
from protocols.amqp091.codec.codes import SoftError
from protocols.scheduling.longwork import in_pieces
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.cursors.delivery import Delivery
    from routing.ticket import Ticket

_PUBLISH = (60, 40)
NOWHERE = -1                    # index of a message for which nothing is published; below it: of one of the node's own


class _Note(msgspec.Struct, gc=False):
    """Messages of a batch that came one behind the other on one channel."""

    confirms: Confirms
    tag: int                    # of the last one, 0: no confirm is owed
    index: int                  # of the first one's event in the list; below 0: it is not there
    count: int = 1
    copies: tuple[str, ...] = ()        # queues that get it besides; then it is one message
    returned: bytes | None = None       # frames for the publisher who wants to know that nobody wanted it
    inner: Event | None = None          # published by the node, whose rights were not those of the publisher


class _Batch:
    __slots__ = ("copied", "copy_of", "notes", "ticket")

    def __init__(self, notes: list[_Note], ticket: Ticket | None, copied: Ticket | None, copy_of: list[int]) -> None:
        self.notes = notes
        self.ticket = ticket
        self.copied = copied
        self.copy_of = copy_of          # index of each copy → index of its note

    @property
    def done(self) -> bool:
        return (self.ticket is None or self.ticket.done) and (self.copied is None or self.copied.done)

    def refusals(self) -> dict[int, Refusal]:
        found = dict(self.ticket.refusals) if self.ticket is not None else {}
        if self.copied is not None:
            for index, refusal in self.copied.refusals.items():
                found.setdefault(self.copy_of[index], refusal)
        return found


class Publishing:
    """One per connection."""

    __slots__ = ("_batches", "_events", "_fail", "_held", "_last", "_notes", "_peer", "_publisher",
                 "_reads")

    def __init__(self, peer: Peer, fail: Callable[[Line, SoftError], None],
                 reads: Callable[[], bool]) -> None:
        """fail: ends a channel whose message was not allowed. reads: has the connection consumers?"""
        self._peer = peer
        self._fail = fail
        self._reads = reads
        self._publisher = peer.broker.router.publisher(peer.identity)
        self._events: list[Event] = []
        self._notes: list[_Note] = []
        self._last: _Note | None = None         # that another message may join
        self._batches: deque[_Batch] = deque()
        self._held = False                      # reading is paused until the disk has caught up

    def take_identity(self, identity: Identity) -> None:
        self._publisher = self._peer.broker.router.publisher(identity)

    # -- in ---------------------------------------------------------------------------------------------------

    def add(self, confirms: Confirms, tag: int, event: Event) -> None:
        """A message of the current read that needs no more than its confirm. tag 0: not even that."""
        last = self._last
        if last is not None and last.confirms is confirms and (tag == last.tag + 1 if tag else not last.tag):
            last.tag = tag
            last.count += 1
        else:
            self._last = last = _Note(confirms, tag, len(self._events))
            self._notes.append(last)
        self._events.append(event)

    def add_run(self, confirms: Confirms, events: list[Event]) -> None:
        """Some of the same kind, one behind the other."""
        tag = confirms.skip(len(events))
        last = self._last
        if last is not None and last.confirms is confirms and (tag == last.tag + len(events) if tag else not last.tag):
            last.tag = tag
            last.count += len(events)
        else:
            self._last = _Note(confirms, tag, len(self._events), len(events))
            self._notes.append(self._last)
        self._events += events

    def add_special(self, confirms: Confirms, tag: int, event: Event | None, copies: tuple[str, ...],
                    returned: bytes | None = None) -> None:
        """One with copies, or to be returned. event: None when nobody can get it at all."""
        self._last = None
        index = NOWHERE
        if event is not None:
            index = len(self._events)
            self._events.append(event)
        self._notes.append(_Note(confirms, tag, index, 1, copies, returned))

    def add_inner(self, confirms: Confirms, tag: int, event: Event) -> None:
        """One that the node publishes for itself: the publisher's rights were asked for already."""
        self._last = None
        self._notes.append(_Note(confirms, tag, NOWHERE - 1 - len(self._notes), inner=event))

    def flush(self) -> list[Ticket]:
        """Give the router what this read has brought so far. Returns the tickets of that."""
        peer = self._peer
        if peer.acks:
            peer.flush_acks()
        if not self._notes:
            return []
        events, self._events = self._events, []
        notes, self._notes = self._notes, []
        self._last = None
        broker = peer.broker
        batch = self._publish(events, notes)
        returned = [note.returned for note in notes if note.returned is not None]
        broker.counters.published += len(events) + sum(note.index < 0 for note in notes)
        if returned:
            broker.counters.returned += len(returned)
            peer.write(b"".join(returned))
        self._batches.append(batch)
        self._watch(batch)
        router = broker.router
        if router.pressure and not self._held:
            self._held = True
            peer.hold()
            router.on_relief(self._relieved)
        elif not self._held and self._publisher.pace is not None and not self._reads() \
                and router.when_free(self._publisher, self._relieved):      # its acks are not to wait
            self._held = True
            peer.hold()
        return [ticket for ticket in (batch.ticket, batch.copied) if ticket is not None]

    def together(self, items: list[tuple[Event | None, tuple[str, ...], bytes | None, bool]],
                 settled: list[tuple[Consumer, list[Delivery]]]) -> Generator[None, None, list[Ticket]]:
        """Publish what a transaction holds and ack these deliveries: all of it or nothing, whenever the node is killed.

        items: as Transaction.events. Work in pieces; it returns the tickets of that and of what came before.
        """
        tickets = self.flush()
        broker = self._peer.broker
        straight_topic = broker.declared.topology.straight_topic
        events: list[Event] = []
        inner_ones: list[Event] = []
        copies: list[Event] = []
        returned: list[bytes] = []

        def sort(item: tuple[Event | None, tuple[str, ...], bytes | None, bool]) -> None:
            event, names, frames, inner = item
            if event is not None:
                (inner_ones if inner else events).append(event)
                copies.extend(_copy(event, straight_topic(name)) for name in names)
            if frames is not None:
                returned.append(frames)

        yield from in_pieces(items, sort)
        tickets.append(broker.router.together.commit(events, self._publisher, settled, inner_ones + copies))
        broker.counters.published += len(items)
        if returned:
            broker.counters.returned += len(returned)
            self._peer.write(b"".join(returned))
        return tickets

    def _publish(self, events: list[Event], notes: list[_Note]) -> _Batch:
        router = self._peer.broker.router
        ticket = router.publish(events, self._publisher) if events else None
        denied = ticket.refusals if ticket is not None else {}
        straight_topic = self._peer.broker.declared.topology.straight_topic
        copies: list[Event] = []
        copy_of: list[int] = []
        for note in notes:
            if note.inner is not None:
                copies.append(note.inner)
                copy_of.append(note.index)
            elif note.copies and note.index not in denied:
                event = events[note.index]
                for name in note.copies:
                    copies.append(_copy(event, straight_topic(name)))
                    copy_of.append(note.index)
        copied = router.publish(copies, router.internal) if copies else None
        return _Batch(notes, ticket, copied, copy_of)

    def _watch(self, batch: _Batch) -> None:
        for ticket in (batch.ticket, batch.copied):
            if ticket is not None and not ticket.done:
                ticket.on_done(self._drain)
        self._drain()

    def _relieved(self) -> None:
        self._held = False
        self._peer.release()

    def close(self) -> None:
        self._notes.clear()
        self._events.clear()
        self._last = None

    # -- confirms ---------------------------------------------------------------------------------------------

    def _drain(self, _: Ticket | None = None) -> None:
        """Confirm what is durable, up to the first batch that is not."""
        batches = self._batches
        confirmed: dict[Confirms, int] = {}
        parts: list[bytes] = []
        error: tuple[Line, Refusal] | None = None
        while batches and batches[0].done:
            batch = batches.popleft()
            refusals = batch.refusals()
            for note in batch.notes:
                if refusals:
                    error = self._answer_each(note, refusals, confirmed, parts) or error
                elif note.tag:
                    confirmed[note.confirms] = note.tag
        parts += [confirms.ack(tag) for confirms, tag in confirmed.items()]
        if parts and not self._peer.closed:
            self._peer.write(b"".join(parts))
        if error is not None:
            line, refusal = error
            self._fail(line, SoftError(codes.CODE_OF_REASON[refusal.reason], refusal.text, _PUBLISH))

    def _answer_each(self, note: _Note, refusals: dict[int, Refusal], confirmed: dict[Confirms, int],
                     parts: list[bytes]) -> tuple[Line, Refusal] | None:
        """Some of a batch are not in the log. What was not allowed closes the channel, the rest is a nack."""
        confirms = note.confirms
        error = None
        for place in range(note.count):
            tag = note.tag - note.count + 1 + place if note.tag else 0
            refusal = refusals.get(note.index + place) if note.index != NOWHERE else None
            if refusal is None:
                if tag:
                    confirmed[confirms] = tag
                continue
            if confirms in confirmed:
                parts.append(confirms.ack(confirmed.pop(confirms)))
            self._peer.broker.counters.dropped["refused"] += 1
            if refusal.reason in (Reason.STORAGE_FULL, Reason.STORAGE_FAILED):
                self._peer.broker.storage_full()
            if refusal.reason in (Reason.NOT_AUTHORIZED, Reason.TOPIC_INVALID, Reason.PAYLOAD_TOO_LARGE):
                error = (confirms.line, refusal)
            elif tag:
                parts.append(confirms.nack(tag))
        return error


def _copy(event: Event, topic: str) -> Event:
    """The same, straight to a queue."""
    return Event(topic, event.payload, event.qos, event.publisher, event.key, event.headers,
                 event.properties)
