"""Replicas: events of other nodes on their way into our log, exactly once.

    flow  (origin partition, number)         one cursor: 0 as things happen, above 0 back-fills of history
     ├─ floor                                everything below it is durable here, or was not for us
     └─ positions  partition of ours → origin offset of the last event that was put there

An event at or below the position of its partition is here already and is dropped. One batch may spread over several
of our partitions, of which a crash keeps only some: that is why positions are kept apart, and why a flow is pulled
again from its floor. Floors and positions are stored once a second; what came after that is read from the log
at start, since every event there says where it comes from. Source: architecture §6.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from routing.errors import Refusal
from routing.event import Event, OriginPartition, topic_runs
from routing.publishing.publisher import Publisher
from routing.replicas.flow import ENDS_KEY, STATE_PREFIX, Batch, Done, Flow, FlowState, Mark, events_from, is_there
from routing.replicas.stored import BROKEN, Stored, put_stored
from routing.ticket import Ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition
    from routing.log.producing.raw import Terms
    from routing.publishing.route import Route
    from routing.retained.retained import RetainedEvents
    from routing.settings import Limits
    from routing.state import StateTable
    from routing.streams.streams import Stream, StreamTable

log = logging.getLogger(__name__)

CHECKPOINT_S = 1.0          # how much of the log is read at start to know the positions
REACHED_STEP = 500          # flows looked at in one turn


class DoorIn(Protocol):
    """The part of the router that replicas come in by."""

    limits: Limits
    published: int
    retained: RetainedEvents
    state: StateTable
    streams: StreamTable

    def admit(self, topic: str, publisher: Publisher, count: int) -> Route | Refusal: ...
    def send_on(self, run: list[Event], route: Route, publisher: Publisher, *, stored: bool) -> None: ...
    def send_history(self, run: list[Event], route: Route, publisher: Publisher, *, stored: bool) -> None: ...
    def own_partitions(self) -> list[Partition]: ...
    def terms_of(self, stream: Stream) -> Terms: ...
    def request_turn(self) -> None: ...


class Replicas:
    """All flows into this node. Loop thread only. Made by the router."""

    def __init__(self, router: DoorIn) -> None:
        self.denied = 0                                 # events that policy or limits of this node did not let in
        self._router = router
        self._flows: dict[tuple[OriginPartition, int], Flow] = {}
        self._by_stream: dict[tuple[str, str], dict[tuple[OriginPartition, int], None]] = {}    # keys, node and stream
        self._ends: dict[Partition, int] = {}           # committed ends of a moment ago; marks reach at least so far
        self._stored_ends: dict[Partition, int] = {}
        self._unopened: list[Callable[[], None]] = []   # to be stored again
        self._next_checkpoint_s = 0.0

    # -- flows ------------------------------------------------------------------------------------------------

    def open(self, origin: OriginPartition, flow: int, opened: Callable[[int | None], None]) -> None:
        """Make the flow known, durably, before its first event can be in the log.

        opened(floor) is called then, maybe at once: the next origin offset to pull, None when it was never started.
        """
        known = self._flows.get((origin, flow))
        if known is not None:
            opened(known.floor)
            return
        made = Flow(origin, flow, None)

        def stored(ticket: Ticket) -> None:
            if ticket.refusals:                         # such as by a full disk
                self._unopened.append(store)
            else:
                opened(self._keep(made).floor)

        def store() -> None:
            self._store(made).on_done(stored)

        store()

    def start(self, origin: OriginPartition, flow: int, floor: int) -> None:
        """Set where a flow begins that was never started."""
        found = self._flows[origin, flow]
        assert found.floor is None, "a flow is started once"
        found.floor = floor
        self._store(found)

    def forget(self, origin: OriginPartition, flow: int) -> None:
        """Give up a flow and its stored state; its events stay."""
        found = self._flows.pop((origin, flow), None)
        if found is not None:
            of_stream = self._by_stream[origin.node, origin.stream]
            del of_stream[origin, flow]
            if not of_stream:
                del self._by_stream[origin.node, origin.stream]
            self._router.state.delete(found.key)

    def floor(self, origin: OriginPartition, flow: int) -> int | None:
        found = self._flows.get((origin, flow))
        return found.floor if found is not None else None

    def reach(self, origin: OriginPartition, flow: int) -> int:
        """No partition of ours holds an event of the flow at or behind this origin offset; some may up to it."""
        found = self._flows.get((origin, flow))
        return max(found.positions.values(), default=-1) + 1 if found is not None else 0

    def flows(self) -> list[tuple[OriginPartition, int]]:
        return list(self._flows)

    def flows_of(self, node: str, stream: str) -> list[tuple[OriginPartition, int]]:
        """Those of one stream there, of whatever epoch."""
        return list(self._by_stream.get((node, stream), ()))

    def _keep(self, flow: Flow) -> Flow:
        """Returns the one that counts."""
        origin = flow.origin
        self._by_stream.setdefault((origin.node, origin.stream), {})[origin, flow.flow] = None
        return self._flows.setdefault((origin, flow.flow), flow)

    def keeps(self, origin: OriginPartition, flow: int, offset: int) -> bool:
        """Do events of this offset and later go to the partition that has the index of theirs? See Flow.keeps."""
        found = self._flows.get((origin, flow))
        return found is not None and found.keeps(offset)

    def keep_from(self, origin: OriginPartition, flow: int, offset: int, *, keeps: bool) -> None:
        """From this offset on they do, or do not. To be stored by put_note before an event behind it comes."""
        self._flows[origin, flow].keep_from(offset, keeps=keeps)

    def reached(self, partitions: Collection[Partition],
                found: dict[Partition, dict[OriginPartition, int]]) -> Iterator[None]:
        """Put into found how much of each live flow stands in these, in steps: all that it has put there is below this
        origin offset.
        """
        for count, flow in enumerate(list(self._flows.values()), 1):
            for partition, (_, origin_offset) in flow.marks.items() if not flow.flow else ():
                if partition in partitions:
                    found.setdefault(partition, {})[flow.origin] = origin_offset + 1
            if count % REACHED_STEP == 0:
                yield

    def get_note(self, origin: OriginPartition, flow: int) -> bytes | None:
        """What put_note stored last."""
        found = self._flows.get((origin, flow))
        return found.note if found is not None else None

    def put_note(self, origin: OriginPartition, flow: int, note: bytes) -> Ticket:
        """Store bytes of the caller with an open flow."""
        found = self._flows[origin, flow]
        found.note = note
        return self._store(found)

    def snapshot(self) -> list[dict[str, Any]]:
        return [
            {"origin": flow.origin.text, "flow": flow.flow, "floor": flow.floor, "events": flow.events,
             "repeats": flow.repeats, "batches_waiting": len(flow.batches), "batches_stored": flow.stored,
             "broken": flow.broken.text if flow.broken is not None else None}
            for flow in self._flows.values()
        ]

    # -- events in --------------------------------------------------------------------------------------------

    def publish(self, origin: OriginPartition, flow: int, events: list[Event], next_offset: int,
                publisher: Publisher, done: Done) -> None:
        """Take in a batch of one started flow: rising origin offsets below next_offset, origin and flow set.

        done(None): everything below next_offset is durable here, or this node's policy or limits kept it out (counted).
        done(refusal): the log did not take something. The flow is broken then: all that is under way has been
        answered, and nothing more is taken before restart(). Batches are answered in order.
        """
        found = self._flows[origin, flow]
        batch = Batch(next_offset, done)
        found.batches.append(batch)
        if found.broken is None:
            for partition, group in self._sort(found, events, publisher, batch).items():
                if group:
                    self._append(found, partition, group, batch)
            self._router.published += len(events)
        batch.waiting -= 1
        self._settle(found)
        self._router.request_turn()

    def publish_stored(self, origin: OriginPartition, flow: int, stored: Stored, next_offset: int,
                       publisher: Publisher, done: Done) -> None:
        """The same with batches as they are stored there. They may be appended after this returns: nothing but other
        such batches of the flow is published before done() was called for them.
        """
        found = self._flows[origin, flow]
        batch = Batch(next_offset, done)
        found.batches.append(batch)
        if found.broken is None:
            found.broken = put_stored(
                self._router, found, stored, publisher,
                lambda ticket, committed: self._await(ticket, found, batch, committed))
        batch.waiting -= 1
        self._settle(found)
        self._router.request_turn()

    def restart(self, origin: OriginPartition, flow: int) -> int:
        """Mend a broken flow, after its last answer. Returns the offset to pull from again."""
        found = self._flows[origin, flow]
        assert not found.outstanding and found.floor is not None
        found.broken = found.last_part = None
        return found.floor

    def _sort(self, flow: Flow, events: list[Event], publisher: Publisher,
              batch: Batch) -> dict[Partition, list[Event]]:
        """Admit, drop what is here already, serve live readers; what is left, by partition."""
        router = self._router
        groups: dict[Partition, list[Event]] = {}
        for piece, keeps in flow.pieces(events):
            for same_topic in topic_runs(piece):
                route = router.admit(same_topic[0].topic, publisher, len(same_topic))
                if isinstance(route, Refusal):
                    self.denied += len(same_topic)
                    continue
                run = self._take_run(flow, same_topic, route, groups, batch, flow.place(route) if keeps else None)
                if run:
                    flow.events += len(run)
                    send = router.send_history if flow.flow else router.send_on
                    send(run, route, publisher, stored=route.stream is not None)
        return groups

    def _take_run(self, flow: Flow, run: list[Event], route: Route, groups: dict[Partition, list[Event]],
                  batch: Batch, place: Partition | None) -> list[Event]:
        """One run of an admitted topic into the groups. Returns what was not here yet. A hot path.

        place: the partition of all, where they keep their index.

        Limits hold on every path alike; what another node let in may be too much here.
        """
        limits, stream = self._router.limits, route.stream
        payload_max, headers_max = limits.payload_bytes_max, limits.headers_max
        fresh: list[Event] = []
        partition = None                                # of the event before, of which these two are
        group: list[Event] = []
        last = -1
        for event in run:
            if len(event.payload) > payload_max or len(event.headers) > headers_max:
                self.denied += 1
                continue
            if event.retain:                            # a repeat too: a crash may have kept it and not its copy
                self._retain(flow, event, batch, stored=stream is not None)
            if stream is not None:
                wanted = place or (route.partition if event.key is None else stream.partition_for(event.key))
                if wanted is not partition or partition is None:
                    if group and partition is not None:
                        flow.positions[partition] = last
                    assert wanted is not None
                    partition = wanted
                    last = flow.positions.get(partition, -1)
                    group = groups.setdefault(partition, [])
                if event.origin_offset <= last:
                    flow.repeats += 1
                    continue
                last = event.origin_offset
                group.append(event)
            fresh.append(event)
        if group and partition is not None:
            flow.positions[partition] = last
        return fresh

    def _append(self, flow: Flow, partition: Partition, group: list[Event], batch: Batch) -> None:
        """One ticket per partition: its refusal is known before anything else can be appended there."""
        ticket = Ticket(group)
        partition.append(group, ticket)
        if group[0].offset < 0:                         # refused at once; the ticket says so later
            flow.broken = flow.broken or BROKEN

        def committed() -> None:
            flow.marks[partition] = (group[-1].offset, group[-1].origin_offset)
            flow.dirty = True

        self._await(ticket, flow, batch, committed)

    def _retain(self, flow: Flow, event: Event, batch: Batch, *, stored: bool) -> None:
        """A replica becomes the retained event of its topic, if it is the newest."""
        ticket = Ticket([event])
        if self._router.retained.publish_replica(event, ticket, stored=stored):
            self._await(ticket, flow, batch)

    def _await(self, ticket: Ticket, flow: Flow, batch: Batch, stored: Callable[[], None] | None = None) -> None:
        """The batch is not done before the ticket is, all of whose parts are known. A refusal breaks the flow."""
        batch.waiting += 1
        flow.outstanding += 1

        def told(done: Ticket) -> None:
            flow.outstanding -= 1
            batch.waiting -= 1
            refusal = next(iter(done.refusals.values()), None) or next(
                (part.refusal for part in done.parts if part.refusal is not None), None)
            if refusal is not None:
                flow.broken = refusal if flow.broken is None or refusal is not BROKEN else flow.broken
            elif stored is not None:
                stored()
            self._settle(flow)

        ticket.part_done()
        ticket.on_done(told)

    def _settle(self, flow: Flow) -> None:
        """Answer what can be answered, in order."""
        batches = flow.batches
        if flow.broken is None:
            while batches and batches[0].waiting == 0:
                batch = batches.popleft()
                if flow.floor is None or batch.next_offset > flow.floor:
                    flow.floor = batch.next_offset
                    flow.dirty = True
                batch.done(None)
            return
        if flow.outstanding or any(batch.waiting for batch in batches):
            return                                      # positions are not settled: a repeat could be taken for done
        flow.positions = {partition: origin_offset for partition, (_, origin_offset) in flow.marks.items()}
        refusal, refused = flow.broken, list(batches)
        batches.clear()
        for batch in refused:
            batch.done(refusal)

    def partitions_gone(self, gone: list[Partition]) -> None:
        """Partitions of ours are deleted: nothing is known by them any more."""
        for flow in self._flows.values():
            for partition in gone:
                if flow.marks.pop(partition, None) is not None:
                    flow.positions.pop(partition, None)
                    flow.dirty = True
        for partition in gone:
            self._ends.pop(partition, None)

    # -- stored state -----------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Store what has moved, once a second."""
        if now_s < self._next_checkpoint_s:
            return
        self._next_checkpoint_s = now_s + CHECKPOINT_S
        self.checkpoint()
        self._note_ends()
        unopened, self._unopened = self._unopened, []
        for store in unopened:
            store()

    def checkpoint(self) -> None:
        """Store every flow that has moved, and in the same commit how far the log need not be read at start."""
        for flow in self._flows.values():
            if flow.dirty:
                self._store(flow)
        if self._flows and self._ends != self._stored_ends:
            ends = [(partition.stream, partition.index, end) for partition, end in self._ends.items()]
            self._router.state.put(ENDS_KEY, msgspec.msgpack.encode(ends))
            self._stored_ends = self._ends

    def _note_ends(self) -> None:
        """Every commit up to these ends will have been told to its flow by the time of the next checkpoint."""
        self._ends = {partition: partition.end_offset for partition in self._router.own_partitions()}

    def _store(self, flow: Flow) -> Ticket:
        flow.dirty = False
        marks = [
            Mark(partition.stream, partition.index, offset, origin_offset)
            for partition, (offset, origin_offset) in flow.marks.items()
        ]
        state = FlowState(flow.origin, flow.flow, flow.floor, marks, flow.note, flow.kept)
        return self._router.state.put(flow.key, msgspec.msgpack.encode(state))

    def restore(self) -> None:
        """Bring back every flow, and read from the log what is newer than its record. Called once, by the router."""
        from_offsets = self._stored_offsets()
        for _, state in self._router.state.decoded(STATE_PREFIX, FlowState, "flow"):
            self._restore(state, from_offsets)
        for partition, offset in from_offsets.items() if self._flows else ():
            self._read_marks(partition, offset)
        for flow in self._flows.values():
            flow.positions = {partition: origin_offset for partition, (_, origin_offset) in flow.marks.items()}
        self._note_ends()

    def _stored_offsets(self) -> dict[Partition, int]:
        """Per partition: from where on the log may know more than the stored marks."""
        places = self._router.state.read(ENDS_KEY, list[tuple[str, int, int]], "ends") or ()
        ends = {(stream, index): end for stream, index, end in places}
        return {
            partition: max(ends.get((partition.stream, partition.index), 0), partition.start_offset)
            for partition in self._router.own_partitions()
        }

    def _restore(self, state: FlowState, from_offsets: dict[Partition, int]) -> None:
        """One flow. from_offsets: lowered to where each partition must be read from."""
        flow = Flow(state.origin, state.flow, state.floor)
        flow.note, flow.kept = state.note, state.kept
        self._keep(flow)
        lost: list[Mark] = []
        for mark in state.marks:
            partition = self._router.streams.partition(mark.stream, mark.partition)
            if partition is None:
                continue
            if is_there(partition, mark, flow):
                flow.marks[partition] = (mark.offset, mark.origin_offset)
            else:
                lost.append(mark)
                from_offsets[partition] = partition.start_offset
                log.warning("%s/%d has lost events of %s behind a crash: they are asked for again", mark.stream,
                            mark.partition, flow.origin.text)
        if lost and flow.floor is not None:
            flow.floor = min(flow.floor, *(self._last_before(flow, mark) + 1 for mark in lost))
            flow.dirty = True

    def _last_before(self, flow: Flow, mark: Mark) -> int:
        """The origin offset of the last event of the flow that is left in the mark's partition, -1 for none."""
        partition = self._router.streams.partition(mark.stream, mark.partition)
        assert partition is not None
        last = -1
        for event in events_from(partition, partition.start_offset):
            if event.origin == flow.origin and event.flow == flow.flow:
                last = max(last, event.origin_offset)
        return last

    def _read_marks(self, partition: Partition, offset: int) -> None:
        for event in events_from(partition, offset):
            if event.origin is None:
                continue
            flow = self._flows.get((event.origin, event.flow))
            if flow is not None and event.origin_offset > flow.marks.get(partition, (0, -1))[1]:
                flow.marks[partition] = (event.offset, event.origin_offset)
                flow.dirty = True
