"""Counting: how far consumers are behind, counted in the log in small steps between the turns of the loop.

A count begins when somebody asks for the lag of a consumer that reads behind the tail, and afterwards the number is
kept up as events come and go (backlog.py). Until it is known, answers say that it is being counted. All consumers of
one partition that stand at the same place share one look at the log.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from routing.cursors.cursor import Cursor
from routing.errors import StorageError
from routing.log.cold import Cold

if TYPE_CHECKING:
    from routing.filters.interest import Interest
    from routing.log.partition import Partition
    from routing.log.tally import Tally

log = logging.getLogger(__name__)

STEP_S: Final = 0.002           # of one turn of the loop; a piece that was begun is finished: about as much again
STEPS_PER_TICK: Final = 5       # of every 50 ms: counting takes a fifth of the loop at most
PIECE_SCANNED: Final = 128      # events looked at at a time: half a millisecond where each has a topic of its own
PATTERNS_MAX: Final = 64        # filters of all who share a look that blocks are asked for
SLICE_TOPICS: Final = 128       # topics of which a consumer is asked at a time
STEP_COST_MAX: Final = 8_192    # events or topics of a turn, whatever the clock says

Entry = tuple[int, int, Cursor, "Interest"]


class Counting:
    """One per registry. Loop thread only."""

    def __init__(self, clock_s: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._clock_s = clock_s
        self._call_soon = call_soon
        self._heaps: dict[Partition, list[Entry]] = {}      # by place: who is furthest back is counted for first
        self._waiting: set[Cursor] = set()
        self._number = 0
        self._piece: _Piece | None = None
        self._steps_left = 0
        self._scheduled = False
        self._allowance = STEP_COST_MAX         # of work done within a request, until the next tick

    def __len__(self) -> int:
        """Cursors that wait for their count."""
        return len(self._waiting)

    def ask(self, interest: Interest, cursors: list[Cursor]) -> None:
        """Count for these cursors of one consumer. What takes little is known at once."""
        for cursor in cursors:
            if cursor not in self._waiting:
                self._waiting.add(cursor)
                self._put(cursor, interest)
        if self._allowance > 0:
            before_s = self._clock_s()
            self._allowance -= self._work(before_s + STEP_S, self._allowance)
            if self._clock_s() - before_s >= STEP_S:
                self._allowance = 0

    def tick(self) -> None:
        """Called every 50 ms."""
        self._allowance = STEP_COST_MAX
        self._steps_left = STEPS_PER_TICK
        self._schedule()

    def _schedule(self) -> None:
        if self._steps_left > 0 and not self._scheduled and (self._waiting or self._piece is not None):
            self._scheduled = True
            self._call_soon(self._step)

    def _go_on(self) -> None:
        """What it waited for has been read."""
        self._steps_left = max(self._steps_left, 1)
        self._schedule()

    def _step(self) -> None:
        self._scheduled = False
        self._steps_left -= 1
        self._work(self._clock_s() + STEP_S, STEP_COST_MAX)
        self._schedule()

    def _work(self, until_s: float, cost_max: int) -> int:
        """Go on until the time or the cost is reached. Returns the cost, in events and topics looked at."""
        cost = 0
        while cost < cost_max and (self._piece is not None or self._heaps):
            if self._piece is None:
                try:
                    self._piece, scanned = self._next_piece()
                except Cold as cold:
                    cold.when_read(self._go_on)
                    self._steps_left = 0
                    return cost_max
                except StorageError as error:           # tried again with the next tick
                    log.error("counting for consumers goes on later: %s", error)
                    self._steps_left = 0
                    return cost_max
                cost += scanned
            else:
                cost += SLICE_TOPICS
                if self._piece.slice():
                    for share in self._piece.done:
                        self._put(share.cursor, share.interest)
                    self._piece = None
            if self._clock_s() >= until_s:
                break
        return cost

    def _put(self, cursor: Cursor, interest: Interest) -> None:
        """Let it wait for its next piece, unless all is known."""
        backlog = cursor.backlog
        if not cursor.behind or backlog.is_known:
            self._waiting.discard(cursor)
            return
        self._number += 1
        place = backlog.looked_to if backlog.exact else backlog.counted_to
        heappush(self._heaps.setdefault(cursor.partition, []), (place, self._number, cursor, interest))

    def _next_piece(self) -> tuple[_Piece | None, int]:
        """Take those who wait at the first place of a partition, and look at the log for them. And what that cost."""
        partition, heap = next(iter(self._heaps.items()))
        del self._heaps[partition]
        place, _, cursor, interest = heappop(heap)
        if heap:
            self._heaps[partition] = heap               # behind the other partitions
        if not _waits_at(place, cursor):
            self._put(cursor, interest)                 # the reader, or a seek, has moved it meanwhile
            return None, 1
        if cursor.backlog.exact or interest.by_event:
            try:
                return None, look(cursor, interest)
            finally:
                self._put(cursor, interest)
        members = [_Share(cursor, interest)]
        others = []
        while heap and heap[0][0] == place:
            _, _, other, wanted = heappop(heap)
            if _waits_at(place, other) and not other.backlog.exact and not wanted.by_event:
                members.append(_Share(other, wanted))
            else:
                others.append((other, wanted))
        until = heap[0][0] if heap else partition.end_offset
        if not heap:
            self._heaps.pop(partition, None)
        for other, wanted in others:
            self._put(other, wanted)
        try:
            patterns: Collection[str] | None = interest.patterns
            if len(members) > 1:
                total = sum(len(share.interest.patterns) for share in members)
                patterns = {pattern for share in members for pattern in share.interest.patterns} if (
                    total <= PATTERNS_MAX) else None
            owed = any(share.cursor.owed for share in members)
            tally = partition.tally(place, until=until, max_scanned=PIECE_SCANNED, patterns=patterns,
                                    owed=owed, may_wait=True)
        except StorageError:
            for share in members:
                self._put(share.cursor, share.interest)
            raise
        return _Piece(tally, members), tally.scanned


def _waits_at(place: int, cursor: Cursor) -> bool:
    backlog = cursor.backlog
    return cursor.behind and not backlog.is_known and place == (
        backlog.looked_to if backlog.exact else backlog.counted_to)


class Count:
    """How many events a consumer would find from other places than its own on. Owned by who asked."""

    def __init__(self, counting: Counting, interest: Interest, positions: dict[Partition, int]) -> None:
        self._cursors = [Cursor(partition, position) for partition, position in positions.items()]
        counting.ask(interest, [cursor for cursor in self._cursors if cursor.behind])

    @property
    def exact(self) -> bool:
        return all(cursor.backlog.exact or not cursor.behind for cursor in self._cursors)

    @property
    def events(self) -> int:
        """As many as were found so far."""
        return sum(cursor.backlog.events for cursor in self._cursors)

    def close(self) -> None:
        """Nobody wants to know any more."""
        for cursor in self._cursors:
            cursor.behind = False


class _Share:
    """One of those for whom a piece is counted. epoch and place: its count is as it was when the piece was taken."""

    __slots__ = ("cursor", "epoch", "interest", "place")

    def __init__(self, cursor: Cursor, interest: Interest) -> None:
        self.cursor = cursor
        self.interest = interest
        self.epoch = cursor.backlog.epoch
        self.place = cursor.backlog.counted_to

    def add(self, count: int, next_offset: int) -> None:
        backlog = self.cursor.backlog
        if (backlog.epoch, backlog.counted_to, backlog.exact) == (self.epoch, self.place, False):
            backlog.counted(count, next_offset)


class _Piece:
    """A look at the log, and those for whom it is being counted."""

    __slots__ = ("_index", "_items", "_left", "_sum", "_tally", "done")

    def __init__(self, tally: Tally, members: list[_Share]) -> None:
        self._tally = tally
        self._items = list(tally.counts.items())
        self._left = members
        self._index = 0
        self._sum = 0
        self.done: list[_Share] = []

    def slice(self) -> bool:
        """Ask one consumer for some topics. True when all were asked for all."""
        share = self._left[-1]
        wants = share.interest.wants
        exact = share.interest.exact_topics
        if self._index == 0 and exact is not None and len(exact) <= len(self._items):
            counts = self._tally.counts
            self._sum = sum([counts[topic] for topic in exact if topic in counts and wants(topic)])
            self._index = len(self._items)
        else:
            part = self._items[self._index:self._index + SLICE_TOPICS]
            self._sum += sum([count for topic, count in part if wants(topic)])
            self._index += SLICE_TOPICS
        if self._index >= len(self._items):
            share.add(self._sum, self._tally.next_offset)
            self.done.append(self._left.pop())
            self._index = self._sum = 0
        return not self._left


def look(cursor: Cursor, interest: Interest) -> int:
    """Look at each event of a piece: for the first that is wanted, or to count where not all filters reach back."""
    backlog = cursor.backlog
    partition = cursor.partition
    count_all = not backlog.exact
    start = backlog.counted_to if count_all else backlog.looked_to
    found = cursor.scan(
        start, interest.wants, max_events=PIECE_SCANNED if count_all else 1, max_scanned=PIECE_SCANNED,
        patterns=interest.patterns, may_wait=True)
    wanted = [event for event in found.events if interest.wants_event(event) and event.offset not in cursor.passed_by]
    if count_all:
        backlog.counted(len(wanted), found.next_offset)
    elif wanted:
        backlog.looked(wanted[0].offset, wanted[0].timestamp_ms)
    elif found.next_offset >= partition.end_offset:
        backlog.looked(found.next_offset, partition.segments[-1].max_timestamp)     # taken away meanwhile
    else:
        backlog.looked(found.next_offset, None)
    return max(found.scanned, 1)
