"""The usage record: who used which right, how often. In memory, one bucket at a time; who stores it takes it from here.

    Policy.refuse() ── once per decision that is asked for ──► note()
    Router.publish() ── Deeds: topic → events, one addition per run ──► tick(): by what rule, into the bucket

The deeds of a publisher are known to the record from their first event on, until there was none for a while. The record
holds no publisher, whose routes lead to connections that may be over. Distinct uses of a bucket are bounded; what is
beyond it is counted and left out.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from routing.rights.rules import Action, Decision, Identity

USES_MAX: Final = 50_000            # distinct ones in a bucket: some 25 MB at the most
USES_OF_USER_MAX: Final = 10_000    # of those of one user, so that nobody's topics leave no room for the others'
DRAIN_S: Final = 5.0                # publishers are asked what they did so often
STEP: Final = 500                   # uses moved into the bucket in one turn of the loop: 1 to 2 ms
TEXT_MAX: Final = 512               # characters of a topic or name in a use


class Deeds:
    """What one publisher did since it was asked."""

    __slots__ = ("by_topic", "identity", "is_known")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.by_topic: dict[str, int] = {}      # events
        self.is_known = False                   # to the record, which will ask


class Use(NamedTuple):
    """Who did what, and which rule decided. roles: as they were then."""

    user: str
    roles: tuple[str, ...]
    client_id: str
    protocol: str
    action: Action
    topic: str
    allowed: bool
    rule: str


class Tally:
    """How often, from when to when (wall clock)."""

    __slots__ = ("count", "first_ms", "last_ms")

    def __init__(self, first_ms: int) -> None:
        self.count = 0
        self.first_ms = self.last_ms = first_ms


class Usage:
    """One per tenant. Loop thread only."""

    def __init__(self, decide: Callable[[Identity, Action, str], Decision], clock_ms: Callable[[], int]) -> None:
        self.uses: dict[Use, Tally] = {}        # of the bucket that is open
        self.left_out = 0
        self._of_user: Counter[str] = Counter()     # uses in it
        self._decide = decide
        self._clock_ms = clock_ms
        self._known: dict[Deeds, None] = {}
        self._due: list[Deeds] = []
        self._due_s = 0.0

    def note(self, identity: Identity, action: Action, topic: str, decision: Decision, count: int) -> None:
        """count 0: it is a use, and its events are counted otherwise."""
        if identity.user[:1] == "$":                    # the node itself, and other nodes
            return
        use = Use(identity.user[:TEXT_MAX], identity.roles, identity.client_id[:TEXT_MAX], identity.protocol, action,
                  topic[:TEXT_MAX], decision.allowed, decision.rule)
        now_ms = self._clock_ms()
        tally = self.uses.get(use)
        if tally is None:
            if len(self.uses) >= USES_MAX or self._of_user[use.user] >= USES_OF_USER_MAX:
                self.left_out += max(count, 1)
                return
            tally = self.uses[use] = Tally(now_ms)
            self._of_user[use.user] += 1
        tally.count += count
        tally.last_ms = now_ms

    def begin(self, deeds: Deeds, topic: str, count: int) -> None:
        """Somebody publishes to a topic, for the first time since he was asked; from now on he is asked what he did."""
        deeds.by_topic[topic] = count
        if not deeds.is_known:
            deeds.is_known = True
            self._known[deeds] = None

    def tick(self, now_s: float) -> None:
        """Some of what publishers did, into the bucket. Every 50 ms."""
        if not self._due:
            if now_s < self._due_s:
                return
            self._due_s = now_s + DRAIN_S
            self._due = list(self._known)
        moved = 0
        while self._due and moved < STEP:
            moved += self.move(self._due.pop()) + 1

    def drain(self) -> None:
        """All of it, now: before a bucket is closed by who stops the node or asks for the record."""
        for deeds in list(self._known):
            self.move(deeds)
        self._due = []

    def move(self, deeds: Deeds) -> int:
        """They go into the bucket. Returns how many uses that are."""
        uses, deeds.by_topic = deeds.by_topic, {}
        if not uses:
            self._known.pop(deeds, None)
            deeds.is_known = False                      # until the next event
            return 0
        identity = deeds.identity
        for topic, count in uses.items():
            self.note(identity, Action.PUBLISH, topic, self._decide(identity, Action.PUBLISH, topic), count)
        return len(uses)

    def take(self) -> dict[Use, Tally]:
        """Close the bucket: what is in it is the caller's, and another one is open."""
        found, self.uses = self.uses, {}
        self._of_user.clear()
        return found
