"""Who was let in to publish, by which rule: one record per (client, user, protocol, rule), made when it first happens.

An event keeps the name of its publisher and no more, so that a record costs a few bytes. What was behind that name at
the time stands here, in the state table of the node: the door asks the policy once per publisher and topic, and only
that is listened to, so the hot path pays nothing. Bounded: the oldest records go.
"""
from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from routing.event import Event
    from routing.router import Router

PREFIX: Final = "entry/"
ENTRIES_MAX: Final = 20_000         # some 8 MB, in memory and in the log
NEW_PER_S: Final = 200              # a flood of client ids is not written down one by one
TEXT_MAX: Final = 200
CLOCK_MS: Final = 1_000             # an event may be stamped a moment before its publisher is noted


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """since_ms: when it first happened.  topic: the one that it happened with."""

    since_ms: int
    client_id: str
    user: str
    roles: tuple[str, ...]
    protocol: str
    address: str
    rule: str
    topic: str


class Entries:
    """One per node. Loop thread only."""

    def __init__(self, router: Router, clock_ms: Callable[[], int]) -> None:
        self._router = router
        self._clock_ms = clock_ms
        found = sorted(router.state.decoded(PREFIX, Entry, "who was let in"), key=lambda pair: pair[1].since_ms)
        self._by_key: dict[str, Entry] = dict(found)
        self._new = 0
        self.untold = 0             # that were not written down, for there were too many at once
        router.on_admitted.append(self.note)

    def note(self, identity: Identity, topic: str) -> None:
        """Somebody is let in with a topic for the first time, or again after the rules have changed."""
        if identity.protocol in ("", "internal", "link"):
            return
        rule = self._router.policy.decide(identity, Action.PUBLISH, topic).rule
        text = "\0".join((identity.client_id, identity.user, identity.protocol, rule))
        key = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]
        if key in self._by_key:
            return
        if self._new >= NEW_PER_S:
            self.untold += 1
            return
        self._new += 1
        entry = Entry(self._clock_ms(), identity.client_id[:TEXT_MAX], identity.user[:TEXT_MAX], identity.roles[:16],
                      identity.protocol, identity.address[:TEXT_MAX], rule[:TEXT_MAX], topic[:TEXT_MAX])
        self._by_key[key] = entry
        self._router.state.put(PREFIX + key, msgspec.msgpack.encode(entry))
        if len(self._by_key) > ENTRIES_MAX:
            oldest = next(iter(self._by_key))
            del self._by_key[oldest]
            self._router.state.delete(PREFIX + oldest)

    def second(self) -> None:
        """Called once a second."""
        self._new = 0

    def of(self, event: Event) -> Entry | None:
        """Who published an event that came in at this node; None: not known."""
        name = event.publisher[:TEXT_MAX]
        topic = event.topic[:TEXT_MAX]
        fitting = [entry for entry in self._by_key.values() if entry.since_ms <= event.timestamp_ms + CLOCK_MS and (
            name in (entry.client_id, entry.user) if name else entry.topic == topic)]
        if not fitting:
            return None
        return max(fitting, key=lambda entry: (self._lets_in(entry, event.topic), entry.since_ms))

    def _lets_in(self, entry: Entry, topic: str) -> bool:
        """Of several rules that have let this client in: is it this one that the topic needs now?"""
        identity = Identity(entry.user, entry.roles, protocol=entry.protocol, client_id=entry.client_id)
        decision = self._router.policy.decide(identity, Action.PUBLISH, topic)
        return decision.allowed and decision.rule == entry.rule
