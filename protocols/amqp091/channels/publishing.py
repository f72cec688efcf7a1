"""The way in of one connection: messages to the router, confirms back when their Tickets are complete.

All messages of one read, of whatever channels, go to the router as one list. Confirms go out in the order in which the
messages came, one frame per channel and commit. A message that has targets beyond its topic (topology.py) is published
for those at the same time, with the node's rights: those of the publisher were asked for its topic.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from protocols.amqp091.codec import codes, frames
from protocols.amqp091.codec.codes import SoftError
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.topology.names import queue_topic
from routing.errors import Reason, Refusal
from routing.event import Event
from routing.rights.policy import Identity

if TYPE_CHECKING:
    from protocols.amqp091.channels.channel import Channel
    from protocols.amqp091.connection import AmqpConnection
    from routing.ticket import Ticket

ACK, NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
_PUBLISH = (60, 40)


class _Note(msgspec.Struct, gc=False):
    """A message of a batch. index: of its event in the list, -1 when nothing was published for it."""

    channel: Channel
    tag: int                    # 0: no confirm is owed
    index: int
    copies: tuple[str, ...]     # queues that get it besides
    returned: bytes | None = None       # frames for the publisher who wants to know that nobody wanted it


class _Batch:
    __slots__ = ("copied", "copy_of", "notes", "refused", "ticket")

    def __init__(self, notes: list[_Note], ticket: Ticket | None, copied: Ticket | None, copy_of: list[int]) -> None:
        self.notes = notes
        self.ticket = ticket
        self.copied = copied
        self.copy_of = copy_of          # index of each copy → index of its event

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

    __slots__ = ("_batches", "_connection", "_events", "_held", "_notes", "_publisher")

    def __init__(self, connection: AmqpConnection, identity: Identity) -> None:
        self._connection = connection
        self._publisher = connection.server.router.publisher(identity)
        self._events: list[Event] = []
        self._notes: list[_Note] = []
        self._batches: deque[_Batch] = deque()
        self._held = False                      # reading is paused until the disk has caught up

    def take_identity(self, identity: Identity) -> None:
        self._publisher = self._connection.server.router.publisher(identity)

    # -- in ---------------------------------------------------------------------------------------------------

    def add(self, channel: Channel, tag: int, event: Event | None, copies: tuple[str, ...],
            returned: bytes | None = None) -> None:
        """A message of the current read. event: None when nobody can get it at all."""
        index = -1
        if event is not None:
            index = len(self._events)
            self._events.append(event)
        self._notes.append(_Note(channel, tag, index, copies, returned))

    def flush(self) -> list[Ticket]:
        """Give the router what this read has brought so far. Returns the tickets of that."""
        connection = self._connection
        for channel in connection.channels.values():
            if channel.acks:
                channel.flush_acks()
        if not self._notes:
            return []
        events, self._events = self._events, []
        notes, self._notes = self._notes, []
        router = connection.server.router
        connection.server.counters.published += len(notes)
        batch = self.publish(events, notes)
        returned = [note.returned for note in notes if note.returned is not None]
        if returned:
            connection.server.counters.returned += len(returned)
            connection.write(b"".join(returned))
        self._batches.append(batch)
        self._watch(batch)
        if router.pressure and not self._held:
            self._held = True
            connection.hold()
            router.on_relief(self._relieved)
        return [ticket for ticket in (batch.ticket, batch.copied) if ticket is not None]

    def publish(self, events: list[Event], notes: list[_Note]) -> _Batch:
        router = self._connection.server.router
        ticket = router.publish(events, self._publisher) if events else None
        denied = ticket.refusals if ticket is not None else {}
        copies: list[Event] = []
        copy_of: list[int] = []
        for note in notes:
            if note.copies and note.index not in denied:
                event = events[note.index]
                for name in note.copies:
                    copies.append(Event(queue_topic(name), event.payload, event.qos, event.publisher, event.key,
                                        event.headers, event.properties))
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
        self._connection.release()

    def close(self) -> None:
        self._notes.clear()
        self._events.clear()

    # -- confirms ---------------------------------------------------------------------------------------------

    def _drain(self, _: Ticket | None = None) -> None:
        """Confirm what is durable, up to the first batch that is not."""
        batches = self._batches
        confirmed: dict[Channel, int] = {}
        parts: list[bytes] = []
        error: tuple[Channel, Refusal] | None = None
        while batches and batches[0].done:
            batch = batches.popleft()
            refusals = batch.refusals()
            if not refusals:
                for note in batch.notes:
                    if note.tag:
                        confirmed[note.channel] = note.tag
                continue
            for note in batch.notes:
                refusal = refusals.get(note.index)
                if refusal is None:
                    if note.tag:
                        confirmed[note.channel] = note.tag
                    continue
                if note.channel in confirmed:
                    parts.append(_answer(ACK, note.channel, confirmed.pop(note.channel), multiple=True))
                error = self._refused(note, refusal, parts) or error
        for channel, tag in confirmed.items():
            parts.append(_answer(ACK, channel, tag, multiple=tag != channel.confirmed + 1))
            channel.confirmed = tag
        if parts and not self._connection.closed:
            self._connection.write(b"".join(part for part in parts if part))
        if error is not None:
            self._connection.fail_channel(error[0], _denied(*error))

    def _refused(self, note: _Note, refusal: Refusal, parts: list[bytes]) -> tuple[Channel, Refusal] | None:
        """A message is not in the log. What was not allowed closes the channel, the rest is a nack."""
        server = self._connection.server
        server.counters.dropped["refused"] += 1
        if refusal.reason in (Reason.STORAGE_FULL, Reason.STORAGE_FAILED):
            server.storage_full()
        if refusal.reason in (Reason.NOT_AUTHORIZED, Reason.TOPIC_INVALID, Reason.PAYLOAD_TOO_LARGE):
            return note.channel, refusal
        if note.tag:
            parts.append(_answer(NACK, note.channel, note.tag, multiple=False))
            note.channel.confirmed = note.tag
        return None


def _denied(channel: Channel, refusal: Refusal) -> SoftError:
    code = codes.CODE_OF_REASON[refusal.reason]
    return SoftError(code, refusal.text, _PUBLISH)


def _answer(method: bytes, channel: Channel, tag: int, *, multiple: bool) -> bytes:
    """basic.ack or basic.nack; nothing on a channel that closes."""
    if channel.closing:
        return b""
    if multiple:
        channel.confirmed = tag
    return frames.method_frame(channel.number, method + tag.to_bytes(8, "big") + (b"\x01" if multiple else b"\x00"))


def return_frames(channel: Channel, code: int, text: str, exchange: str, key: str, properties: bytes, body: bytes,
                  frame_max: int) -> bytes:
    """basic.return with its content."""
    payload = b"".join((
        b"\x00\x3c\x00\x32", code.to_bytes(2, "big"), pack_short(text), pack_short(exchange), pack_short(key)))
    return frames.method_frame(channel.number, payload) + frames.content_frames(
        channel.number, properties, body, frame_max)


def all_done(tickets: list[Ticket], done: Callable[[], None]) -> None:
    """Call done once all are complete, maybe at once."""
    left = [ticket for ticket in tickets if not ticket.done]
    if not left:
        done()
        return

    def one(_: Ticket) -> None:
        left.pop()
        if not left:
            done()

    for ticket in list(left):
        ticket.on_done(one)
