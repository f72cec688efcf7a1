"""Branch: all flows of one origin partition: the live one, and one back-fill of history at a time.

What both have brought stands in the History of the live flow. A back-fill is for offsets below the live flow's floor
only: there every interval is settled for good, so what it must leave out (excludes) can be written down when it begins.
Then it needs nothing more than its own note, over crashes too.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from mesh.replication.filters import History, stop_of
from mesh.replication.incoming.flow import Flow, State
from mesh.replication.incoming.pulling import Pulling
from mesh.replication.messages import BY_TIME, EARLIEST, Want
from mesh.topology.interest.covering import Covering
from routing.event import OriginPartition
from routing.topic import filter_covers

if TYPE_CHECKING:
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

LATE_MS: Final = 1_000          # a filter that counted sooner after the wish was not late: questions take their time

class LiveNote(msgspec.Struct, array_like=True):
    """Stored with the live flow. timed: (filter, ms) of back-fills by time that are done; late: see Branch.late."""

    intervals: list[Want]
    horizon: int
    next_number: int
    timed: list[tuple[str, int]] = []
    late: list[Want] = []


class BackfillNote(msgspec.Struct, array_like=True):
    """Stored with a back-fill."""

    intervals: list[Want]
    excludes: list[Want]
    timed: list[tuple[str, int]] = []


class Branch:
    def __init__(self, pulling: Pulling, origin: OriginPartition) -> None:
        self.origin = origin
        self.live = Flow(pulling, self, origin, 0)
        self.backfill: Flow | None = None
        self.backfilled = 0                     # events
        self.late: list[Want] = []              # wanted by time before `until`, where the live flow begins to bring it
        self._pulling = pulling
        self._next_number = 1
        self._timed: dict[str, int] = {}        # filter → back-filled from this time on, ever since it counts
        self._timed_under_way: list[tuple[str, int]] = []
        self._horizon_told = False

    def open(self) -> None:
        """Bring the flows back as they are stored."""
        history = self.stored_history()
        self._pulling.replicas.open(self.origin, 0, lambda floor: self.live.opened(floor, history))
        for origin, number in self._pulling.replicas.flows_of(self.origin.node, self.origin.stream):
            if number and origin == self.origin:
                self._reopen(number)

    def stored_history(self) -> History:
        note = self._pulling.replicas.get_note(self.origin, 0)
        if not note:
            return History()
        stored = msgspec.msgpack.decode(note, type=LiveNote)
        self._next_number = stored.next_number
        self._timed = {}
        self._met(stored.timed)
        self.late = stored.late
        return History(stored.intervals, stored.horizon)

    def _reopen(self, number: int) -> None:
        replicas = self._pulling.replicas
        self._next_number = max(self._next_number, number + 1)
        flow = self._stored_backfill(number)
        if flow is None:
            replicas.forget(self.origin, number)        # the crash came before it began
            return
        history = flow.history
        self._pulling.add(flow)
        replicas.open(self.origin, number, lambda floor: flow.opened(floor, history))

    def _stored_backfill(self, number: int) -> Flow | None:
        """It stands in self.backfill from here on. None: it had not begun, or another one is there."""
        replicas = self._pulling.replicas
        note = replicas.get_note(self.origin, number)
        if not note or replicas.floor(self.origin, number) is None or self.backfill is not None:
            return None
        stored = msgspec.msgpack.decode(note, type=BackfillNote)
        flow = self.backfill = Flow(self._pulling, self, self.origin, number, [], stored.excludes)
        flow.filters.history = History(stored.intervals)
        self._timed_under_way = stored.timed
        return flow

    def restore(self) -> None:
        """For missing() only: what is stored, without anything that is pulled."""
        self.live.filters.history = self.stored_history()
        for origin, number in self._pulling.replicas.flows_of(self.origin.node, self.origin.stream):
            if number and origin == self.origin:
                self._stored_backfill(number)

    def close(self, *, forget: bool) -> None:
        for flow in (self.live, self.backfill):
            if flow is not None:
                flow.close(forget=forget)
                self._pulling.drop(flow)

    def flows(self) -> list[Flow]:
        return [self.live] if self.backfill is None else [self.live, self.backfill]

    # -- notes ------------------------------------------------------------------------------------------------

    def put_note(self, flow: Flow) -> Ticket:
        if flow.number:
            note: LiveNote | BackfillNote = BackfillNote(
                flow.history.intervals, flow.filters.excludes, self._timed_under_way)
        else:
            self._compact()
            note = LiveNote(
                flow.history.intervals, flow.history.horizon, self._next_number, sorted(self._timed.items()), self.late)
        return self._pulling.replicas.put_note(self.origin, flow.number, msgspec.msgpack.encode(note))

    def _compact(self) -> None:
        history = self.live.history
        if history.compact(self.live.first, self._pulling.limits.history_max):
            log.warning("%s: too many changes of filters to remember; history below offset %d cannot be brought any "
                        "more ([replication] history_max)", self.origin.text, history.horizon)

    # -- back-fills -------------------------------------------------------------------------------------------

    def counts(self, asked: Want, since: int, *, first: bool) -> None:
        """See flow.Owner."""
        now_ms = self._pulling.clock_ms() + self._pulling.skew_ms(self.origin.node)
        if asked.since == BY_TIME and not first and now_ms - asked.since_ms > LATE_MS:
            self.add_late(asked, since)
        self._pulling.on_counts(self.origin.node)

    def add_late(self, asked: Want, since: int) -> None:
        """The live flow brings a filter from offset `since` on, though it was wanted earlier. Stored with its note."""
        if self.live.history.missing(asked.filter, self.live.first, since):
            self.late.append(Want(asked.filter, BY_TIME, since, asked.since_ms))

    def plan(self, needs: list[Want]) -> None:
        """Begin, or give up, a back-fill. Called when filters or needs have changed, and now and then."""
        flow = self.backfill
        if flow is not None:
            unwanted = any(
                not any(filter_covers(need.filter, want.filter) for need in (*needs, *self.late))
                for want in flow.history.intervals)
            if unwanted and flow.may_stop:
                self._finish(flow, flow.floor)
            return
        live = self.live
        if not live.is_steady or live.floor <= live.first:
            return
        counting = live.history.open()
        self.late = [want for want in self.late if any(filter_covers(wide, want.filter) for wide in counting)]
        bringing = self._bringing()
        self._timed = {pattern: ms for pattern, ms in self._timed.items() if bringing.covers(pattern)}
        due: dict[str, Want] = {}               # one of each filter at a time
        for want in (*self._unmet(needs, live.floor), *(late for late in self.late if late.until <= live.floor)):
            if bringing.covers(want.filter):
                due.setdefault(want.filter, want)
        if due:
            self._begin(list(due.values()))
        if live.history.horizon > live.first and needs and not self._horizon_told:
            self._horizon_told = True
            log.warning("%s: back-fills begin at offset %d, what came before was forgotten",
                        self.origin.text, live.history.horizon)

    def _bringing(self) -> Covering:
        """What the live flow brings from its floor on."""
        return Covering(pattern for pattern, since in self.live.history.open().items() if since <= self.live.floor)

    def _unmet(self, needs: list[Want], stop: int) -> list[Want]:
        """Needs of which something below `stop` was never asked for."""
        live = self.live
        return [
            Want(need.filter, need.since, stop, need.since_ms) for need in needs
            if not self._is_met(need) and live.history.missing(need.filter, max(live.first, need.since), stop)
        ]

    def _is_met(self, need: Want) -> bool:
        """Was all from that time on brought?"""
        return need.since == BY_TIME and self._timed.get(need.filter, need.since_ms + 1) <= need.since_ms

    def _met(self, timed: Iterable[tuple[str, int]]) -> None:
        for pattern, ms in timed:
            self._timed[pattern] = min(ms, self._timed.get(pattern, ms))

    def missing(self, needs: list[Want]) -> list[Want]:
        """What is to come below the floor of the live flow, by the back-fill that is under way or later."""
        flow = self.backfill
        wants = [] if flow is None else flow.filters.wants(flow.floor)
        coming = [] if flow is None else [
            Want(want.filter, max(want.since, flow.floor) if want.since >= 0 else want.since, want.until, want.since_ms)
            for want in wants]
        coming.extend(want for want in self._unmet(needs, self.stored_floor) if not self._is_coming(want, wants))
        coming.extend(want for want in self.late if (want.filter, want.since_ms) not in self._timed_under_way)
        return coming

    @property
    def stored_floor(self) -> int:
        return self._pulling.replicas.floor(self.origin, 0) or 0

    def _is_coming(self, need: Want, wants: list[Want]) -> bool:
        """Do the wants of a back-fill reach back as far?"""
        if need.since == BY_TIME:
            return any(pattern == need.filter and ms <= need.since_ms for pattern, ms in self._timed_under_way)
        begin = self.live.first if need.since == EARLIEST else need.since
        return any(want.filter == need.filter and (want.since == EARLIEST or 0 <= want.since <= begin)
                   for want in wants)

    def _begin(self, due: list[Want]) -> None:
        live = self.live
        number = self._next_number
        self._next_number += 1
        excludes = live.history.excludes([want.filter for want in due], 0, live.floor)
        if live.history.horizon:
            excludes.extend(Want(want.filter, 0, live.history.horizon) for want in due)
        self._timed_under_way = [(want.filter, want.since_ms) for want in due if want.since == BY_TIME]
        flow = self.backfill = Flow(self._pulling, self, self.origin, number, due, excludes)
        self._pulling.add(flow)
        self.put_note(live)                     # with the number: none is ever used twice
        self._pulling.replicas.open(self.origin, number, lambda floor: flow.opened(floor, History()))
        log.info("%s: history of %d filters is asked for, up to offset %d", self.origin.text, len(due), live.floor)

    def done(self, flow: Flow) -> None:
        """The back-fill has all it was for."""
        if self.backfill is not flow:
            return
        self._met(self._timed_under_way)
        self.late = [want for want in self.late if (want.filter, want.since_ms) not in self._timed_under_way]
        self._finish(flow, flow.floor)

    def _finish(self, flow: Flow, stop: int) -> None:
        for want in flow.history.intervals:
            self.live.history.add(want.filter, want.since, min(stop_of(want), stop))
        self.backfilled += flow.events
        self.backfill = None
        self._timed_under_way = []
        flow.close(forget=True)
        self._pulling.drop(flow)
        self.put_note(self.live)                # one commit: the history has it, the flow is gone
        self._pulling.replicas.forget(self.origin, flow.number)

    def has(self, begin: Want, stop: int | None) -> bool:
        """Is whatever was wanted of a filter in our log: from there on without a gap, up to stop and the live flow?"""
        live = self.live
        if (self.backfill is not None or not live.is_steady or live.floor < min(stop or 0, live.end)
                or not self._bringing().covers(begin.filter)):
            return False
        return self._is_met(begin) or not live.history.missing(begin.filter, max(begin.since, live.first), live.floor)

    def is_idle(self) -> bool:
        return self.backfill is None and self.live.is_idle

    def is_fresh(self) -> bool:
        """True when the partition was never pulled, as far as we know yet."""
        live = self.live
        return live.state in (State.OPENING, State.ASKING) and self._pulling.replicas.floor(self.origin, 0) is None
