"""One SSE reader: member of an ephemeral Consumer that writes each delivery straight into the socket.

    Consumer ── deliver(batch) ──► one chunk of SSE text ──► transport.write ── socket full? ──► no ack, no credit

A reader that is slow gets no credit until its socket has drained; meanwhile its events stay in the log, and nothing of
them in memory but what the transport holds. Credit is counted in events but follows a budget in bytes.

`id:` of every event is the position of the whole reader after it, over all partitions, so a client that comes back with
Last-Event-ID gets each event once. What was looked at and not wanted moves the position too: the heartbeat sends it.
"""
from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from protocols.formats.location import PositionWriter, Vector, epoch_tag, start_time_s
from protocols.rest.counters import RestCounters
from protocols.rest.reading.frames import Frames, Group, frame
from protocols.rest.settings import RestSettings
from routing.consumers.consumer import Consumer
from routing.cursors.cursor import Delivery
from routing.event import Event
from routing.rights.policy import Identity
from routing.router import Router

if TYPE_CHECKING:
    from routing.log.partition import Partition

CREDIT_MAX = 512                # deliveries in one write at most; READ_EVENTS of consumers/delivery/readahead.py
CREDIT_FIRST = 8                # until the size of the events is known
QUICK_S = 0.2                   # a full socket that drains so soon has a reader that keeps up,
FAST_SOCKET_BYTES = 1024 * 1024         # and gets as much of the kernel as that would give it
RETRY_MS = 2_000                # how long a browser waits before it reconnects


class SseReader:
    """A Member (see routing/consumers/definition/members.py). Made for one request; close() must be called."""

    def __init__(self, router: Router, identity: Identity, vector: Vector, transport: asyncio.WriteTransport, *,
                 chunked: bool, settings: RestSettings, counters: RestCounters, frames: Frames) -> None:
        self.identity = identity
        self.credit = CREDIT_FIRST
        self.vector = vector
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.blocked_since_s: float | None = None
        self._router = router
        self._transport = transport
        self._chunked = chunked
        self._settings = settings
        self._counters = counters
        self._frames = frames
        self._position = PositionWriter(epoch_tag(router.store.epoch), start_time_s(router.clock_ms()), vector)
        self._group: Group | None = None                # of the readers with the same ids
        self._only: Partition | None = None             # the partition of the group, and of the reader
        self._offsets: list[int] = []                   # its offset in the vector
        self._sent_position = ""
        self._consumer: Consumer | None = None
        self._unacked: list[Delivery] = []              # written, not drained
        self._pending: deque[Delivery] = deque()        # handed out, not written: the socket is full
        self._window = CREDIT_FIRST
        self._written_s = router.clock_s()
        self._socket_bounded = False

    # -- life -------------------------------------------------------------------------------------------------

    def greet(self, filters: tuple[str, ...]) -> bytes:
        """The first bytes of the stream. The id in it lets a client resume that lost the stream before any event."""
        shown = " ".join(filters).replace("\r", " ").replace("\n", " ")
        return (f": meshgate {shown}\nretry: {RETRY_MS}\n".encode()
                + self._id_line() + b"\n" + b"".join(self._gaps()))

    def start(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def finish(self, reason: str) -> None:
        """End the stream: a last comment, then the handler ends the response. Idempotent."""
        if not self.closed.done():
            if self.blocked_since_s is None:
                self._write(f": {reason}\n\n".encode())
            else:
                self._transport.abort()
            self.closed.set_result(reason)

    def close(self) -> None:
        """The connection is gone or done with: let go of the consumer."""
        if not self.closed.done():
            self.closed.set_result("gone")
        self._unacked.clear()
        self._pending.clear()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            self._router.delete_consumer(consumer.name)

    def rights_changed(self, identity: Identity) -> None:
        """Holder of routing/logins.py: it ends when nothing of it may be read any more, and narrows otherwise."""
        self.identity = identity
        consumer, rights = self._consumer, self._router.rights
        if identity.revoked:
            self.finish("the login does not hold any more")
        elif consumer is not None and not any(rights.may_read_part(identity, name) for name in consumer.filters):
            self.finish("the rules do not allow it any more")
        elif consumer is not None:
            readable, denied = rights.split(identity, self._pending)
            if denied:
                self._pending = deque(readable)
                consumer.ack(denied)

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        self._consumer = None
        self.finish(reason)

    def bound_socket(self, size: int) -> None:
        """Keep the kernel from holding much for a reader that takes nothing: on loopback it was 1 MiB each."""
        self._socket_bounded = True
        self._set_socket_buffer(size)

    def _set_socket_buffer(self, size: int) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    # -- events -----------------------------------------------------------------------------------------------

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Write them; ack them when the socket took them, else when it has drained."""
        if self.closed.done():
            return
        gaps = [] if self._pending else self._gaps()
        self._pending.extend(deliveries)
        self._write_pending(gaps)

    def writing(self, blocked: bool) -> None:
        """The socket is full (True) or has drained (False). Called by the connection."""
        if blocked:
            self.blocked_since_s = self._router.clock_s()
            self.credit = 0         # counted in events, while those to come may be of any size
            return
        quick = self.blocked_since_s is not None and self._router.clock_s() - self.blocked_since_s < QUICK_S
        self.blocked_since_s = None
        if quick and self._socket_bounded:
            self._socket_bounded = False
            self._set_socket_buffer(FAST_SOCKET_BYTES)
        done, self._unacked = self._unacked, []
        if self._consumer is not None:
            self._consumer.ack(done)
            self._write_pending([])
            if self.credit > 0:
                self._consumer.ready(self)

    def _write_pending(self, chunk: list[bytes]) -> None:
        """Write what was handed out, about sse_batch_bytes at a time, until the socket is full."""
        while self._pending and self.blocked_since_s is None:
            written = self._render(chunk)
            data = b"".join(chunk)
            chunk = []
            self._resize_window(len(data), len(written))
            if data:
                self._write(data)
            if self.blocked_since_s is not None:
                self._unacked += written
            elif self._consumer is not None:
                self._consumer.ack(written)
        self.credit = self._window if self.blocked_since_s is None else 0

    def _render(self, chunk: list[bytes]) -> list[Delivery]:
        """Add pending events to chunk until it holds sse_batch_bytes. Returns the deliveries that are in it."""
        room = self._settings.sse_batch_bytes
        taken: list[Delivery] = []
        pending, group, payload_bytes = self._pending, self._group, 0
        while pending and room > 0:
            delivery = pending.popleft()
            taken.append(delivery)
            event = delivery.event
            offset = event.offset
            if group is not None and event.partition is self._only and offset >= self._offsets[0]:
                self._offsets[0] = offset + 1
                text = group.kept.get(offset) or group.of(event, self._position)
            else:
                text = self._frame(event)
                group = self._group
            room -= len(text)
            payload_bytes += len(event.payload)
            chunk.append(text)
        self._counters.events_out += len(taken)
        self._counters.payload_bytes_out += payload_bytes
        self._sent_position = self._position.text()
        return taken

    def _frame(self, event: Event) -> bytes:
        """The frame of one event, wherever it comes from. From the next one on its partition may have a group."""
        partition = event.partition
        if partition is not None:
            self._advance(partition, event.offset + 1)
            single = self._position.single
            if single is not None:
                self._only, self._offsets = partition, single
                self._group = self._frames.group(partition, self._position)
        return frame(self._position.text(), self._frames.lines.of(event))

    def _resize_window(self, size: int, count: int) -> None:
        """Credit for about sse_batch_bytes, growing at most twofold at a time, so that one surprise stays small."""
        fitting = self._settings.sse_batch_bytes * count // max(size, 1)
        self._window = max(1, min(fitting, self._window * 2, CREDIT_MAX))

    # -- clock ------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Called about once a second: heartbeat, position, and the end of a reader that takes nothing."""
        if self.closed.done():
            return
        if self.identity.expires_ms is not None and self.identity.expires_ms <= self._router.clock_ms():
            self.finish("the login has expired; come back with a new token")
            return
        if self.blocked_since_s is not None:
            if now_s - self.blocked_since_s >= self._settings.sse_stall_timeout_s:
                self._counters.sse_stalled += 1
                self.finish("the reader took nothing for too long")
            return
        self._take_positions()
        if now_s - self._written_s >= self._settings.sse_heartbeat_s:
            self._write(b": heartbeat\n" + self._moved_id_line() + b"\n")

    def _take_positions(self) -> None:
        """What the consumer has looked at counts as seen. Nothing is in flight here."""
        if self._consumer is None:
            return
        for partition, cursor in self._consumer.cursors.items():
            position, unacked = cursor.state()
            if not unacked:
                self._advance(partition, position)

    # -- bytes ------------------------------------------------------------------------------------------------

    def _advance(self, partition: Partition, position: int) -> None:
        offsets = self.vector.setdefault(partition.stream, [])
        while len(offsets) <= partition.index:          # a stream or partition that came with a reload
            offsets.append(0)
            self._group = None
        if position > offsets[partition.index]:
            offsets[partition.index] = position

    def _gaps(self) -> list[bytes]:
        """Tell about what retention took before this reader came to it."""
        notes: list[bytes] = []
        if self._consumer is None:
            return notes
        for partition in self._consumer.cursors:
            offsets = self.vector.get(partition.stream, ())
            if partition.index < len(offsets) and offsets[partition.index] < partition.start_offset:
                note = {
                    "stream": partition.stream, "partition": partition.index,
                    "from": offsets[partition.index], "to": partition.start_offset,
                }
                self._advance(partition, partition.start_offset)
                self._counters.gaps += 1
                notes.append(b"event: gap\n" + self._id_line() + b"data: " + msgspec.json.encode(note) + b"\n\n")
        return notes

    def _id_line(self) -> bytes:
        self._sent_position = self._position.text()
        return b"id: %b\n" % self._sent_position.encode("ascii")

    def _moved_id_line(self) -> bytes:
        if self._position.text() == self._sent_position:
            return b""
        return self._id_line()

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._written_s = self._router.clock_s()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
