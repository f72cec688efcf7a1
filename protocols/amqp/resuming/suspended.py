"""Termini: links that may be resumed, and what is kept of those that are suspended. AMQP 1.0 §2.6.2, §2.6.13, §3.5.6.

    attached ── detach, or the connection is lost ──► suspended ── attach of that name ──► attached
        ▲                                                 └── expiry policy, time-out, suspended_s, no room ──► given up
        └── the same name on another connection: the older link hears amqp:link:stolen, what it has is the newer one's

Nothing is kept where nothing is unsettled, and it is kept in memory: what a killed node had sent is in its queues
(tags.py), what it had received is found by its dedupe id (nodes/targets/resuming.py).

No turn grows with how many there are: those whose time counts are in a heap, the others are looked at when the session
or connection ends that they wait for, and they are given up as long as a tick has time.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple, Protocol

import msgspec

from protocols.amqp.codec.conditions import STOLEN, LinkFault
from protocols.amqp.codec.performatives import Source, Target
from routing.fairness.shares import Share

NEVER = "never"
LINK_DETACH, SESSION_END, CONNECTION_CLOSE = "link-detach", "session-end", "connection-close"
TICK_S = 0.004                  # of one tick, to give up those whose time is over; the rest has the next ones
DEAD_MIN = 1_000                # times of links that were resumed stay until there are more of them
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
    timeout_s: float                # of its terminus
    kept: Kept
    bytes: int
    until_s: float                  # the latest
    number: int = 0                 # of its time in the heap that holds
    waits_for: Any = None           # the session or connection with whose end its time counts


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

    def __init__(self, links: Share, share: Share, clock_s: Callable[[], float], *, links_max: Callable[[], int],
                 bytes_max: Callable[[], int], suspended_s: Callable[[], float]) -> None:
        """share: of bytes. Both by user."""
        self._links = links
        self._share = share
        self._clock_s = clock_s
        self._links_max = links_max
        self._bytes_max = bytes_max
        self._suspended_s = suspended_s
        self._attached: dict[Key, Resumable] = {}
        self._suspended: dict[Key, _Suspended] = {}
        self._times: list[tuple[float, int, Key]] = []      # heap
        self._number = 0
        self._waiting: dict[Any, dict[Key, None]] = {}      # by what they wait for
        self._ended: deque[tuple[Any, float, dict[Key, None]]] = deque()    # what of that has ended, and when

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
        return self._forget(key) if key in self._suspended else None

    def left(self, key: Key, node: Resumable, kept: Kept, expiry: Expiry | None) -> None:
        """Its link has gone. expiry None: for good."""
        if self._attached.get(key) is node:
            del self._attached[key]
        size = kept.size_bytes
        if not size:
            return
        if expiry is None or not self._take(key.user, size):
            kept.give_up()
            return
        now_s = self._clock_s()
        session = node.link.session
        one = _Suspended(expiry.timeout_s, kept, size, now_s + self._suspended_s())
        self._suspended[key] = one
        if expiry.policy == SESSION_END and not session.ended:
            one.waits_for = session
        elif expiry.policy == CONNECTION_CLOSE and not session.connection.closed:
            one.waits_for = session.connection
        elif expiry.policy != NEVER:
            one.until_s = min(one.until_s, now_s + one.timeout_s)
        if one.until_s <= now_s:
            self._give_up(key)
            return
        if one.waits_for is not None:
            self._waiting.setdefault(one.waits_for, {})[key] = None
        self._note(key, one)

    def session_ended(self, session: Any) -> None:
        waiting = self._waiting.pop(session, None)
        if waiting:
            self._ended.append((session, self._clock_s(), waiting))

    connection_closed = session_ended

    def tick(self, now_s: float) -> None:
        """Called often."""
        until_s = self._clock_s() + TICK_S
        while self._ended:
            self._count_one()
            if self._clock_s() >= until_s:
                break
        while self._times and self._times[0][0] <= now_s:
            _, number, key = heappop(self._times)
            one = self._suspended.get(key)
            if one is not None and one.number == number:
                self._give_up(key)
            if self._clock_s() >= until_s:              # one at least, or they would never go
                break

    def close(self) -> None:
        """The node stops: everything is where it stands on disk."""
        self._suspended.clear()
        self._attached.clear()
        self._times.clear()
        self._waiting.clear()
        self._ended.clear()

    # -- inside -----------------------------------------------------------------------------------------------

    def _take(self, user: str, size: int) -> bool:
        """Is there room for one more?"""
        if self._links.take(user, self._links_max()) is not None:
            return False
        if self._share.take(user, self._bytes_max(), size) is not None:
            self._links.give(user)
            return False
        return True

    def _note(self, key: Key, one: _Suspended) -> None:
        """Its time is another one now."""
        self._number += 1
        one.number = self._number
        heappush(self._times, (one.until_s, one.number, key))
        if len(self._times) > 2 * len(self._suspended) + DEAD_MIN:
            self._times = [(each.until_s, each.number, name) for name, each in self._suspended.items()]
            heapify(self._times)

    def _count_one(self) -> None:
        """The time of one that has waited for what has ended counts from then on."""
        ended, ended_s, waiting = self._ended[0]
        if waiting:
            key, _ = waiting.popitem()
            one = self._suspended.get(key)
            if one is not None and one.waits_for is ended:
                one.waits_for = None
                one.until_s = min(one.until_s, ended_s + one.timeout_s)
                self._note(key, one)
        if not waiting:
            self._ended.popleft()

    def _forget(self, key: Key) -> Kept:
        one = self._suspended.pop(key)
        self._links.give(key.user)
        self._share.give(key.user, one.bytes)
        waiting = self._waiting.get(one.waits_for)
        if waiting is not None:
            waiting.pop(key, None)
            if not waiting:
                del self._waiting[one.waits_for]
        return one.kept

    def _give_up(self, key: Key) -> None:
        self._forget(key).give_up()
