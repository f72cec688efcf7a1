"""Retained events of other nodes: a snapshot of what stands there now, for a filter that is new here.

    destination ── RetainedAsk(filter, after = "") ──► origin: its own retained events, sorted by topic, kept a while
                ◄──────────── RetainedPage ──────────
                ── RetainedAsk(filter, after = last topic of the page) ──► …    until a page says that it is the last

What changes later comes by the streams, as events do; whichever is newer stands (routing/retained.py).
"""
from __future__ import annotations

import logging
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mesh.link.frames import PRIORITY_DATA, PRIORITY_GOSSIP
from mesh.replication.bodies import BadBody, BodyDecoder, BodyEncoder
from mesh.replication.filters import Selection
from mesh.replication.messages import Message, RetainedAsk, RetainedPage, Want
from mesh.replication.settings import ReplicationSettings
from routing.errors import TopicError
from routing.event import Event, OriginPartition, event_size_bytes
from routing.publisher import Publisher
from routing.retained import RETAINED_STREAM
from routing.topic import check_filter, filter_matches

if TYPE_CHECKING:
    from routing.router import Router

log = logging.getLogger(__name__)

AT_ONCE_MAX: Final = 8          # questions to one node at a time
RETRY_S: Final = 1.0            # doubled up to RETRY_MAX_S
RETRY_MAX_S: Final = 30.0
SNAPSHOTS_MAX: Final = 64       # that others read here at a time; beyond it the oldest is taken again when asked
SNAPSHOT_S: Final = 30.0
KEPT_BYTES_MAX: Final = 32 * 1024 * 1024        # of a snapshot on its way in; a larger one removes nothing here
PAGE_EVENTS_MAX: Final = 4_096

Send = Callable[[str, Message, int], bool]


class Snapshot:
    __slots__ = ("events", "taken_ms", "topics", "used_s")

    def __init__(self, events: list[Event], taken_ms: int, used_s: float) -> None:
        self.events = events
        self.topics = [event.topic for event in events]
        self.taken_ms = taken_ms
        self.used_s = used_s


class RetainedOutlet:
    """The origin's side."""

    def __init__(self, router: Router, send: Send, exports_to: Callable[[str], tuple[str, ...]],
                 epoch: Callable[[], str], clock_s: Callable[[], float], clock_ms: Callable[[], int],
                 limits: ReplicationSettings) -> None:
        self._router = router
        self._send = send
        self._exports_to = exports_to
        self._epoch = epoch
        self._clock_s = clock_s
        self._clock_ms = clock_ms
        self._limits = limits
        self._encoder = BodyEncoder()
        self._snapshots: dict[tuple[str, int], Snapshot] = {}

    def on_ask(self, node: str, ask: RetainedAsk) -> None:
        if ask.epoch != self._epoch():
            return
        try:
            for pattern in (ask.filter, *ask.only):
                check_filter(pattern)
        except TopicError:
            return
        snapshot = self._snapshots.pop((node, ask.request), None) or self._take(node, ask)
        snapshot.used_s = self._clock_s()
        while len(self._snapshots) >= SNAPSHOTS_MAX:
            del self._snapshots[next(iter(self._snapshots))]
        self._snapshots[node, ask.request] = snapshot           # the newest stands last
        page = self._page(snapshot, ask.after)
        stop = bisect_right(snapshot.topics, page[-1].topic) if page else len(snapshot.events)
        self._send(node, RetainedPage(
            ask.request, ask.after, stop >= len(snapshot.events), snapshot.taken_ms,
            self._encoder.numbered(page) if page else b""), PRIORITY_DATA)

    def _page(self, snapshot: Snapshot, after: str) -> list[Event]:
        start = bisect_right(snapshot.topics, after) if after else 0
        page: list[Event] = []
        size = 0
        for event in snapshot.events[start:start + PAGE_EVENTS_MAX]:
            page.append(event)
            size += event_size_bytes(event)
            if size >= self._limits.retained_page_bytes:
                break
        return page

    def _take(self, node: str, ask: RetainedAsk) -> Snapshot:
        now_ms = self._clock_ms()
        exports = self._exports_to(node)
        events = [
            event for event in self._router.retained.own_snapshot(ask.filter)
            if all(any(filter_matches(pattern, event.topic) for pattern in patterns)
                   for patterns in (ask.only, exports) if patterns)
            and not (event.properties is not None and event.properties.expires_at_ms is not None
                     and event.properties.expires_at_ms <= now_ms)
        ]
        return Snapshot(sorted(events, key=lambda event: event.topic), now_ms, self._clock_s())

    def tick(self, now_s: float) -> None:
        for key in [key for key, snapshot in self._snapshots.items() if now_s - snapshot.used_s > SNAPSHOT_S]:
            del self._snapshots[key]


class _Question:
    """One filter asked of one node."""

    __slots__ = ("after", "due_s", "events", "origin", "pattern", "request", "retry_s", "size", "taken_ms", "whole")

    def __init__(self, origin: OriginPartition, pattern: str, request: int) -> None:
        self.origin = origin
        self.pattern = pattern
        self.request = request
        self.after = ""
        self.events: list[Event] = []
        self.size = 0
        self.taken_ms: int | None = None
        self.whole = True
        self.due_s = 0.0
        self.retry_s = RETRY_S


class RetainedIntake:
    """The destination's side."""

    def __init__(self, router: Router, send: Send, border: Callable[[str], tuple[tuple[str, ...], str]],
                 clock_s: Callable[[], float], rng: random.Random, publisher_of: Callable[[str], Publisher]) -> None:
        """border(node): imports and prefix of the link that leads there."""
        self.taken = 0                          # retained events that changed here by a snapshot
        self.refused = 0
        self._router = router
        self._send = send
        self._border = border
        self._clock_s = clock_s
        self._rng = rng
        self._publisher_of = publisher_of
        self._waiting: dict[str, deque[_Question]] = {}         # node → not asked yet
        self._asked: dict[int, _Question] = {}                  # by request

    @property
    def outstanding(self) -> int:
        return len(self._asked) + sum(map(len, self._waiting.values()))

    def want(self, node: str, epoch: str, pattern: str) -> None:
        """Ask a node for its retained events under a filter (in its own terms)."""
        origin = self._router.origins.of(node, epoch, RETAINED_STREAM, 0)
        queue = self._waiting.setdefault(node, deque())
        if not any(question.pattern == pattern and question.origin is origin for question in queue):
            queue.append(_Question(origin, pattern, self._rng.getrandbits(63)))
        self._go_on(node)

    def drop(self, node: str) -> None:
        """The node has gone, or its log was made anew."""
        self._waiting.pop(node, None)
        self._asked = {key: question for key, question in self._asked.items() if question.origin.node != node}

    def _go_on(self, node: str) -> None:
        busy = sum(1 for question in self._asked.values() if question.origin.node == node)
        queue = self._waiting.get(node)
        while queue and busy < AT_ONCE_MAX:
            question = queue.popleft()
            self._asked[question.request] = question
            self._ask(question)
            busy += 1
        if not queue:
            self._waiting.pop(node, None)

    def _ask(self, question: _Question) -> None:
        question.due_s = self._clock_s() + question.retry_s
        only, _ = self._border(question.origin.node)
        self._send(question.origin.node, RetainedAsk(
            question.request, question.origin.epoch, question.pattern, question.after, list(only)), PRIORITY_GOSSIP)

    def on_page(self, source: str, page: RetainedPage) -> None:
        question = self._asked.get(page.request)
        if question is None or question.origin.node != source or page.after != question.after:
            return
        only, prefix = self._border(source)
        events: list[Event] = []
        if page.body:
            wanted = Selection((Want(question.pattern, 0),), only=(only,) if only else ())     # whatever it was asked
            try:
                events = BodyDecoder(question.origin, 0, wanted, prefix).decode(page.body, 0, PAGE_EVENTS_MAX)
            except BadBody as error:
                self.refused += 1
                log.warning("node %s: refused a page of retained events: %s", source, error)
                return                                  # asked again when the time comes
        if any(not event.retain for event in events) or (not events and not page.last):
            self.refused += 1
            return
        question.retry_s = RETRY_S
        question.taken_ms = page.taken_ms if question.taken_ms is None else min(question.taken_ms, page.taken_ms)
        question.events += events
        question.size += sum(map(event_size_bytes, events))
        if question.size > KEPT_BYTES_MAX:
            question.whole = False
            self._merge(question, prefix, complete=False)
        if not page.last:
            question.after = events[-1].topic[len(prefix):]
            self._ask(question)
            return
        del self._asked[page.request]
        self._merge(question, prefix, complete=question.whole)
        self._go_on(source)

    def _merge(self, question: _Question, prefix: str, *, complete: bool) -> None:
        origin = question.origin
        changed = self._router.retained.merge(
            question.events, origin.node, origin.epoch, prefix + question.pattern, complete, question.taken_ms)
        question.events, question.size = [], 0
        self.taken += len(changed)
        if changed:
            self._router.deliver_direct(changed, self._publisher_of(origin.node))
        self._router.request_turn()

    def tick(self, now_s: float) -> None:
        for question in self._asked.values():
            if now_s >= question.due_s:
                question.retry_s = min(question.retry_s * 2, RETRY_MAX_S)
                self._ask(question)
