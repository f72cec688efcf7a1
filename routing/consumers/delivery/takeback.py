"""What somebody held who has gone goes out again, in order, marked: at once when it is little, else a piece at a time.

Called by consumer.py, which hands out nothing meanwhile, so that nothing newer comes before it.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from routing.cursors.cursor import Cursor
    from routing.log.partition import Partition

AT_ONCE = 100               # deliveries that a consumer may have in flight: some 0.2 ms
PIECE = 500                 # of one step


class Holding(Protocol):
    """The consumer."""

    cursors: dict[Partition, Cursor]

    @property
    def returned_bytes_max(self) -> int: ...

    def hold(self, count: int, size: int) -> None: ...


def take_back(consumer: Holding, member: Any) -> Iterator[None]:
    for cursor in list(consumer.cursors.values()):
        count = size = 0
        for offset in [offset for offset, held in cursor.in_flight.items() if held.member is member]:
            delivery = cursor.in_flight.get(offset)
            if delivery is None or delivery.member is not member:
                continue                                # answered, or sought away, between two pieces
            del cursor.in_flight[offset]
            count += 1
            size += len(delivery.event.payload)
            cursor.again[offset] = cursor.returned(delivery.event, delivery.attempts + 1, consumer.returned_bytes_max)
            if count == PIECE:
                consumer.hold(-count, -size)
                count = size = 0
                yield
        consumer.hold(-count, -size)
