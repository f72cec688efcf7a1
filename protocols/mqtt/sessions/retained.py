"""The retained events that subscriptions of a session are still to get.      Source: MQTT 5 §3.3.1.3, §3.8.4

Each new subscription has an answer: a cursor over the table of retained events, not a list of them
(routing/retained/retained_cursor.py). The answers of a session are given one after the other, as the client's Receive
Maximum and its socket allow, and those of all clients in turns of the loop, some events each. They are part of the
session's state: whatever is not sent when the connection or the node goes down is sent when the client comes back.

    mqtt/retained/<client id>/<number>      one answer; put with its SUBSCRIBE, moved on with the ids of the session
                                            (mqtt/qos2/…), so that an event is either still ahead or in flight

Where other nodes hold retained events of the filter that are not here yet, an answer waits for them, for a while.
"""
from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.mqtt.codec import reasons
from protocols.mqtt.sessions.session import CONSUMER_PREFIX, Session
from protocols.mqtt.sessions.subscriptions import MqttSubscription, Plan
from routing.consumers.consumer import Consumer
from routing.retained.retained_cursor import RetainedCursor

if TYPE_CHECKING:
    from protocols.mqtt.outbound import Outbound
    from protocols.mqtt.server import MqttServer
    from routing.retained.retained import RetainedEvents
    from routing.state import StateTable

log = logging.getLogger(__name__)

RETAINED_PREFIX: Final = "mqtt/retained/"
STEP_EVENTS: Final = 200        # of one client in one turn of the loop, some 3 ms
STEP_LOOKS: Final = 800         # places in the table, where little matches
MERGED_STEP: Final = 100        # topics that came from another node
READY_LOOKS: Final = 64         # answers that are asked whether they may begin


class StoredAnswer(msgspec.Struct, array_like=True):
    pattern: str
    since: int
    until: int
    live_from: int
    place: str
    merged_since: int


class Answer:
    __slots__ = ("cursor", "due_s", "held", "merged_since", "number", "pattern")

    def __init__(self, pattern: str, cursor: RetainedCursor, number: int, due_s: float | None, *, held: bool) -> None:
        """pattern: of the subscription. due_s: waits for other nodes until then. held: its SUBACK is not out yet."""
        self.pattern = pattern
        self.cursor = cursor
        self.merged_since = -1                  # go on with what was merged from there on; -1: nothing
        self.number = number
        self.due_s = due_s
        self.held = held


class RetainedAnswers:
    """Those of one session, first come first served. False when there are none."""

    __slots__ = ("_changed", "_client_id", "_next_number", "_of")

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._next_number = 0
        self._of: dict[str, Answer] = {}        # by pattern of the subscription
        self._changed: dict[int, Answer | None] = {}        # to be stored; None: it is over

    def __bool__(self) -> bool:
        return bool(self._of)

    def add(self, subscription: MqttSubscription, cursor: RetainedCursor, due_s: float | None, *, held: bool) -> None:
        """Begin an answer. One for the same subscription that is not over begins anew."""
        self.drop(subscription.pattern)
        self._next_number += 1
        answer = self._of[subscription.pattern] = Answer(
            subscription.pattern, cursor, self._next_number, due_s, held=held)
        self._changed[answer.number] = answer

    def add_merged(self, subscription: MqttSubscription, retained: RetainedEvents, since: int) -> None:
        """Other nodes have brought retained events, at offsets from since on."""
        answer = self._of.get(subscription.pattern)
        if answer is None:
            since = max(since, subscription.answered_until)
            self.add(subscription, retained.open_merged(subscription.pattern, since), None, held=False)
        elif answer.cursor.until >= 0 and answer.merged_since < 0:      # else it has not begun, and takes them with it
            answer.merged_since = max(since, answer.cursor.until)
            self._changed[answer.number] = answer

    def drop(self, pattern: str) -> None:
        """The subscription is gone, or its answer is over."""
        answer = self._of.pop(pattern, None)
        if answer is not None:
            self._changed[answer.number] = None

    def release(self) -> None:
        """Whatever SUBACK was waited for is out, or the client knows that its session goes on."""
        for answer in self._of.values():
            answer.held = False

    # -- stored -----------------------------------------------------------------------------------------------

    def save(self, state: StateTable) -> None:
        """Put what has changed, in the commit of this turn."""
        for number, answer in self._changed.items():
            key = f"{RETAINED_PREFIX}{self._client_id}/{number}"
            if answer is None:
                state.delete(key)
                continue
            cursor = answer.cursor
            state.put(key, msgspec.msgpack.encode(StoredAnswer(
                answer.pattern, cursor.since, cursor.until, cursor.live_from, cursor.place or "", answer.merged_since)))
        self._changed.clear()

    def restore(self, number: int, stored: StoredAnswer, sequence: int) -> None:
        self._next_number = max(self._next_number, number)
        cursor = RetainedCursor(
            stored.pattern, stored.since, stored.until, stored.live_from, sequence, stored.place)
        answer = self._of[stored.pattern] = Answer(stored.pattern, cursor, number, None, held=False)
        answer.merged_since = stored.merged_since

    def clear(self, state: StateTable) -> None:
        """The session is over."""
        for pattern in list(self._of):
            self.drop(pattern)
        self.save(state)

    # -- out --------------------------------------------------------------------------------------------------

    def step(self, outbound: Outbound) -> bool:
        """Send some. False: nothing more can be sent for now."""
        server = outbound.connection.server
        session = outbound.session
        retained = server.router.retained
        if outbound.connection.closed or outbound.paused:
            return False
        if outbound.connection.channel.buffered_bytes() > server.settings.write_buffer_high_bytes:
            server.stalled.add(outbound)                    # the server's tick comes back to it
            return False
        pattern, answer = self._first(retained, server.router.clock_s())
        if answer is None:
            if pattern:
                server.stalled.add(outbound)
            return False
        subscription = session.subscriptions.by_pattern.get(pattern)
        if subscription is None:
            self.drop(pattern)
            return bool(self._of)
        if subscription.qos and outbound.credit <= 0:                                   # [MQTT-3.3.4-9]
            return False
        most = min(STEP_EVENTS, outbound.credit) if subscription.qos else STEP_EVENTS
        cursor = answer.cursor
        events = retained.take(cursor, session.identity, most, STEP_LOOKS)
        if subscription.no_local:
            events = [event for event in events if event.publisher != session.client_id]
        parts, sent = outbound.take_retained(events, Plan(subscription.qos, True, subscription.plan.id_bytes))
        if sent < len(events):
            cursor.back_to(events[sent].topic)
        self._changed[answer.number] = answer
        if cursor.done:
            subscription.answered_until = cursor.until
            if answer.merged_since < 0:
                self.drop(pattern)
            else:
                answer.cursor = retained.open_merged(pattern, answer.merged_since)
                answer.merged_since = -1
        outbound.write_retained(parts)                      # QoS 2 ids are stored there, and this with them
        if session.persistent and any(min(event.qos, subscription.qos) == 0 for event in events[:sent]):
            server.save_qos2(session)                       # at most once, over a crash too
        else:
            server.save_qos2_soon(session)
        return bool(self._of)

    def _first(self, retained: RetainedEvents, now_s: float) -> tuple[str, Answer | None]:
        """The next answer that may be given. None: there is none, with a pattern when that is a matter of time."""
        waits = ""
        for pattern, answer in islice(self._of.items(), READY_LOOKS):
            if answer.held:
                continue
            if answer.due_s is None or now_s >= answer.due_s or retained.is_whole(answer.cursor.pattern):
                answer.due_s = None
                return pattern, answer
            waits = pattern
        return waits, None


class RetainedTurns:
    """Takes those who have retained events to send by turns: one of them, some events, in each turn of the loop."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._queue: deque[Outbound] = deque()
        self._queued: set[Outbound] = set()
        self._called = False

    def add(self, outbound: Outbound) -> None:
        if outbound not in self._queued:
            self._queued.add(outbound)
            self._queue.append(outbound)
        if not self._called:
            self._called = True
            self._call_soon(self._turn)

    def go_on(self, outbound: Outbound) -> None:
        """There is credit again: some at once, so that live events do not always take it first."""
        if outbound not in self._queued and self._step(outbound):
            self.add(outbound)

    def _turn(self) -> None:
        self._called = False
        if self._queue:
            outbound = self._queue.popleft()
            self._queued.discard(outbound)
            if self._step(outbound):
                self.add(outbound)
        if self._queue and not self._called:
            self._called = True
            self._call_soon(self._turn)

    @staticmethod
    def _step(outbound: Outbound) -> bool:
        answers = outbound.session.retained
        if not answers or outbound.session.connection is not outbound.connection:
            return False
        try:
            return answers.step(outbound)
        except Exception:                       # a fault of ours: this connection dies, the node lives
            log.exception("client %r: a fault of ours while sending retained events", outbound.identity.client_id)
            outbound.connection.fail(reasons.UNSPECIFIED_ERROR, "internal error")
            return False


def answer_subscription(session: Session, subscription: MqttSubscription, retained: RetainedEvents, now_s: float,
                        *, is_new: bool) -> None:
    """Begin the answer of a subscription that was just made; none for a shared one.

    Sources: [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    """
    handling = subscription.retain_handling
    if subscription.share is not None or handling == 2 or (handling == 1 and not is_new):
        return
    whole = retained.is_whole(subscription.filter)
    if whole and retained.has_none(subscription.filter):
        return
    if session.retained is None:
        session.retained = RetainedAnswers(session.client_id)
    session.retained.add(subscription, retained.open(subscription.filter),
                         None if whole else now_s + retained.limits.retained_wait_s, held=True)


def answer_merged(server: MqttServer, topics: list[str], since: int) -> Iterator[None]:
    """Retained events came from another node after some have subscribed: those get them, in the same way.

    Steps of the loop, some topics each. since: as in RetainedEvents.announce.
    """
    router = server.router
    for number, topic in enumerate(topics, 1):
        for entry in router.trie.match(topic):
            if isinstance(entry, Consumer):
                client_id = entry.name.removeprefix(CONSUMER_PREFIX)
                session = server.sessions.get(client_id) if client_id != entry.name else None
                found = session.subscriptions.matching(topic) if session is not None else []
            else:
                session = entry.sink.session if isinstance(entry.options, MqttSubscription) else None
                found = [entry.options]
            if session is None:
                continue
            if session.retained is None:
                session.retained = RetainedAnswers(session.client_id)
            for subscription in found:
                if subscription.retain_handling != 2:
                    session.retained.add_merged(subscription, router.retained, since)
            server.save_qos2_soon(session)
            if session.connection is not None and session.connection.outbound is not None:
                server.retained_turns.add(session.connection.outbound)
        if number % MERGED_STEP == 0:
            yield
