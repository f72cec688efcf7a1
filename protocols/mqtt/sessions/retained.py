"""The retained events that subscriptions of a session are still to get.      Source: MQTT 5 §3.3.1.3, §3.8.4

Each new subscription has an answer: a cursor over the table of retained events, not a list of them
(routing/retained/retained_cursor.py). They begin in retained_begin.py, and go out by outbound.py. The answers of a
session are given one after the other, as the client's Receive Maximum and its socket allow, and those of all clients in
turns of the loop (retained_turns.py), some events each. They are part of the session's state: whatever is not sent
when the connection or the node goes down is sent when the client comes back.

    mqtt/retained/<client id>/<number>      one answer; put with its SUBSCRIBE, moved on with the ids of the session
                                            (mqtt/qos2/…), so that an event is either still ahead or in flight

Where other nodes hold retained events of the filter that are not here yet, an answer waits for them, for a while.
"""
from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from protocols.mqtt.sessions.subscriptions import MqttSubscription
from routing.retained.retained_cursor import RetainedCursor

if TYPE_CHECKING:
    from routing.retained.retained import RetainedEvents
    from routing.state import StateTable

RETAINED_PREFIX: Final = "mqtt/retained/"
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

    def first(self, retained: RetainedEvents, now_s: float) -> tuple[str, Answer | None]:
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

    def moved(self, answer: Answer, retained: RetainedEvents, subscription: MqttSubscription) -> None:
        """Its cursor has moved on; perhaps it is over."""
        cursor = answer.cursor
        self._changed[answer.number] = answer
        if cursor.done:
            subscription.answered_until = cursor.until
            if answer.merged_since < 0:
                self.drop(answer.pattern)
            else:
                answer.cursor = retained.open_merged(answer.pattern, answer.merged_since)
                answer.merged_since = -1
