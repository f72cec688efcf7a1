"""Acquiring: records that the Consumer hands to a share session, and the stored batches that they stand in."""
from __future__ import annotations

import struct
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from protocols.kafka.api import Call
from protocols.kafka.codec.errors import Code
from protocols.kafka.log import fetching
from protocols.kafka.runtime.tasks import Later
from protocols.kafka.sharing.reader import Reader
from routing.consumers.leases import give_back
from routing.errors import StorageError
from routing.log.fetch import OutOfRange

if TYPE_CHECKING:
    from routing.cursors.cursor import Delivery
    from routing.log.partition import Partition

RECORD_BYTES = 100              # of a record beside its payload: a guess at what is to be read for it
_BATCH = struct.Struct(">qi11xi")       # base offset, length, last offset delta


class Acquired(msgspec.Struct):
    """What a session gets of one partition. data: whole batches, also with records that others have."""

    data: bytes
    records: list[dict[str, Any]]
    code: Code = Code.NONE


async def acquire(call: Call, reader: Reader, count: int, wait_s: float) -> list[Delivery]:
    """Up to so many records; waits until there is one, at most so long."""
    later: Later[None] = Later()
    router = call.broker.router

    def wake() -> None:
        router.call_soon(lambda: later.set(None))       # in the next turn: all that this one hands out comes together

    reader.begin(count, wake)
    timer = call.call_at(router.clock_s() + wait_s, lambda: later.set(None))
    try:
        await later
    finally:
        call.broker.timers.cancel(timer)
        taken = reader.end()
    return taken


async def read(call: Call, reader: Reader, taken: list[Delivery], bytes_max: int) -> dict[Partition, Acquired]:
    """The batches of what was acquired. What does not fit any more is given back; what is not in the log any more is
    done with.
    """
    found: dict[Partition, Acquired] = {}
    by_partition: dict[Partition, list[Delivery]] = {}
    for delivery in taken:
        by_partition.setdefault(delivery.event.partition, []).append(delivery)
    size = 0
    for partition, deliveries in by_partition.items():
        deliveries.sort(key=attrgetter("event.offset"))
        try:
            pieces, left = await _read_one(call, partition, deliveries, bytes_max, size)
        except StorageError:
            found[partition] = Acquired(b"", [], Code.KAFKA_STORAGE_ERROR)
            if reader.consumer is not None:
                give_back(reader.consumer, deliveries)
            continue
        if left and reader.consumer is not None:
            give_back(reader.consumer, left)
        had = deliveries[:len(deliveries) - len(left)]
        spans = [span for piece in pieces for span in _spans(piece)]
        there = _within(had, spans)
        if len(there) < len(had) and reader.consumer is not None:
            kept = {delivery.event.offset for delivery in there}
            gone = [delivery for delivery in had if delivery.event.offset not in kept]
            reader.consumer.ack(gone)
            reader.consumer.lost_to_retention(len(gone))
        data = b"".join(pieces)
        size += len(data)
        found[partition] = Acquired(data, _ranges(there))
        await call.rest()
    return found


async def _read_one(call: Call, partition: Partition, deliveries: list[Delivery], bytes_max: int, size: int
                    ) -> tuple[list[bytes], list[Delivery]]:
    """Pieces of the log with these records, and those for which there was no room. One batch always fits."""
    pieces: list[bytes] = []
    at = 0
    while at < len(deliveries):
        if size >= bytes_max > 0 and size:
            return pieces, deliveries[at:]
        first, last = deliveries[at].event.offset, deliveries[-1].event.offset
        run = at                                                # as far as they stand side by side
        while run + 1 < len(deliveries) and deliveries[run + 1].event.offset == deliveries[run].event.offset + 1:
            run += 1
        wanted = sum(len(delivery.event.payload) + RECORD_BYTES for delivery in deliveries[at:run + 1])
        try:
            data, next_offset = await fetching.read(
                call, partition, first, max(min(wanted, bytes_max - size), 1), fetching.READ_COMMITTED)
        except OutOfRange:
            data, next_offset = b"", first + 1
        data = _cut(data, last)
        if data:
            pieces.append(data)
            size += len(data)
        next_offset = max(next_offset, first + 1)
        while at < len(deliveries) and deliveries[at].event.offset < next_offset:
            at += 1
        await call.rest()
    return pieces, []


def _spans(data: bytes) -> list[tuple[int, int]]:
    """First and last offset of each batch."""
    found, at = [], 0
    while at < len(data):
        base, length, delta = _BATCH.unpack_from(data, at)
        found.append((base, base + delta))
        at += 12 + length
    return found


def _cut(data: bytes, last: int) -> bytes:
    """Without the batches behind that of the last record."""
    at = 0
    while at < len(data):
        base, length, _ = _BATCH.unpack_from(data, at)
        if base > last:
            break
        at += 12 + length
    return data[:at]


def _within(deliveries: list[Delivery], spans: list[tuple[int, int]]) -> list[Delivery]:
    """Those that stand in one of the batches. Both are in order."""
    found, number = [], 0
    for delivery in deliveries:
        offset = delivery.event.offset
        while number < len(spans) and spans[number][1] < offset:
            number += 1
        if number < len(spans) and spans[number][0] <= offset:
            found.append(delivery)
    return found


def _ranges(deliveries: list[Delivery]) -> list[dict[str, Any]]:
    """Neighbours that were delivered as often are told together."""
    found: list[dict[str, Any]] = []
    for delivery in deliveries:
        offset, attempts = delivery.event.offset, min(delivery.attempts, 32_767)
        if found and found[-1]["last_offset"] == offset - 1 and found[-1]["delivery_count"] == attempts:
            found[-1]["last_offset"] = offset
        else:
            found.append({"first_offset": offset, "last_offset": offset, "delivery_count": attempts})
    return found
