"""Part: what this node has of a queue that others may have, too. Implements Elsewhere of routing/queues.

    declared ──► undecided: the others in sight are asked, nothing goes out ──► decided: who takes what is known
    the part that collects is lost for long ──► the first of the others collects
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mesh.queues.borrowing import Borrowing
from mesh.queues.fetching import Fetches
from mesh.queues.lending import Lender
from mesh.queues.messages import (
    ENDS_MAX,
    NUMBER_MAX,
    Bind,
    Bound,
    Delete,
    Ends,
    Fetch,
    Join,
    Leave,
    Message,
    Nothing,
    Purge,
    Unbind,
)
from mesh.queues.spans import SpanRow, Spans
from routing.cursors.delivery import Delivery
from routing.event import Event, OriginPartition
from routing.queues.bindings import Binding
from routing.steps import in_steps

if TYPE_CHECKING:
    from mesh.queues.borders import Borders
    from routing.log.partition import Partition
    from routing.queues.queue import Queue
    from routing.router import Router

ASK_S: Final = 1.0              # for the answers of the nodes in sight, when it is declared
RESTART_S: Final = 10.0         # for those that are known to have a part, after a start
STEP: Final = 1_024             # records looked at in one turn
STATE: Final = "queue-part/"


class PartState(msgspec.Struct, array_like=True):
    term: int
    collects: bool
    collector: str
    members: list[str]
    spans: list[SpanRow]
    guest_of: str = ""


class Others(Protocol):
    """What a part asks of shared.py."""

    router: Router
    clock_s: Callable[[], float]
    clock_ms: Callable[[], int]
    borders: Borders

    @property
    def me(self) -> str: ...
    @property
    def in_sight(self) -> Container[str]: ...
    def say(self, node: str, message: Message) -> None: ...
    def waits(self, part: Part) -> None: ...
    def joint(self, part: Part) -> None: ...
    def origins_of(self, node: str) -> list[OriginPartition]: ...
    def origin(self, node: str, stream: str, index: int) -> OriginPartition | None: ...
    def reach(self, origin: OriginPartition) -> int: ...
    def reach_of(self, node: str, origin: OriginPartition) -> int: ...
    def common_ends(self, node: str) -> dict[Partition, int]: ...
    def notice(self, level: int, text: str, *values: object) -> None: ...
    def later(self, work: Callable[[], None]) -> None: ...


class Part:
    """Loop thread only. Made by shared.py. There is one for each durable queue: what few need is made when needed."""

    __slots__ = ("_asked", "_before", "_borrowing", "_decide_s", "_fetches", "_hears", "_others", "_waiting",
                 "collector", "guest_of", "lenders", "lost_s", "name", "queue", "spans", "term", "user")

    def __init__(self, queue: Queue, others: Others) -> None:
        self.queue = queue
        self.name = queue.name
        self.user = queue.consumer.identity.user
        self.spans = Spans()
        self.term = 1
        self.collector = ""                     # another node; "": it is this part, or nobody knows
        self.guest_of = ""                      # the node that has the queue; "": a client has declared it here
        self.lost_s: float | None = None        # since when the collector is not in sight
        self._borrowing: Borrowing | None = None
        self.lenders: dict[str, Lender] = {}
        self._others = others
        self._asked: set[str] = set()           # nodes whose answer it waits for
        self._decide_s: float | None = None
        self._waiting: list[Callable[[], None]] = []
        self._fetches = Fetches()
        self._hears = False                     # a binding that comes from there is not told to there
        self._before: dict[OriginPartition, int] = {}       # see restore()

    @property
    def is_shared(self) -> bool:
        return bool(self.spans.members)

    @property
    def is_waiting(self) -> bool:
        """For answers of others, within a time."""
        return self._decide_s is not None or bool(self._fetches)

    @property
    def borrowing(self) -> Borrowing:
        if self._borrowing is None:
            others = self._others
            self._borrowing = Borrowing(self.queue, others.say, others.clock_ms, others.borders.may_lend)
        return self._borrowing

    # -- which events are ours --------------------------------------------------------------------------------

    def takes(self, event: Event) -> bool:
        return self.spans.takes(event)

    @property
    def decided(self) -> bool:
        return self._decide_s is None

    def when_decided(self, call: Callable[[], None]) -> None:
        if self._decide_s is None:
            call()
        else:
            self._waiting.append(call)

    def ask(self, nodes: Iterable[str], within_s: float) -> None:
        """Whoever has a part says so; until then nothing goes out."""
        asked = set(nodes)
        if not asked:
            return
        self._asked |= asked
        self._decide_s = self._others.clock_s() + within_s
        self.queue.consumer.held = True
        self._others.waits(self)
        for node in asked:
            self.tell(node, asks=True)

    def tell(self, node: str, *, asks: bool = False) -> None:
        bindings = [Bound.of(one) for one in self.queue.bindings.live.values()]
        self._others.say(node, Join(
            self.name, self.user, asks, self.term, self.spans.collects and self.decided,
            list(self.spans.members)[:1_000], bindings[:20_000], self._ends()))

    def _ends(self) -> Ends:
        return [(cursor.partition.origin_name, cursor.partition.index, cursor.partition.next_offset)
                for cursor in self.queue.consumer.cursors.values() if cursor.partition.index >= 0
                and not cursor.partition.stream.startswith("$")][:ENDS_MAX]

    def answered(self, node: str) -> None:
        """It has a part, or none."""
        self._asked.discard(node)
        if not self._asked and self._decide_s is not None:
            self._decide()

    def _decide(self) -> None:
        self._decide_s = None
        self._asked.clear()
        consumer = self.queue.consumer
        for cursor in consumer.cursors.values():
            cursor.drop_waiting(lambda event: not self.takes(event))
        consumer.held = False
        consumer.ready()
        self._call_waiting()
        if self.spans.collects:
            for node in self.spans.members:
                self.tell(node)

    def _call_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    # -- the others -------------------------------------------------------------------------------------------

    def joined(self, node: str, join: Join) -> None:
        """This node has a part, too."""
        known = node in self.spans.members
        if not known:
            for origin in self._others.origins_of(node):
                self.spans.end_at(origin, self._others.reach(origin))
            self.spans.members[node] = None
            self._others.joint(self)
            self._others.notice(logging.INFO, "queue %s has a part on node %s", self.name, node)
        for stream, index, offset in join.ends if not known else ():
            origin_there = self._others.origin(node, stream, index)
            if origin_there is not None:
                self.spans.end_at(origin_there, offset)
        if join.collects:
            self._hear_collector(node, join.term)
        self._hears = True
        for bound in join.bindings:
            self.queue.bind(bound.binding(), self.queue.consumer.identity)
        self._hears = False
        self.borrowing.add(node)
        self.store()
        if join.asks:
            self.tell(node)
        self.answered(node)
        self.queue.consumer.ready()

    def _hear_collector(self, node: str, term: int) -> None:
        me = self._others.me
        ours = self.spans.collects
        if term < self.term or (term == self.term and ours and self.decided and node > me):
            return
        self.term, self.collector, self.lost_s = term, node, None
        if ours:                                # what it has taken of others so far stays its own
            taken = self._before if not self.decided else {
                origin: self._others.reach(origin) for origin in self._others.origins_of("")}
            for origin, reach in taken.items():
                if origin.node not in self.spans.members:
                    self.spans.end_at(origin, reach)
            self.spans.collects = False

    def left(self, node: str, leave: Leave | None) -> None:
        """It has no part any more."""
        if node in self.spans.members:
            del self.spans.members[node]
            for stream, index, offset in leave.ends if leave is not None else ():
                origin = self._others.origin(node, stream, index)
                if origin is not None and self.spans.collects:
                    self.spans.begin_at(origin, offset)
            if self.collector == node:
                self.lost_s = self._others.clock_s() - RESTART_S
            self.store()
        self.lost(node)
        if self.guest_of == node:
            self.heard(lambda: self._others.router.queues.delete(
                self.name, reason=f"it is no more on node {node}", here=True))

    def part_from(self, node: str) -> None:
        """The link to it does not let pass what the queue has now: from here on they are two queues."""
        if node in self.spans.members:
            self._others.notice(
                logging.WARNING, "queue %s has bindings that the link to node %s does not let pass: it is not shared "
                "any more", self.name, node)
            self._others.say(node, Leave(self.name, self._ends()))
            self.left(node, None)
            if self.spans.collects:
                for origin in self._others.origins_of(node):
                    self.spans.begin_at(origin, self._others.reach(origin))
                self.store()

    def lost(self, node: str) -> None:
        """Nothing that was said before counts: what it was lent goes out again here, and the other way round."""
        lender = self.lenders.pop(node, None)
        if lender is not None:
            lender.credit = 0                   # nothing more goes there
            self._others.later(lender.end)
        if self._borrowing is not None:
            borrowed = self._borrowing.lost(node)
            if borrowed is not None:
                self._others.later(borrowed)
        if self._asked or self._fetches:
            self._no_answer(node)

    def lender(self, node: str) -> Lender:
        found = self.lenders.get(node)
        if found is None:
            found = self.lenders[node] = Lender(
                self.queue, lambda message: self._others.say(node, message), self.give_back)
        return found

    def give_back(self, deliveries: list[Delivery]) -> None:
        self.borrowing.give_back(deliveries)

    # -- Elsewhere --------------------------------------------------------------------------------------------

    def pumped(self) -> None:
        if self._borrowing is not None:
            self._borrowing.pumped()

    def fetch(self, call: Callable[[], None]) -> bool:
        asked = {node for node in self.spans.members if node in self._others.in_sight}
        if not asked:
            return False
        number = self._fetches.begin(call, set(asked), self._others.clock_s())
        self._others.waits(self)
        for node in asked:
            self.borrowing.fetched_from(node)
            self._others.say(node, Fetch(self.name, number))
        return True

    def nothing(self, node: str, message: Nothing) -> None:
        """It has answered: what it had was lent before this."""
        self._fetches.nothing(message.number, node, lent=bool(self._borrowing is not None and self._borrowing.count))

    def _no_answer(self, node: str) -> None:
        self.answered(node)
        self._fetches.no_answer(node)

    def bound(self, binding: Binding) -> None:
        in_sight = self._others.in_sight
        for node in [node for node in self.spans.members if node in in_sight]:
            if not self._others.borders.may_pass(node, self.queue.topic, [binding.pattern]):
                self.part_from(node)
        self._tell_members(Bind(self.name, Bound.of(binding)))

    def unbound(self, binding: Binding) -> None:
        self._tell_members(Unbind(self.name, Bound.of(binding)))

    def purged(self) -> None:
        self._tell_members(Purge(self.name))

    def deleted(self) -> None:
        self._tell_members(Delete(self.name))

    def closed(self) -> None:
        self._tell_members(Leave(self.name, self._ends()))
        self._fetches.end()
        self._call_waiting()
        self._others.router.state.delete(STATE + self.name)

    def _tell_members(self, message: Message) -> None:
        if not self._hears:
            for node in self.spans.members:
                self._others.say(node, message)

    def heard(self, work: Callable[[], object]) -> None:
        """Do what another node has said, without saying it again."""
        self._hears = True
        try:
            work()
        finally:
            self._hears = False

    # -- time and state ---------------------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Called with every tick while it is waiting."""
        if self._decide_s is not None and now_s >= self._decide_s:
            self._decide()
        self._fetches.look(now_s)

    def look_for_collector(self, now_s: float, lost_s: float) -> None:
        """Called a few times a second while there are others."""
        if self.spans.collects or not self.decided:
            return
        in_sight = self._others.in_sight
        if self.collector in in_sight and self.collector in self.spans.members:
            self.lost_s = None
        elif self.lost_s is None:
            self.lost_s = now_s
        elif now_s >= self.lost_s + lost_s:
            me = self._others.me
            if all(node > me for node in self.spans.members if node in in_sight):
                self._collect()

    def _collect(self) -> None:
        """The part that collected is lost: go on from where it had come to."""
        self._others.notice(
            logging.WARNING, "queue %s: node %s is lost, what comes from nodes without the queue goes on here",
            self.name, self.collector or "that collected")
        lost, self.collector, self.lost_s = self.collector, "", None
        self.term = min(self.term + 1, NUMBER_MAX)          # a higher one nobody could read; then names decide
        self.spans.collects = True
        begun = {origin: self.spans.begin_at(origin, self._others.reach_of(lost, origin))
                 for origin in self._others.origins_of("") if origin.node not in self.spans.members}
        in_steps(self._others.router, self._take_passed(begun, self._others.common_ends(lost)))
        self.store()
        for node in self.spans.members:
            self.tell(node)

    def _take_passed(self, begun: dict[OriginPartition, int], ends: dict[Partition, int]) -> Iterator[None]:
        """What this part has passed over since the lost one had come as far as we: those events are ours now."""
        consumer = self.queue.consumer
        for cursor in list(consumer.cursors.values()):
            partition = cursor.partition
            until = cursor.position if cursor.behind else partition.end_offset      # all of that it has looked at
            position = max(ends.get(partition, 0), partition.start_offset)
            while partition.index >= 0 and position < until and not consumer.closed:
                found = partition.scan(position, consumer.interest.wants, max_events=STEP, max_scanned=STEP,
                                       patterns=consumer.interest.patterns)
                for event in found.events:
                    since = begun.get(event.origin) if event.origin is not None else None
                    if since is not None and event.origin_offset >= since and event.offset < until \
                            and consumer.interest.wants_event(event):
                        cursor.again[event.offset] = Delivery(event)
                position = found.next_offset
                consumer.touch()
                consumer.ready()
                yield

    def store(self) -> None:
        state = PartState(self.term, self.spans.collects, self.collector, list(self.spans.members), self.spans.rows(),
                          self.guest_of)
        self._others.router.state.put(STATE + self.name, msgspec.msgpack.encode(state))

    def restore(self, state: PartState, before: dict[OriginPartition, int]) -> None:
        """before: where this node had come to when it was stopped."""
        self.term, self.collector, self.guest_of = state.term, state.collector, state.guest_of
        self.spans.collects = state.collects
        self.spans.members = dict.fromkeys(state.members)
        for row in state.spans:
            self.spans.put(self._others.router.origins.of(row.node, row.epoch, row.stream, row.index), row.spans)
        self._before = before
        if state.members:                       # who collects may have changed: they are asked when they are in sight
            self._others.joint(self)
            self._others.waits(self)
            self._asked = set(state.members)
            self._decide_s = self._others.clock_s() + RESTART_S
            self.queue.consumer.held = True
