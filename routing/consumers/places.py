"""Places: where a consumer stands, a cursor for each partition, and from where its newer filters count."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from routing.cursors.cursor import Cursor
from routing.event import Event

if TYPE_CHECKING:
    from routing.filters.interest import Interest
    from routing.log.partition import Partition


class Places:
    """Of one consumer. Loop thread only. What is in flight or waits at a place is forgotten when the place changes."""

    __slots__ = ("_interest", "cursors")

    def __init__(self, interest: Interest) -> None:
        self._interest = interest
        self.cursors: dict[Partition, Cursor] = {}

    def seek(self, positions: dict[Partition, int]) -> None:
        """Go on from these offsets; all filters count from there on."""
        for partition, position in positions.items():
            if partition in self.cursors:
                self.cursors[partition].restart(position)
        self._interest.fresh.clear()

    def move(self, positions: dict[Partition, int], *, owed: bool) -> None:
        """The same for partitions that may be new; filters count there as they did. owed: see Cursor."""
        for partition, position in positions.items():
            cursor = self.cursors.get(partition)
            if cursor is None:
                cursor = self.cursors[partition] = Cursor(partition, position, owed=owed)
            cursor.restart(position)
            self._forget_fresh_of(partition)

    def let_go_of(self, gone: Iterable[Partition]) -> bool:
        """These partitions are deleted. False: it read none of them."""
        mine = [partition for partition in gone if partition in self.cursors]
        for partition in mine:
            _end(self.cursors.pop(partition))
            self._forget_fresh_of(partition)
        return bool(mine)

    def end(self) -> None:
        for cursor in self.cursors.values():
            _end(cursor)

    def count_anew(self) -> None:
        """What stands in the log behind the positions may be wanted now, or not any more."""
        for cursor in self.cursors.values():
            cursor.backlog.restart(cursor.position)

    def drop_waiting(self, unwanted: Callable[[Event], bool]) -> None:
        """Of what was never delivered."""
        for cursor in self.cursors.values():
            cursor.drop_waiting(unwanted)

    def drop(self, unwanted: Callable[[Event], bool]) -> None:
        """Of what waits in memory, to be delivered again as well."""
        for cursor in self.cursors.values():
            cursor.drop(unwanted)

    def have_passed(self, places: dict[Partition, int]) -> bool:
        """Is everything read that was below these?"""
        return all(
            cursor.has_passed(offset) for partition, offset in places.items()
            if (cursor := self.cursors.get(partition)) is not None)

    def forget_fresh(self) -> None:
        """Once everything older than the newest filter is read, the filters are all alike."""
        fresh = self._interest.fresh
        if fresh and all(not cursor.behind for cursor in self.cursors.values()) and all(
                offset <= self.cursors[partition].next_wanted
                for since in fresh.values() for partition, offset in since.items() if partition in self.cursors):
            fresh.clear()

    def refused(self, partition: Partition) -> bool:
        """No filter counts from behind what is on disk: that was refused. False: none did."""
        found = False
        for pattern, since in self._interest.fresh.items():
            if since.get(partition, 0) > partition.high_watermark:
                since[partition] = partition.high_watermark
                self._interest.unstored[pattern] = None
                found = True
        return found

    def in_flight(self) -> tuple[int, int]:
        """How many deliveries, and payload bytes. Looks at each."""
        held = [delivery for cursor in self.cursors.values() for delivery in cursor.in_flight.values()]
        held += [delivery for cursor in self.cursors.values() if cursor.unsynced is not None
                 for delivery in cursor.unsynced.out.values()]
        return len(held), sum(len(delivery.event.payload) for delivery in held)

    def _forget_fresh_of(self, partition: Partition) -> None:
        for since in self._interest.fresh.values():
            since.pop(partition, None)


def _end(cursor: Cursor) -> None:
    cursor.restart(cursor.position)
    cursor.behind = False                               # nothing is left to count
