"""The usage record on disk: what routing/rights/usage.py has counted, a bucket of ten minutes at a time.

    $usage/0   [bucket begins ms, [[user, roles, client, protocol, action, topic, allowed, rule, count, first, last] …]]

Written in groups, never per message; kept for a week. A node that is killed loses the bucket that was open.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from routing.event import Event
from routing.rights.rules import Action
from routing.rights.usage import Tally, Usage, Use
from routing.ticket import Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.log.partition import Partition

log = logging.getLogger(__name__)

STREAM: Final = "$usage"
BUCKET_MS: Final = 600_000
KEPT_MS: Final = 7 * 86_400_000
KEPT_BYTES: Final = 256 * 1024 * 1024
ROWS_PER_EVENT: Final = 256
EVENTS_PER_TICK: Final = 4          # some 1,000 rows: 2 ms
USES_PER_TURN: Final = 2_000        # of those in memory: 3 ms
SYNC_WAIT_S: Final = 2.0            # for what is being written while somebody asks; then the answer goes without it
SYNC_LOOK_S: Final = 0.005
MERGED_MAX: Final = 200_000         # distinct uses that are looked at together: a simulation of 10 s or so

Row = tuple[str, tuple[str, ...], str, str, str, str, bool, str, int, int, int]
Merged = dict[Use, Tally]


class UsageLog:
    """One per node. Loop thread only."""

    def __init__(self, partition: Partition, usage: Usage, clock_ms: Callable[[], int],
                 request_turn: Callable[[], None]) -> None:
        self._partition = partition
        self._usage = usage
        self._clock_ms = clock_ms
        self._request_turn = request_turn
        self._begun_ms = clock_ms()
        self._waiting: deque[tuple[Use, Tally]] = deque()
        self._waiting_of_ms = 0
        self.lost = 0                               # uses that the disk would not take

    def tick(self) -> None:
        """Every 50 ms."""
        now_ms = self._clock_ms()
        if now_ms - self._begun_ms >= BUCKET_MS and not self._waiting:
            self.close_bucket()
        if self._waiting:
            self._write(EVENTS_PER_TICK)

    def close_bucket(self) -> None:
        self._usage.drain()
        self._waiting.extend(self._usage.take().items())
        self._waiting_of_ms, self._begun_ms = self._begun_ms, self._clock_ms()

    def stop(self) -> None:
        """The node stops: what is counted goes to disk with everything else."""
        self.close_bucket()
        while self._waiting:
            self._write(EVENTS_PER_TICK)

    def _write(self, events_max: int) -> None:
        events = []
        for _ in range(events_max):
            rows: list[Row] = []
            while self._waiting and len(rows) < ROWS_PER_EVENT:
                use, tally = self._waiting.popleft()
                rows.append((use.user, use.roles, use.client_id, use.protocol, use.action.value, use.topic, use.allowed,
                             use.rule, tally.count, tally.first_ms, tally.last_ms))
            if rows:
                events.append(Event(topic="usage", payload=msgspec.msgpack.encode((self._waiting_of_ms, rows))))
        ticket = Ticket(events)
        self._partition.append(events, ticket)
        ticket.part_done()
        ticket.on_done(self._written)
        self._request_turn()

    def _written(self, ticket: Ticket) -> None:
        if ticket.refusals:
            self.lost += ROWS_PER_EVENT * len(ticket.refusals)
            log.warning("the usage record could not be stored: %s", next(iter(ticket.refusals.values())).text)

    async def merged(self, from_ms: int) -> tuple[Merged, bool]:
        """Every distinct use since then, and whether there were too many of them.

        Counted in whole buckets: of one that was open at that moment all is in it. close_bucket() makes an edge.
        """
        self._usage.drain()
        found: Merged = {}
        partition = self._partition
        end = partition.next_offset             # what is written from now on is still in memory, and counted there
        for number, (use, tally) in enumerate([*self._waiting, *self._usage.uses.items()], 1):
            if tally.last_ms > from_ms:
                _add(found, use, tally.count, tally.first_ms, tally.last_ms)
            if number % USES_PER_TURN == 0:
                await asyncio.sleep(0)
        await self._synced(end)
        offset = partition.start_offset
        while offset < min(end, partition.end_offset):
            scanned = partition.scan(offset, lambda _: True, max_events=EVENTS_PER_TICK, max_scanned=EVENTS_PER_TICK)
            for event in scanned.events:
                if event.offset < end:
                    self._read(event, from_ms, found)
            offset = max(scanned.next_offset, offset + 1)
            await asyncio.sleep(0)
        return found, len(found) >= MERGED_MAX

    async def _synced(self, end: int) -> None:
        """What was handed to the disk can be read only when it is there: in neither place it would be in no answer."""
        until_s = time.monotonic() + SYNC_WAIT_S
        while self._partition.end_offset < end and time.monotonic() < until_s:
            await asyncio.sleep(SYNC_LOOK_S)

    def _read(self, event: Event, from_ms: int, found: Merged) -> None:
        if event.timestamp_ms < from_ms:
            return
        try:
            _, rows = msgspec.msgpack.decode(event.payload, type=tuple[int, list[Row]])
        except msgspec.MsgspecError as error:
            log.warning("a part of the usage record cannot be read and is passed over: %s", error)
            return
        for user, roles, client_id, protocol, action, topic, allowed, rule, count, first_ms, last_ms in rows:
            if last_ms > from_ms and action in _ACTIONS:
                use = Use(user, roles, client_id, protocol, _ACTIONS[action], topic, allowed, rule)
                _add(found, use, count, first_ms, last_ms)


_ACTIONS = {action.value: action for action in Action}


def _add(found: Merged, use: Use, count: int, first_ms: int, last_ms: int) -> None:
    tally = found.get(use)
    if tally is None:
        if len(found) >= MERGED_MAX:
            return
        tally = found[use] = Tally(first_ms)
    tally.count += count
    tally.first_ms, tally.last_ms = min(tally.first_ms, first_ms), max(tally.last_ms, last_ms)
