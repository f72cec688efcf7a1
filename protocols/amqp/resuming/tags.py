"""Tags: a delivery-tag that says which event of which queue it stands for, so that it can be settled after a crash.

    8 bytes  of a hash of the log's epoch, the queue and the stream
    4        generation of the queue's consumer, which a seek moves on
    8 offset · 2 partition · 2 attempt

What a killed node had sent stands in its queue. A receiver that comes back with "accepted" for such a tag has done it,
and the event is not delivered again. It is no signature, whoever reads the queue can write one: so it settles only what
nobody has, or what is held for the link that says it. What another member is busy with stays his.
"""
from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING

from routing.consumers.leases import ack_place, reject_place
from routing.cursors.delivery import Delivery
from routing.queues.memory import MEMORY
from routing.queues.queue import Queue

if TYPE_CHECKING:
    from routing.log.partition import Partition

_PLACE = struct.Struct(">IQHH")
_HASH_BYTES = 8
_U32, _U16 = 0xFFFFFFFF, 0xFFFF


class Tags:
    """Writes and reads those of one queue."""

    __slots__ = ("_hashes", "_queue", "_seed")

    def __init__(self, epoch: str, queue: Queue) -> None:
        self._queue = queue
        self._seed = f"{epoch}\0{queue.name}\0"
        self._hashes: dict[str, bytes] = {}

    def write(self, delivery: Delivery) -> bytes:
        event = delivery.event
        partition = event.partition
        return self._hash_of(partition.stream) + _PLACE.pack(
            self._queue.consumer.generation & _U32, event.offset, partition.index & _U16,
            min(delivery.attempts, _U16))

    def _hash_of(self, stream: str) -> bytes:
        known = self._hashes.get(stream)
        if known is None:
            known = self._hashes[stream] = blake2b((self._seed + stream).encode(), digest_size=_HASH_BYTES).digest()
        return known

    def _read(self, tag: bytes) -> tuple[Partition, int, int] | None:
        """Partition, offset, attempt. None: it is none of this queue, or its place does not count any more."""
        if len(tag) != _HASH_BYTES + _PLACE.size:
            return None
        generation, offset, index, attempt = _PLACE.unpack_from(tag, _HASH_BYTES)
        if generation != self._queue.consumer.generation & _U32:
            return None
        for partition in self._queue.consumer.cursors:
            stream = partition.stream
            if partition.index == index and stream != MEMORY and tag.startswith(self._hash_of(stream)):
                return partition, offset, attempt
        return None

    def _to_settle(self, tag: bytes, holder: object) -> tuple[Partition, int, int] | None:
        """As _read(). None, too: somebody other than holder has it in flight."""
        place = self._read(tag)
        if place is None:
            return None
        delivery = self._queue.consumer.cursors[place[0]].in_flight.get(place[1])
        return place if delivery is None or delivery.member is holder else None

    def accepted(self, tag: bytes, holder: object) -> None:
        """Whoever had it has done it. holder: what the link that says so has taken over."""
        place = self._to_settle(tag, holder)
        if place is not None:
            ack_place(self._queue.consumer, *place[:2])

    def rejected(self, tag: bytes, holder: object) -> None:
        place = self._to_settle(tag, holder)
        if place is not None:
            reject_place(self._queue.consumer, *place)
