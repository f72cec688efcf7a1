"""Retained events of other nodes: what stands there now, for a filter that is new here.

    destination ── RetainedAsk(filter, place) ──► origin
                ◄── RetainedPage(events, onward) ──             some of its own retained events, in order of topic
                ── RetainedAsk(filter, onward) ──► …            until a page says that it is the last

A page is the table as it stands when the page is made; the origin keeps nothing between two of them. It updates the
table here and nothing else (routing/retained/retained.py): whoever subscribes gets it from there.

Snapshot and stream are one: the question is asked when the origin has said from which offset on the filter counts, a
page says at which offset of its stream each event stands, and what the stream brings is left to the stream.
"""
from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mesh.link.protocol.frames import PRIORITY_DATA, PRIORITY_GOSSIP
from mesh.replication.bodies import BadBody, BodyDecoder, BodyEncoder
from mesh.replication.filters import Selection
from mesh.replication.messages import Message, RetainedAsk, RetainedPage, Want
from mesh.replication.settings import ReplicationSettings
from routing.errors import TopicError
from routing.event import Event, OriginPartition, is_expired
from routing.retained.retained import MERGE_STEP, RETAINED_ORIGIN
from routing.retained.topic_index import key_of
from routing.steps import in_steps
from routing.topic import check_filter, filter_matches

if TYPE_CHECKING:
    from routing.router import Router

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 8          # questions to one node at a time
RETRY_S: Final = 1.0            # doubled up to RETRY_MAX_S
RETRY_MAX_S: Final = 30.0
HELD_S: Final = 1.0             # a question waits so long for the flows to know from where its filter counts
PAGE_EVENTS_MAX: Final = 1_000

Send = Callable[[str, Message, int], bool]


class RetainedOutlet:
    """The origin's side."""

    def __init__(self, router: Router, send: Send, exports_to: Callable[[str], tuple[str, ...]],
                 epoch: Callable[[], str], clock_ms: Callable[[], int], limits: ReplicationSettings) -> None:
        self._router = router
        self._send = send
        self._exports_to = exports_to
        self._epoch = epoch
        self._clock_ms = clock_ms
        self._limits = limits
        self._encoder = BodyEncoder()

    def on_ask(self, node: str, ask: RetainedAsk) -> None:
        if ask.epoch != self._epoch():
            return
        try:
            for pattern in (ask.filter, *ask.only):
                check_filter(pattern)
        except TopicError:
            return
        now_ms = self._clock_ms()
        exports = self._exports_to(node)
        found, onward = self._router.retained.own_page(
            ask.filter, ask.place, PAGE_EVENTS_MAX, self._limits.retained_page_bytes)
        page = [                                # what has expired is told as a removal: it stands before older ones
            event if not is_expired(event, now_ms) else msgspec.structs.replace(event, payload=b"", properties=None)
            for event in found
            if all(any(filter_matches(pattern, event.topic) for pattern in patterns)
                   for patterns in (ask.only, exports) if patterns)
        ]
        partitions: dict[tuple[str, int], int] = {}
        places = [self._place(event, partitions) for event in page]
        self._send(node, RetainedPage(
            ask.request, ask.place, onward or "", now_ms, self._encoder.numbered(page) if page else b"",
            list(partitions), places), PRIORITY_DATA)

    def _place(self, event: Event, partitions: dict[tuple[str, int], int]) -> tuple[int, int]:
        """Index in partitions, and offset there, -1: not known."""
        stream = self._router.streams.capture(event.topic)
        if stream is None or event.origin_offset < 0:
            return 0, -1
        partition = stream.partition_for(event.key if event.key is not None else event.topic.encode())
        return partitions.setdefault((stream.name, partition.index), len(partitions)), event.origin_offset


class _Question:
    """One filter asked of one node."""

    __slots__ = ("changed", "due_s", "origin", "pattern", "place", "request", "retry_s", "since")

    def __init__(self, origin: OriginPartition, pattern: str, request: int, since: int, due_s: float) -> None:
        """since: as in RetainedEvents.announce. due_s: it is asked then at the latest."""
        self.origin = origin
        self.pattern = pattern
        self.request = request
        self.since = since
        self.place = ""
        self.changed: list[str] = []            # topics
        self.due_s = due_s
        self.retry_s = RETRY_S


class Flows(Protocol):
    """What of peers.py is used here. Filters and topics are in the other node's own terms."""

    def border(self, node: str) -> tuple[tuple[str, ...], str]:
        """Imports and prefix of the link that leads there."""
        ...

    def counts(self, node: str, patterns: list[str]) -> list[bool]:
        """Does each of these filters count in every live flow from that node?"""
        ...

    def brings(self, node: str, epoch: str, stream: str, index: int) -> Selection | None:
        """What a live flow from there brings, or has brought. None: nothing."""
        ...

    def retained_answered(self, node: str, pattern: str) -> None:
        """All that the node retains under a filter is here."""
        ...


class RetainedIntake:
    """The destination's side."""

    def __init__(self, router: Router, send: Send, flows: Flows, clock_s: Callable[[], float],
                 rng: random.Random) -> None:
        self.taken = 0                          # retained events that changed here by a snapshot
        self.refused = 0
        self._router = router
        self._send = send
        self._flows = flows
        self._clock_s = clock_s
        self._rng = rng
        self._questions: dict[tuple[str, str], _Question] = {}      # by node and filter
        self._waiting: dict[str, deque[_Question]] = {}             # node → not asked yet
        self._asked: dict[int, _Question] = {}                      # by request

    @property
    def outstanding(self) -> int:
        return len(self._questions)

    def want(self, node: str, epoch: str, pattern: str) -> None:
        """Ask a node for its retained events under a filter (in its own terms)."""
        if (node, pattern) in self._questions:
            return
        origin = self._router.origins.of(node, epoch, RETAINED_ORIGIN, 0)
        question = self._questions[node, pattern] = _Question(
            origin, pattern, self._rng.getrandbits(63), self._router.retained.end, self._clock_s() + HELD_S)
        self._waiting.setdefault(node, deque()).append(question)

    def drop(self, node: str) -> None:
        """The node has gone, or its log was made anew."""
        self._waiting.pop(node, None)
        self._asked = {key: question for key, question in self._asked.items() if question.origin.node != node}
        self._questions = {key: question for key, question in self._questions.items() if key[0] != node}

    def go_on(self, node: str) -> None:
        """Ask what can be asked: the flows know from where it counts."""
        queue = self._waiting.get(node)
        if not queue:
            return
        busy = sum(1 for question in self._asked.values() if question.origin.node == node)
        now_s = self._clock_s()
        some = [queue.popleft() for _ in range(min(len(queue), AT_ONCE_MAX - busy))]
        counts = self._flows.counts(node, [question.pattern for question in some])
        for question, ready in zip(some, counts, strict=True):
            if ready or now_s >= question.due_s:
                self._asked[question.request] = question
                self._ask(question)
            else:
                queue.append(question)
        if not queue:
            del self._waiting[node]

    def _ask(self, question: _Question) -> None:
        question.due_s = self._clock_s() + question.retry_s
        only, _ = self._flows.border(question.origin.node)
        self._send(question.origin.node, RetainedAsk(
            question.request, question.origin.epoch, question.pattern, question.place, list(only)), PRIORITY_GOSSIP)

    def on_page(self, source: str, page: RetainedPage) -> None:
        question = self._asked.get(page.request)
        if question is None or question.origin.node != source or page.place != question.place:
            return
        only, prefix = self._flows.border(source)
        events: list[Event] = []
        if page.body:
            wanted = Selection((Want(question.pattern, 0),), only=(only,) if only else ())     # whatever it was asked
            try:
                events = BodyDecoder(question.origin, 0, wanted, prefix).decode(page.body, 0, PAGE_EVENTS_MAX)
            except BadBody as error:
                self.refused += 1
                log.warning("node %s: refused a page of retained events: %s", source, error)
                return                                  # asked again when the time comes
        if (any(not event.retain for event in events) or (page.onward and page.onward <= page.place)
                or any(index >= len(page.partitions) for index, offset in page.places if offset >= 0)):
            self.refused += 1
            return
        question.retry_s = RETRY_S
        question.due_s = float("inf")                   # until it is merged
        question.place = page.onward or "\U0010ffff"    # one that comes twice is late
        in_steps(self._router, self._merge(question, page, events, prefix))

    def _merge(self, question: _Question, page: RetainedPage, events: list[Event], prefix: str) -> Iterator[None]:
        """Take a page into the table."""
        retained = self._router.retained
        origin = question.origin
        topics = {event.topic for event in events}
        left = [event for event, live in zip(events, self._live(question, page, events, prefix), strict=True)
                if not live]
        for start in range(0, len(left), MERGE_STEP):
            question.changed += retained.merge(left[start:start + MERGE_STEP])
            yield
        until = key_of(prefix) + page.onward if page.onward else None
        place: str | None = key_of(prefix) + page.place
        while place is not None and self._is_asked(question):
            place = retained.remove_others(
                prefix + question.pattern, place, until, topics, origin.node, origin.epoch, page.taken_ms)
            yield
        if not self._is_asked(question):
            return                                      # the node has gone meanwhile
        if page.onward:
            self._ask(question)
            return
        del self._asked[question.request]
        del self._questions[origin.node, question.pattern]
        self.taken += len(question.changed)
        self._flows.retained_answered(origin.node, question.pattern)
        retained.announce(question.changed, question.since)
        self.go_on(origin.node)

    def _is_asked(self, question: _Question) -> bool:
        return self._asked.get(question.request) is question

    def _live(self, question: _Question, page: RetainedPage, events: list[Event], prefix: str) -> Iterator[bool]:
        """Of each event: does a stream bring it?"""
        origin = question.origin
        flows = [self._flows.brings(origin.node, origin.epoch, stream, index) for stream, index in page.partitions]
        for number, event in enumerate(events):
            index, offset = page.places[number] if number < len(page.places) else (0, -1)
            flow = flows[index] if offset >= 0 else None
            yield flow is not None and flow.wants_event(event.topic[len(prefix):], offset)

    def tick(self, now_s: float) -> None:
        for node in list(self._waiting):
            self.go_on(node)
        for question in list(self._asked.values()):
            if now_s >= question.due_s:
                question.retry_s = min(question.retry_s * 2, RETRY_MAX_S)
                self._ask(question)
