"""Outlet: what one other node pulls of one of our partitions. Soft state: the cursor lives at the destination.

    confirmed ─── under way, at most window_bytes ─── sent ─── looked at, nothing wanted ─── position      end
                                                                                             └ Feed ──────► tail

A Batch covers everything from `sent` to where the Feed has looked, so progress costs nothing where nothing is wanted.
At the tail a commit is sent at once; behind it the log is read in steps, one per turn of the loop.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.link.protocol.frames import PRIORITY_DATA
from mesh.replication.bodies import EVENTS_MAX
from mesh.replication.filters import END, Selection
from mesh.replication.messages import BY_TIME, EARLIEST, TIME_MAX_MS, UNKNOWN, Batch, Problem, Pull, Trouble, Want
from mesh.replication.outgoing.whole import Whole
from routing.errors import StorageError
from routing.event import Event, is_expired
from routing.log.cold import Cold
from routing.replicas.feed import Feed
from routing.topic import filter_matches

if TYPE_CHECKING:
    from mesh.replication.outgoing.hold import Place
    from mesh.replication.outgoing.sending import Sending
    from routing.log.partition import Partition

log = logging.getLogger(__name__)

TIMES_AT_ONCE: Final = 32       # of filters by time: so many are looked up in the log per turn, some 3 ms
SCAN_STEP: Final = 8_192        # records looked at per turn, some 10 ms at the worst, so that others are served
FRAME_BYTES: Final = 64         # of a batch without a body, for the window
PROGRESS_S: Final = 1.0         # mere progress of looking is told this often
PROBE_LEAST_S: Final = 0.1      # silence of a destination after which we say how far we got, doubled up to
PROBE_MOST_S: Final = 5.0


class Parcel:
    """A batch with what is to be known of it while it is under way."""

    __slots__ = ("batch", "events", "first_ms", "next", "size")

    def __init__(self, batch: Batch | None, next_offset: int, size: int, events: int, first_ms: int) -> None:
        self.batch = batch                      # None once it is sent: the log has it, if need be
        self.next = next_offset
        self.size = size
        self.events = events
        self.first_ms = first_ms                # append time of its first event, 0 when it has none


class Outlet:
    """See the module's head. Loop thread only."""

    def __init__(self, sending: Sending, node: str, partition: Partition, pull: Pull) -> None:
        self.node = node
        self.partition = partition
        self.token = pull.token
        self.flow = pull.flow
        self.heard_s = sending.clock_s()
        self.sent = 0                           # next offset of the last batch that was sent
        self.confirmed = 0                      # durable there
        self.events = 0
        self.bytes = 0
        self.lost = 0                           # offsets that retention removed first
        self.expired = 0
        self.hold = pull.hold
        self.filters_bytes = 0                  # of memory, of account
        self.account = ""
        self.exports: tuple[str, ...] = ()      # of the link that led there when the filters were taken
        self.trouble = ""
        self.is_open = True
        self._sending = sending
        self._attempt = 0
        self._sequence = 0
        self._version = 0
        self._window = 0
        self._resolved: dict[str, int] = {}     # since of filters that came without one
        self._times: dict[int, int] = {}        # of filters by time, for the Pull that is being taken: ms → offset
        self._waiting: Pull | None = None       # the latest that came while times are looked up
        self._looking_up = False
        self._told: list[tuple[str, int]] = []  # those of the version now
        self._lost_untold = 0
        self._echo = 0
        self._under_way: deque[Parcel] = deque()
        self._under_way_bytes = 0
        self._unsent: Parcel | None = None
        self._acknowledged = 0                  # start of the last Pull
        self._probe_s = PROBE_LEAST_S
        self._said_s = self.heard_s
        self._scheduled = False
        self._takes_stored = False
        self._whole = Whole(sending.router, partition)
        self.selection = Selection((), memory=sending.caches)
        self.feed = Feed(sending.router, partition, 0, self._wants, self.wake)

    @property
    def place(self) -> Place:
        """What it is at the destination's side of hold.py."""
        return self.partition.origin_name, self.partition.index, self.flow

    def close(self) -> None:
        self.is_open = False
        self.feed.close()
        self.selection.let_go()
        self.selection = Selection((), memory=self._sending.caches)     # no collection has to free what it wanted
        self._waiting = self._unsent = None
        self._resolved, self._times, self._told = {}, {}, []

    def _wants(self, topic: str) -> bool:
        return self.selection.wants_from(topic, self.feed.position)

    # -- what the destination says ------------------------------------------------------------------------------

    def on_pull(self, pull: Pull) -> None:
        """Cumulative: acknowledges, gives credit, changes filters, rewinds. Many times are looked up in steps first."""
        if self._looking_up:
            if self._waiting is None or pull.sequence > self._waiting.sequence:
                self._waiting = pull
            return
        times = self._new_times(pull)
        if len(times) > TIMES_AT_ONCE:
            self._looking_up = True
            self._sending.look_up(self, self._look_up(times, pull))
        else:
            self._take(pull)

    def _new_times(self, pull: Pull) -> set[int]:
        if pull.wants is None or pull.version <= self._version:
            return set()
        return {want.since_ms for want in pull.wants if want.since == BY_TIME and want.filter not in self._resolved}

    def _look_up(self, times: set[int], pull: Pull) -> Iterator[None]:
        """Where the log was at each of these times; a step is TIMES_AT_ONCE of them. What is appended meanwhile came
        later than that, so it changes no answer.
        """
        for count, since_ms in enumerate(times, 1):
            self._times[since_ms] = self.partition.offset_for_time(since_ms)
            if count % TIMES_AT_ONCE == 0:
                yield
                if not self.is_open:
                    return
        self._looking_up = False
        self._take(pull)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and self.is_open:
            self.on_pull(waiting)

    def _take(self, pull: Pull) -> None:
        if pull.sequence <= self._sequence or pull.version < self._version or pull.attempt < self._attempt:
            return                                      # overtaken by a later one
        end = self.partition.end_offset
        if pull.start > end or (pull.start < 0 and pull.start != UNKNOWN) or not 0 <= pull.confirmed <= end:
            self._sending.send(self.node, Problem(
                self.token, Trouble.BAD_PULL, f"from {pull.start}, but this log ends at {end}"), PRIORITY_DATA)
            return
        if pull.version > self._version:
            if pull.wants is None:
                self._sending.send(self.node, Problem(self.token, Trouble.UNKNOWN_FLOW), PRIORITY_DATA)
                return
            self._take_wants(pull, pull.wants)
        self._sequence = pull.sequence
        self.heard_s = self._sending.clock_s()
        self._acknowledged = pull.start
        self._probe_s = max(PROBE_LEAST_S, 2 * pull.rtt_ms / 1000)
        self._window = min(pull.window_bytes, self._sending.limits.window_bytes)
        self.hold = pull.hold
        self._takes_stored = pull.stored
        self._position(pull)
        if pull.ask:
            self._echo = pull.sequence
        self.pump()

    def _position(self, pull: Pull) -> None:
        start = pull.start
        if start == UNKNOWN:                            # it has nothing yet: every answer begins at the beginning
            start = min(self.selection.next_from(0), self.partition.end_offset)
        if pull.attempt > self._attempt or pull.start == UNKNOWN or start > self.sent:
            self._attempt = pull.attempt
            self.sent = self.feed.position = start
            self._unsent = None
            self._lost_untold = 0
            self._under_way.clear()
            self._under_way_bytes = 0
        self.confirmed = max(self.confirmed, pull.confirmed)
        while self._under_way and self._under_way[0].next <= pull.confirmed:
            self._under_way_bytes -= self._under_way.popleft().size
        if self.hold and pull.start != UNKNOWN:
            self._sending.hold.confirmed(self.node, self.place, self.selection, self.confirmed)

    def _take_wants(self, pull: Pull, wants: list[Want]) -> None:
        """A new version of the filters. Those without a since get one, and keep it until the destination says it."""
        self._version = pull.version
        self._told = []
        resolved: list[Want] = []
        memory, self._resolved = self._resolved, {}
        for want in wants:
            since = want.since
            if since < 0:
                since = memory.get(want.filter, -1)
                if since < 0:
                    since = self._resolve(want, pull)
                self._resolved[want.filter] = since
            if want.since < 0 or pull.start == UNKNOWN:
                self._told.append((want.filter, since))
            resolved.append(Want(want.filter, since, want.until))
        self._times.clear()
        self.exports = self._sending.exports_to(self.node)
        only = [patterns for patterns in (pull.only, self.exports) if patterns]
        self.selection.let_go()
        self.selection = Selection(resolved, pull.excludes, only, self._sending.caches)
        if self.feed.position > self.sent:
            self.feed.position = self.sent              # what was looked at and not sent counts by the new filters
        self._unsent = None

    def _resolve(self, want: Want, pull: Pull) -> int:
        """Where a filter counts from. It reaches back to its time, but not before what was sent without it."""
        first = pull.start == UNKNOWN                   # nothing was sent
        if want.since == EARLIEST and first:
            return self.partition.start_offset
        if want.since != BY_TIME:
            return self.partition.end_offset
        goes_back = pull.attempt > self._attempt or pull.start > self.sent
        sent = self.partition.start_offset if first else pull.start if goes_back else self.sent
        if sent >= self.partition.end_offset:
            return self.partition.end_offset
        found = self._times.get(want.since_ms)
        if found is None:
            found = self._times[want.since_ms] = self.partition.offset_for_time(want.since_ms)
        return max(found, sent, self.partition.start_offset)

    # -- events out -------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was committed, or there is room again."""
        if not self._scheduled:
            self.pump()

    def pump(self) -> None:
        """Send what the window allows, one step of the log at a time."""
        self._scheduled = False
        budget = SCAN_STEP
        while self._version and (not self._under_way or self._under_way_bytes < self._window):
            if self._unsent is not None:
                if not self._send(self._unsent):
                    break
                continue
            self._skip()
            if self.feed.at_tail or self.feed.position >= self.selection.stop():
                break
            if budget <= 0:
                self._scheduled = True
                self._sending.next_turn(self)
                return
            before = self.feed.position
            try:
                topic = self._whole.topic(self.selection, before) if self._takes_stored else ""
                self._unsent = self._take_whole(topic) if topic else self._take_opened(budget)
            except Cold as cold:
                cold.when_read(self.wake)
                break
            except StorageError as error:
                self.trouble = str(error)
                self._sending.stalled(self)
                break
            moved = self.feed.position - before
            budget = budget - moved if moved else 0     # not moved: a large batch is being opened, or looked at
        if self._echo:
            self.say()

    def _take_whole(self, topic: str) -> Parcel | None:
        """Stored batches, as they are, from where the feed stands; it goes on behind them."""
        taken = self._whole.take(self.feed.position, self._sending.limits.batch_bytes)
        self.feed.position = taken.next
        if not taken.batches:
            return None
        batch = msgspec.structs.replace(self._draw(taken.next, b"".join(taken.batches), taken.first_ms), topic=topic)
        return Parcel(batch, taken.next, len(batch.body) + FRAME_BYTES, taken.events, taken.first_ms)

    def _take_opened(self, budget: int) -> Parcel | None:
        """Events that are wanted."""
        before = self.feed.position
        until = self._whole.opened_until if self._takes_stored and self._whole.opened_until > before else END
        events, _ = self.feed.take(max_events=EVENTS_MAX, max_bytes=self._sending.limits.batch_bytes,
                                   max_scanned=budget, until=until)
        events = self._filter(events, before)
        return self._parcel(events) if events else None

    def say(self) -> None:
        """Tell how far we got, without events."""
        if self._unsent is None:
            self._send(self._parcel([]))
        else:
            self._send(Parcel(self._draw(self.sent, b"", 0), self.sent, 0, 0, 0))

    def _skip(self) -> None:
        """Past what nobody can want: what retention removed, and offsets before any filter counts."""
        position = self.feed.position
        start = self.partition.start_offset
        if position < start:
            gone = start - max(position, self.selection.next_from(position))
            if gone > 0:
                self.lost += gone
                self._lost_untold += gone
                log.warning("%s/%d: retention removed %d offsets before node %s had them",
                            self.partition.stream, self.partition.index, gone, self.node)
            position = start
        wanted = self.selection.next_from(position)
        if wanted > position:
            position = min(wanted, self.partition.end_offset)
        self.feed.position = max(self.feed.position, position)

    def _filter(self, events: list[Event], position: int) -> list[Event]:
        """Less what is not wanted at its offset, and what has expired meanwhile."""
        if self.selection.steady_from() > position:
            wants = self.selection.wants_event
            events = [event for event in events if wants(event.topic, event.offset)]
        if any(event.properties is not None for event in events):
            now_ms = self._sending.clock_ms()
            kept = [event for event in events if not is_expired(event, now_ms)]
            self.expired += len(events) - len(kept)
            events = [event for event in kept if _may_go(event, self.exports)] if self.exports else kept
        return events

    def _parcel(self, events: list[Event]) -> Parcel:
        body = self._sending.encoder.encode(events) if events else b""
        position = max(self.feed.position, self.sent)
        first_ms = events[0].timestamp_ms if events else 0
        return Parcel(self._draw(position, body, first_ms), position, len(body) + FRAME_BYTES, len(events), first_ms)

    def _draw(self, position: int, body: bytes, first_ms: int) -> Batch:
        end = max(self.partition.end_offset, position)
        first_ms = next((parcel.first_ms for parcel in self._under_way if parcel.first_ms), first_ms)
        lag_ms = min(max(0, self._sending.clock_ms() - first_ms), TIME_MAX_MS) if first_ms else 0
        return Batch(
            self.token, self._attempt, self._version, self._echo, self.sent, position, self.partition.start_offset,
            end, position >= self.selection.stop(), self._lost_untold, self._told, lag_ms, body,
        )

    def _send(self, parcel: Parcel) -> bool:
        """False: no room on the link, or no way; a parcel with events waits."""
        batch = parcel.batch
        assert batch is not None
        if self._sending.exports_to(self.node) != self.exports:     # it would say of what nobody looked at for this way
            self._sending.stalled(self)                             # that nothing is wanted: see Outlets._is_narrowed
            return False
        if self._echo != batch.echo:
            batch = msgspec.structs.replace(batch, echo=self._echo)
        if not self._sending.send(self.node, batch, PRIORITY_DATA):
            self._sending.stalled(self)
            return False
        if parcel is self._unsent:
            self._unsent = None
        self._echo = 0
        self._lost_untold = 0
        self.trouble = ""
        if batch.next > batch.start:
            parcel.batch = None
            self._under_way.append(parcel)
            self._under_way_bytes += parcel.size
            self.events += parcel.events
            self.bytes += len(batch.body)
            self.sent = batch.next
        self._said_s = self._sending.clock_s()
        return True

    # -- time -------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        if self._unsent is None and self.feed.position > self.sent and now_s - self._said_s >= PROGRESS_S:
            self.say()
        elif self.sent > self._acknowledged and now_s - max(self._said_s, self.heard_s) >= self._probe_s:
            self._probe_s = min(self._probe_s * 2, PROBE_MOST_S)    # the last batch may be lost, which nobody notices
            self.say()

    # -- for operators ----------------------------------------------------------------------------------------

    @property
    def under_way_events(self) -> int:
        return sum(parcel.events for parcel in self._under_way)


def _may_go(event: Event, exports: tuple[str, ...]) -> bool:
    """A dead letter goes no further than its original may."""
    mark = event.properties.dead_letter if event.properties is not None else None
    return mark is None or all(any(filter_matches(pattern, topic) for pattern in exports) for topic in mark.topics)
