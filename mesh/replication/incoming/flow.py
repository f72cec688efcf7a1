"""Flow: one origin partition as this node pulls it. Sans-IO; time comes from the side's clock.

    OPENING ──► ASKING ──► RUNNING ──► DONE          ASKING: never pulled before, the origin says where it begins
                             │  ▲                    DONE: a back-fill that has all it was for
                             ▼  │
                            BROKEN                    our log refused something, or the origin lied: a pause

    floor ≤ expected: durable here ≤ taken from the origin. Batches that do not begin at `expected` wait or are dropped.

Which events are wanted is a function of topic and offset alone (filters.py), so looking twice at a part of the origin's
log does no harm. What keeps that true while filters change:
- A new filter counts from an offset that the origin names (`resolved`), at or behind all that was looked at without it.
- A filter that goes counts up to `expected`.
- Either is durable in the flow's note before an event beyond it is taken; what comes meanwhile waits in `_held`.
- A batch looked at under an older version must not reach into what a newer filter counts for (flowfilters.py).
"""
from __future__ import annotations

import enum
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from mesh.link.protocol.frames import PRIORITY_GOSSIP
from mesh.replication.bodies import BadBody
from mesh.replication.filters import END, History
from mesh.replication.incoming.flowfilters import FlowFilters
from mesh.replication.incoming.pulling import Pulling
from mesh.replication.incoming.roundtrip import RoundTrip
from mesh.replication.incoming.unopened import stored_batches
from mesh.replication.messages import UNKNOWN, Batch, Close, Problem, Pull, Trouble, Want
from routing.errors import Reason, Refusal
from routing.event import Event, OriginPartition
from routing.replicas.stored import Stored

if TYPE_CHECKING:
    from routing.ticket import Ticket

log = logging.getLogger(__name__)

ACK_S: Final = 0.02             # progress is acknowledged after so long, or after a quarter of the window
PROGRESS_S: Final = 1.0         # how often mere progress of looking is stored
PAUSE_S: Final = 0.2            # after a refusal, doubled up to PAUSE_MAX_S
PAUSE_MAX_S: Final = 10.0
STORED_PAUSE_S: Final = 60.0    # after one that could not be taken as it is stored, doubled up to
STORED_PAUSE_MAX_S: Final = 3_600.0
PASSING: Final = frozenset((Reason.STORAGE_FULL, Reason.STORAGE_FAILED, Reason.QUOTA_EXCEEDED, Reason.SHUTTING_DOWN,
                            Reason.BUSY))
LATER_MAX: Final = 64           # batches kept that overtook others


class State(enum.Enum):
    OPENING = "opening"
    ASKING = "asking"
    RUNNING = "running"
    BROKEN = "broken"
    DONE = "done"
    CLOSED = "closed"


class Owner(Protocol):
    """The Branch that a flow belongs to."""

    def put_note(self, flow: Flow) -> Ticket:
        """Store its filters."""
        ...

    def counts(self, asked: Want, since: int, *, first: bool) -> None:
        """A live flow knows from where a new filter counts, first: as it begins."""
        ...

    def done(self, flow: Flow) -> None:
        """A back-fill has all it was for."""
        ...


class Flow:
    """See the module's head. Loop thread only."""

    def __init__(self, pulling: Pulling, owner: Owner, origin: OriginPartition, number: int,
                 asks: list[Want] | None = None, excludes: list[Want] | None = None) -> None:
        """number: 0 live, above it a back-fill, whose asks are fixed and have an end."""
        self.origin = origin
        self.number = number
        self.state = State.OPENING
        self.filters = FlowFilters(origin, number, asks or [], excludes or [], pulling.caches)
        self.expected = 0                       # RUNNING: next offset to take
        self.floor = 0
        self.end = 0                            # of the origin's partition, as last heard
        self.first = 0
        self.at_end = False
        self.lag_ms = 0
        self.events = 0
        self.bytes = 0
        self.lost = 0                           # offsets that the origin's retention removed before we got them
        self.refused = 0                        # messages of the origin that we did not believe
        self.rewinds = 0
        self.trouble = ""                       # last Problem or refusal, "" when it has passed
        self.reachable = True
        self.trip = RoundTrip()
        self._owner = owner
        self._pulling = pulling
        self._token = pulling.rng.getrandbits(63)
        self._attempt = 1
        self._told = 0                          # version of the filters that the origin is known to have
        self._sequence = 0
        self._noting = False
        self._sync_wanted = False
        self._stored_again_s = 0.0              # nothing is taken as it is stored before that
        self._stored_pause_s = STORED_PAUSE_S
        self._stored_under_way = 0              # such batches that our log has not answered
        self._yields = False                    # what comes waits for them
        self._said_stored = False               # with the last Pull
        self._is_planned = False                # see _replan()
        self._held: deque[Batch] = deque()
        self._later: dict[int, Batch] = {}
        self._outstanding = 0                   # batches that our log has not answered
        self._published = 0                     # next offset of the last batch given to our log
        self._unacked_bytes = 0
        self._asked = 0                         # sequence of the Pull that waits for an answer
        self._ask_due_s = 0.0
        self._ack_due_s: float | None = None
        self._gap_since_s: float | None = None
        self.heard_s = self._pulled_s = self._progress_s = pulling.clock_s()
        self._pause_s = PAUSE_S
        self._resume_s = 0.0
        self._reach = 0                         # no partition of ours holds an event of the flow at or behind it

    @property
    def history(self) -> History:
        return self.filters.history

    @property
    def token(self) -> int:
        return self._token

    @property
    def is_idle(self) -> bool:
        """Nothing is wanted of it any more, and all that was taken is durable."""
        if self.state is State.ASKING:
            return not self.filters.has_asks and not self._noting and not self._sync_wanted
        return (self.state is State.RUNNING and not self._noting and not self.filters.has_asks and not self._outstanding
                and self.floor >= self._published and not self.history.counting(self.expected))

    @property
    def may_stop(self) -> bool:
        """Nothing of it stands in our log from behind its floor."""
        return (self.state is State.RUNNING and not self._noting and not self._outstanding
                and self.floor >= max(self._published, self._reach))

    @property
    def is_steady(self) -> bool:
        """Running, and no change of filters under way."""
        return self.state is State.RUNNING and not self._noting and not self.filters.has_asks

    # -- opening ----------------------------------------------------------------------------------------------

    def opened(self, floor: int | None, history: History) -> None:
        """The flow's record is durable here. floor None: never pulled before."""
        if self.state is not State.OPENING:
            return
        self.filters.history = history
        if floor is None:
            self.state = State.ASKING
        else:
            self.state = State.RUNNING
            self.floor = self.expected = self._published = floor
            self._reach = self._pulling.replicas.reach(self.origin, self.number)
            if self.number:
                self.filters.forget_asks()
        self.filters.rebuild(self.floor)
        if self._sync_wanted:
            self._pulling.on_sync()
        self.pull(ask=True)

    def close(self, *, forget: bool) -> None:
        """Nothing more of it."""
        if self.state not in (State.CLOSED, State.OPENING):
            self._pulling.send(self.origin.node, Close(self._token, forget), PRIORITY_GOSSIP)
        self.state = State.CLOSED
        self.filters.let_go()
        self._held.clear()
        self._later.clear()

    def set_reachable(self, reachable: bool) -> None:
        if reachable and not self.reachable:
            self.trip.fresh()
            self.reachable = True
            self._told = 0                      # it may have been restarted
            if self.state in (State.ASKING, State.RUNNING):
                self._rewind()
        self.reachable = reachable

    # -- filters ----------------------------------------------------------------------------------------------

    def sync(self, desired: dict[str, Want]) -> None:
        """Make the live flow want exactly these filters. Want.since: where one counts from that is new."""
        if self.state not in (State.ASKING, State.RUNNING) or self._noting:
            self._sync_wanted = True
            return
        self._sync_wanted = False
        changed = self.filters.ask(desired)
        ready, self._sync_wanted = self.filters.unwanted(desired, self.expected)
        if ready and (self.state is not State.RUNNING or self.expected < self._reach):
            self._sync_wanted, ready = True, []     # some of our partitions have events from beyond already
        if ready:
            self.filters.close(ready, self.expected)
            self._note()
        elif changed:
            self.filters.rebuild(self.floor)
            self.pull(ask=True)

    def limit(self, only: tuple[str, ...], prefix: str) -> None:
        """Topics that may come in by the link that leads to the origin (empty: all), and the prefix that they get."""
        if self.filters.limit(only, prefix):
            self.filters.rebuild(self.floor)

    def _note(self) -> None:
        """Store the filters; take nothing before that is durable."""
        if self.state in (State.CLOSED, State.DONE):
            return
        self._noting = True
        self.filters.rebuild(self.floor)

        def stored(ticket: Ticket) -> None:
            if self.state not in (State.RUNNING, State.ASKING):
                return
            if ticket.refusals:
                self.trouble = next(iter(ticket.refusals.values())).text
                self._pulling.later(PAUSE_S, self._note)
                return
            self._noting = False
            self.pull(ask=True)
            self._drain()

        self._owner.put_note(self).on_done(stored)

    # -- what the origin sends ----------------------------------------------------------------------------------

    def on_problem(self, problem: Problem) -> None:
        if problem.code == Trouble.UNKNOWN_FLOW:
            if self._told:                      # once; then the timers decide
                self._told = 0
                self.pull(ask=True)
            return
        self.trouble = problem.text[:200]

    def on_batch(self, batch: Batch) -> None:
        if self.state not in (State.ASKING, State.RUNNING):
            return
        wrong = self._implausible(batch)
        if wrong:
            self._distrust(wrong)
            return
        now_s = self.heard_s = self._pulling.clock_s()
        self.trouble = ""
        self.end, self.first, self.lag_ms = max(self.end, batch.end), max(self.first, batch.first), batch.lag_ms
        self._told = max(self._told, batch.version)
        if batch.echo:
            self.trip.answered(batch.echo, now_s)
            if batch.echo >= self._asked:
                self._asked = 0
        if self._noting or self._yields:
            if len(self._held) < LATER_MAX:
                self._held.append(batch)
            return
        self._take(batch)
        self._drain()

    def _implausible(self, batch: Batch) -> str:
        """What no honest origin says; "" when there is no such thing."""
        if batch.next < batch.start or batch.end < batch.next:
            return f"offsets {batch.start} to {batch.next} of {batch.end}"
        if batch.version > self.filters.version or batch.attempt > self._attempt or batch.echo > self._sequence:
            return "an answer to what was never asked"
        if batch.body and batch.next == batch.start:
            return "events without offsets"
        return ""

    def _drain(self) -> None:
        while not self._noting and not self._yields and self.state is State.RUNNING:
            if self._held:
                self._take(self._held.popleft())
            elif self.expected in self._later:
                self._take(self._later.pop(self.expected))
            else:
                break
        if self._sync_wanted and not self._noting:
            self._pulling.on_sync()

    def _take(self, batch: Batch) -> None:
        """One batch that is plausible by itself: is it the next, and was it looked at in the right way?"""
        if self.state is State.ASKING:
            self._begin(batch)
            return
        if batch.start != self.expected:
            if batch.start > self.expected:
                if batch.next > batch.start and len(self._later) < LATER_MAX:
                    self._later.setdefault(batch.start, batch)
                if batch.attempt == self._attempt and self._gap_since_s is None:
                    self._gap_since_s = self._pulling.clock_s()
            return
        if batch.version < self.filters.taken_version:         # of before a rewind: what follows it is on its way
            return
        resolved = dict(batch.resolved)
        if self.filters.is_stale(batch, resolved):
            self._gap_since_s = self._gap_since_s or self._pulling.clock_s()
            return
        patterns = self.filters.answered(batch.version)
        if patterns:                            # they count from where nothing was looked at without them
            least = max(self.expected, self._reach)
            self._resolve(patterns, {pattern: max(resolved[pattern], least) for pattern in patterns})
            self._held.appendleft(batch)
            return
        if batch.body and not self._is_planned:
            self._is_planned = True
            if self._replan():                  # the stream was made here since the flow began
                self._held.appendleft(batch)
                return
        self._accept(batch)

    def _begin(self, batch: Batch) -> None:
        """The first answer for a partition that was never pulled: where it begins."""
        resolved = dict(batch.resolved)
        if not self.filters.is_first(batch, resolved):
            return
        self.state = State.RUNNING
        self.floor = self.expected = self._published = batch.start
        replicas = self._pulling.replicas
        replicas.start(self.origin, self.number, batch.start)
        if not self.number and self._pulling.stored_topic(self.origin):
            replicas.keep_from(self.origin, self.number, batch.start, keeps=True)
        self._resolve(self.filters.answered(batch.version), resolved, first=True)
        self._held.appendleft(batch)

    def _resolve(self, patterns: list[str], resolved: dict[str, int], *, first: bool = False) -> None:
        for asked in self.filters.resolve(patterns, resolved):
            if not self.number:
                self._owner.counts(asked, resolved[asked.filter], first=first)
        self._note()

    def _accept(self, batch: Batch) -> None:
        """It continues where we are: into our log with it."""
        events: list[Event] = []
        stored: Stored | None = None
        wanted = self.filters.wants_topic(batch.start)
        if batch.topic and not (self.takes_stored and wanted(batch.topic)):
            self._gap_since_s = self._gap_since_s or self._pulling.clock_s()    # it was under way when we said no
            return
        if batch.body and not batch.topic and self._stored_under_way:           # in order: they are not in our log yet
            self._yields = True
            self._held.appendleft(batch)
            return
        if batch.body:
            try:
                if batch.topic:
                    stored = Stored(stored_batches(batch), batch.topic, wanted)
                else:
                    events = self.filters.decode(batch)
            except BadBody as error:
                self._distrust(str(error))
                return
        if batch.lost:
            self.lost += batch.lost
            log.warning("%s: retention there removed %d offsets before they came here", self.origin.text, batch.lost)
        self.filters.taken(batch.version, self.floor)
        self.expected = batch.next
        self.at_end = batch.next >= batch.end
        self._gap_since_s = None
        self.events += len(events) if stored is None else sum(one.next - one.first for one in stored.batches)
        self.bytes += len(batch.body)
        if events or stored or batch.done:
            self._publish(events, len(batch.body), stored)
        if self._ack_due_s is None and batch.next > batch.start:
            self._ack_due_s = self._pulling.clock_s() + ACK_S

    # -- into our log -----------------------------------------------------------------------------------------

    def _publish(self, events: list[Event], size: int, stored: Stored | None = None) -> None:
        self._outstanding += 1
        self._stored_under_way += stored is not None
        self._published = next_offset = self.expected
        self._progress_s = self._pulling.clock_s()

        def done(refusal: Refusal | None) -> None:
            self._outstanding -= 1
            self._stored_under_way -= stored is not None
            if self.state in (State.CLOSED, State.DONE):
                return
            if refusal is not None:
                if stored is not None and refusal.reason not in PASSING:
                    self._take_no_stored(refusal)
                self._break(refusal.text)
                return
            if self._yields and not self._stored_under_way:
                self._yields = False
                self._drain()
            self.floor = max(self.floor, next_offset)
            self._pause_s = PAUSE_S
            self._unacked_bytes += size
            if self.number and self.floor >= self.filters.stop() and not self._noting:
                self.state = State.DONE
                self._owner.done(self)
            elif self._unacked_bytes * 4 >= self._pulling.window_bytes():
                self.pull(ask=False)
            elif self._ack_due_s is None:
                self._ack_due_s = self._pulling.clock_s() + ACK_S

        replicas, publisher = self._pulling.replicas, self._pulling.publishers.of(self.origin.node)
        if stored is not None:
            replicas.publish_stored(self.origin, self.number, stored, next_offset, publisher, done)
        else:
            replicas.publish(self.origin, self.number, events, next_offset, publisher, done)
        if events or stored is not None:
            self._pulling.on_published()

    # -- batches as they are stored there ------------------------------------------------------------------------

    @property
    def takes_stored(self) -> bool:
        """What comes next may come as it is stored. While it is asked where the flow begins: what comes first."""
        keeps = self.state is State.ASKING or self._pulling.replicas.keeps(self.origin, self.number, self.expected)
        return (keeps and not self.number and self._pulling.clock_s() >= self._stored_again_s
                and bool(self._pulling.stored_topic(self.origin)))

    def _take_no_stored(self, refusal: Refusal) -> None:
        """For a while, and longer each time: opened, they pass the usual way."""
        log.info("%s: batches are not taken as they are stored for %d s: %s",
                 self.origin.text, self._stored_pause_s, refusal.text)
        self._stored_again_s = self._pulling.clock_s() + self._stored_pause_s
        self._stored_pause_s = min(2 * self._stored_pause_s, STORED_PAUSE_MAX_S)

    def plan_stored(self) -> None:
        """Now and then: may batches be taken as they are stored, and is that what the origin was told?"""
        if not self._replan() and self.state is State.RUNNING and not (self.number or self._noting) and (
                self.takes_stored != self._said_stored):
            self.pull(ask=True)

    def _replan(self) -> bool:
        """Events keep the index of their partition while batches can be taken as they are stored. True: that has
        changed for what comes next, and is stored before it is taken.
        """
        topic, replicas = self._pulling.stored_topic(self.origin), self._pulling.replicas
        if self.number or self.state is not State.RUNNING or self._noting or topic is None or (
                bool(topic) == replicas.keeps(self.origin, self.number, END - 1)):
            return False
        replicas.keep_from(self.origin, self.number,
                           max(self.expected, replicas.reach(self.origin, self.number)), keeps=bool(topic))
        self._note()
        return True

    def _distrust(self, why: str) -> None:
        """The origin said what cannot be: nothing of it is used, and after a pause it is asked again."""
        self.refused += 1
        self._pulling.count_refusal(self.origin, why)
        if self.state is State.RUNNING:
            self._break(why)
        else:
            self.trouble = why

    def _break(self, why: str) -> None:
        self.trouble = why
        if self.state is State.BROKEN:
            return
        self.state = State.BROKEN
        self._held.clear()
        self._later.clear()
        self._yields = False
        self._resume_s = self._pulling.clock_s() + self._pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)

    def _mend(self) -> None:
        self.state = State.RUNNING
        self.floor = self.expected = self._published = self._pulling.replicas.restart(self.origin, self.number)
        self._reach = self._pulling.replicas.reach(self.origin, self.number)
        self.filters.rebuild(self.floor)
        if self._noting:                        # its answer found us broken
            self._note()
        self._rewind()

    # -- what the origin is told --------------------------------------------------------------------------------

    def _rewind(self) -> None:
        self._attempt += 1
        self.rewinds += 1
        self._later.clear()
        self._gap_since_s = None
        self.pull(ask=True)

    def pull(self, *, ask: bool) -> None:
        """Say where we are, and how much may come."""
        if self.state not in (State.ASKING, State.RUNNING) or not self.reachable:
            return
        if self.state is State.ASKING and not self.filters.has_asks:
            return
        now_s = self._pulled_s = self._pulling.clock_s()
        self._sequence += 1
        self._ack_due_s = None
        self._unacked_bytes = 0
        if ask:
            self._asked = self._sequence
            self.trip.asked(self._sequence, now_s)
            self._ask_due_s = now_s + self.trip.timeout_s
        self._said_stored = self.takes_stored
        start, confirmed = (UNKNOWN, 0) if self.state is State.ASKING else (self.expected, self.floor)
        wants = self.filters.wants(self.floor) if self._told < self.filters.version else None
        self._pulling.send(self.origin.node, Pull(
            self._token, self._sequence, ask, self.number, self.origin.stream, self.origin.index, self.origin.epoch,
            self._attempt, start, confirmed, self._pulling.window_bytes(), self.filters.version,
            round((self.trip.smooth_s or 0.0) * 1000), wants, self.filters.excludes if wants is not None else [],
            list(self.filters.only) if wants is not None else [], stored=self._said_stored,
        ), PRIORITY_GOSSIP)

    def tick(self, now_s: float) -> None:
        """Timers. Called often; does nothing most of the time."""
        if self.state is State.BROKEN:
            if now_s >= self._resume_s and not self._outstanding:
                self._mend()
            return
        if self.state not in (State.ASKING, State.RUNNING) or not self.reachable:
            return
        if self._published < self.expected and now_s - self._progress_s >= PROGRESS_S and not self._noting:
            self._publish([], 0)
        if self._gap_since_s is not None and now_s - self._gap_since_s >= self.trip.grace_s and not self._noting:
            self._rewind()
        elif self._asked and now_s >= self._ask_due_s:
            self.trip.unanswered()
            self.pull(ask=True)
        elif not self._asked and not self.at_end and now_s - self.heard_s >= self.trip.timeout_s:
            self.heard_s = now_s
            self.pull(ask=True)
        elif now_s - self._pulled_s >= self._pulling.limits.keepalive_s:
            self.pull(ask=True)
        elif self._ack_due_s is not None and now_s >= self._ack_due_s:
            self.pull(ask=False)
