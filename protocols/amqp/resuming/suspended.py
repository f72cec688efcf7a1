"""Termini: links that may be resumed, and what is kept of those that are suspended. AMQP 1.0 §2.6.2, §2.6.13, §3.5.6.

    attached ── detach, or the connection is lost ──► suspended ── attach of that name ──► attached
        ▲                                                 └── expiry policy, time-out, suspended_s, no room ──► given up
        └── the same name on another connection: the older link hears amqp:link:stolen, what it has is the newer one's

Nothing is kept where nothing is unsettled, and it is kept in memory: what a killed node had sent is in its queues
(tags.py), what it had received is found by its dedupe id (nodes/targets/resuming.py).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from protocols.amqp.codec.conditions import STOLEN, LinkFault
from protocols.amqp.codec.performatives import Source, Target
from routing.fairness.shares import Share

NEVER = "never"
LINK_DETACH, SESSION_END, CONNECTION_CLOSE = "link-detach", "session-end", "connection-close"
UNSETTLED_STATE = 2             # durable, of a terminus                                                        §3.5.5


class Key(NamedTuple):
    """Which link it is. role: of ours."""

    user: str
    container: str
    role: bool
    name: str


class Expiry(NamedTuple):
    """policy: from when on its time is counted."""

    policy: str
    timeout_s: float


class Kept(Protocol):
    """What is unsettled of a link."""

    @property
    def size_bytes(self) -> int:
        """0: nothing is."""

    def give_up(self) -> None:
        """It will not be resumed."""


class Resumable(Protocol):
    """The node of a link that may be resumed."""

    link: Any

    def hand_over(self) -> Kept:
        """Another connection resumes the link: nothing more is done for this one."""


class _Suspended(msgspec.Struct):
    session: Any                    # that it was of
    expiry: Expiry
    kept: Kept
    bytes: int
    until_s: float                  # the latest
    counts: bool = False            # its time-out does, from when on the policy says


def expiry_of(terminus: Source | Target) -> Expiry | None:
    """How long what is unsettled outlives the link. None: not at all: the terminus asks for nothing."""
    policy, timeout_s = terminus.expiry_policy, float(terminus.timeout or 0)
    if policy is None:
        return Expiry(NEVER, 0.0) if terminus.durable == UNSETTLED_STATE else None
    return Expiry(policy, timeout_s) if policy != LINK_DETACH or timeout_s else None


def key_of(link: Any) -> Key:
    connection = link.session.connection
    return Key(connection.identity.user, connection.container_id, link.role, str(link.name))


class Termini:
    """One per server."""

    def __init__(self, share: Share, clock_s: Callable[[], float], *, bytes_max: Callable[[], int],
                 suspended_s: Callable[[], float]) -> None:
        """share: of bytes, by user."""
        self._share = share
        self._clock_s = clock_s
        self._bytes_max = bytes_max
        self._suspended_s = suspended_s
        self._attached: dict[Key, Resumable] = {}
        self._suspended: dict[Key, _Suspended] = {}

    def __len__(self) -> int:
        return len(self._suspended)

    def claim(self, key: Key, node: Resumable) -> Kept | None:
        """A link of this name is attached: what an earlier one has left, None: nothing."""
        other = self._attached.get(key)
        self._attached[key] = node
        if other is not None:
            kept = other.hand_over()
            other.link.session.connection.fail_link(
                other.link, LinkFault(STOLEN, "another connection has attached a link of this name"))
            return kept
        found = self._suspended.pop(key, None)
        if found is None:
            return None
        self._share.give(key.user, found.bytes)
        return found.kept

    def left(self, key: Key, node: Resumable, kept: Kept, expiry: Expiry | None) -> None:
        """Its link has gone. expiry None: for good."""
        if self._attached.get(key) is node:
            del self._attached[key]
        size = kept.size_bytes
        if not size:
            return
        if expiry is None or self._share.take(key.user, self._bytes_max(), size) is not None:
            kept.give_up()
            return
        now_s = self._clock_s()
        one = _Suspended(node.link.session, expiry, kept, size, now_s + self._suspended_s())
        self._suspended[key] = one
        if self._is_over(one, now_s):
            self._give_up(key)

    def tick(self, now_s: float) -> None:
        """Called every half second or so."""
        for key in [key for key, one in self._suspended.items() if self._is_over(one, now_s)]:
            self._give_up(key)

    def _is_over(self, one: _Suspended, now_s: float) -> bool:
        policy, timeout_s = one.expiry
        if not one.counts and (
                policy == LINK_DETACH or (policy == SESSION_END and one.session.ended)
                or (policy == CONNECTION_CLOSE and one.session.connection.closed)):
            one.counts = True
            one.until_s = min(one.until_s, now_s + timeout_s)
        return now_s >= one.until_s

    def _give_up(self, key: Key) -> None:
        one = self._suspended.pop(key)
        self._share.give(key.user, one.bytes)
        one.kept.give_up()

    def close(self) -> None:
        """The node stops: everything is where it stands on disk."""
        self._suspended.clear()
        self._attached.clear()
