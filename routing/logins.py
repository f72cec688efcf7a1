"""Live logins: whatever lives by one hears of it when the right that it lives by is changed or taken away.

    reload ─► changed() ─► holders: connections, readers, pulls, requests      rights_changed(identity as it is now)
                       └─► consumers: each as its owner may read now           ConsumerRegistry.rights_changed()

Publishers are not in the list: the door in asks for theirs when the generation has changed, and so does whoever keeps
the answer of a login (protocols/rest/auth.py). A revoked identity (Identity.revoked) may do nothing, whatever rules
name its user; a holder that gets one ends itself, in the words of its protocol.

The walk goes in steps of one turn of the loop each, so that 10,000 of each cost nobody his turn; it takes far less than
a second. renew and renew_owner are the node's (mesh/identity/renewal.py); without it every login holds.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from routing.rights.policy import Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer

log = logging.getLogger(__name__)

STEP = 30               # holders or consumers seen to in one turn: 2 to 8 ms with 10,000 rules


class Holder(Protocol):
    """Something that is open as long as a login holds."""

    @property
    def identity(self) -> Identity: ...

    def rights_changed(self, identity: Identity) -> None:
        """This is who it is now; revoked: it ends. The rules may have changed, too, so look at what is open."""


class Logins:
    """One per tenant. Loop thread only."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object],
                 consumers: Callable[[], Iterable[Consumer]],
                 see_to: Callable[[Consumer, bool], None], done: Callable[[], None]) -> None:
        """see_to(consumer, rules): look at what it may read, as its owner is now. done: called after a walk."""
        self.generation = 0             # another one whenever a login may not hold any more
        self.renew: Callable[[Identity], Identity] = _as_it_is          # by what was shown at the login
        self.renew_owner: Callable[[Identity], Identity] = _as_it_is    # by the user: an owner need not be here
        self._call_soon = call_soon
        self._consumers = consumers
        self._see_to = see_to
        self._done = done
        self._holders: dict[Holder, str] = {}           # → its proof
        self._by_proof: dict[str, dict[Holder, None]] = {}
        self._holders_left: list[Holder] = []
        self._consumers_left: list[Consumer] = []
        self._rules = False
        self._walking = False

    def add(self, holder: Holder) -> None:
        self.discard(holder)                            # it may have logged in again, by another proof
        proof = self._holders[holder] = holder.identity.proof
        self._by_proof.setdefault(proof, {})[holder] = None

    def discard(self, holder: Holder) -> None:
        proof = self._holders.pop(holder, None)
        if proof is not None:
            others = self._by_proof[proof]
            del others[holder]
            if not others:
                del self._by_proof[proof]

    def ended(self, proof: str) -> None:
        """This proof counts no more: whoever holds something by it hears of it, in steps as above."""
        self._holders_left += self._by_proof.get(proof, ())
        if self._holders_left and not self._walking:
            self._walking = True
            self._step()

    def holds(self, proof: str) -> bool:
        """Is something open by this proof?"""
        return proof in self._by_proof

    def __len__(self) -> int:
        return len(self._holders)

    @property
    def walking(self) -> bool:
        """Not everybody has heard of the last change yet."""
        return self._walking

    def changed(self, *, rules: bool) -> None:
        """Users, keys or issuers are not what they were; rules: nor are the rules."""
        self.generation += 1
        self._rules = self._rules or rules
        self._holders_left = list(self._holders)        # first: a consumer may go over to one of its readers
        self._consumers_left = list(self._consumers())
        if not self._walking:
            self._walking = True
            self._step()                                # of a small node that is all

    def changed_at_start(self) -> None:
        """Before anybody is served: who owns something may have gone while the node was down."""
        for consumer in list(self._consumers()):
            self._see_to(consumer, False)

    def _step(self) -> None:
        for _ in range(STEP):
            try:
                if self._holders_left:
                    self._tell(self._holders_left.pop())
                elif self._consumers_left:
                    self._see_to(self._consumers_left.pop(), self._rules)
            except Exception:                           # the others must hear of it
                log.exception("a fault of ours while rights changed")
        if self._holders_left or self._consumers_left:
            self._call_soon(self._step)
            return
        self._walking = self._rules = False
        self._done()

    def _tell(self, holder: Holder) -> None:
        if holder in self._holders:                     # it has not ended meanwhile
            holder.rights_changed(self.renew(holder.identity))


def _as_it_is(identity: Identity) -> Identity:
    return identity
