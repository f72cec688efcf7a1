"""ResumingTarget: a sender's link that may be resumed: what it brings again is stored once. AMQP 1.0 §2.6.13, §3.4.6.

    the sender says it is unsettled, and here       then
    it is on its way to the disk, or has an outcome     it is told so; when it comes again it gets that outcome
    nothing is known of it                              it is sent as new
      … and the target keeps its unsettled state        it is told to be here without a state, so it comes again with
                                                        its tag, and is stored unless the log has it: this node may
                                                        have been killed since

The latter needs the second receiver settle mode and durable = 2 (unsettled-state): its events have a dedupe id, made of
link, tag and message. A tag that is used again for a new delivery is a new one all the same.
"""
from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import msgspec

from protocols.amqp import convert
from protocols.amqp.codec.performatives import Attach, Target
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.engine.unsettled import Tags, UnsettledMap, tags_of
from protocols.amqp.nodes.targets.targets import Destination, MessageTarget
from protocols.amqp.nodes.work import Work
from protocols.amqp.resuming.suspended import UNSETTLED_STATE, Expiry, Key, Termini
from protocols.declaring import Declaring
from routing.event import Event, Properties
from routing.router import Router

_NO_PROPERTIES = Properties()


class Left:
    """Kept of suspended.py."""

    __slots__ = ("unsettled",)

    def __init__(self, unsettled: UnsettledMap) -> None:
        self.unsettled = unsettled

    @property
    def size_bytes(self) -> int:
        return self.unsettled.size_bytes

    def give_up(self) -> None:
        return


class ResumingTarget(MessageTarget):
    """See the module's head."""

    __slots__ = ("_expiry", "_gone", "_key", "_once", "_termini", "_unsettled", "is_stolen", "link")

    def __init__(self, link: ReceivingLink, router: Router, work: Work, transactions: Any,
                 destination: Destination | None, resolve: Callable[[str], Destination],
                 reply_topic: convert.ReplyTo, declaring: Declaring | None, termini: Termini, key: Key,
                 expiry: Expiry, *, count_max: int) -> None:
        super().__init__(link, router, work, transactions, destination, resolve, reply_topic, declaring)
        self.link = link
        self._termini = termini
        self._key = key
        self._expiry = expiry
        self._gone = False
        self.is_stolen = False                          # another link of this name takes its place
        target = link.attach.target
        self._once = (isinstance(target, Target) and target.durable == UNSETTLED_STATE and link.second
                      and destination is not None and not destination.internal and destination.exchange is None)
        self._unsettled = UnsettledMap(count_max)

    def accept(self, attach: Attach, echo: Target) -> None:
        """Take over what an earlier link has left, and answer the attach."""
        theirs = tags_of(attach.unsettled)
        kept = self._termini.claim(self._key, self)
        if isinstance(kept, Left):
            self._unsettled = kept.unsettled
        unsettled = self.link.unsettled = self._unsettled
        unsettled.compare(theirs, is_complete=not attach.incomplete_unsettled)
        told: Tags = dict(unsettled.states)
        if self._once:
            told.update({tag: None for tag, state in theirs.items() if state is None and tag not in told})
        self.link.accept(self, echo, unsettled=told)

    def stamp(self, event: Event, delivery: Incoming, message: bytes) -> bool:
        if not self._once or delivery.settled or delivery.txn_id is not None:
            return False
        name = self._key.name.encode()
        made = blake2b(digest_size=16)
        for part in (name, delivery.tag, message):
            made.update(len(part).to_bytes(8, "big"))
            made.update(part)
        event.properties = msgspec.structs.replace(event.properties or _NO_PROPERTIES, dedupe_id=made.digest())
        if not delivery.resumed:
            self._router.is_new(event, self._work.publisher)
        return True

    def hand_over(self) -> Left:
        self._gone = True
        return Left(self._unsettled)

    def detach(self, *, closed: bool) -> None:
        if self._gone:
            return
        connection: Any = self.link.session.connection
        super().detach(closed=closed)
        self._work.flush()                              # what has come whole is stored, and its outcome kept
        lasts = (not closed or self.is_stolen) and not connection.identity.revoked
        self._termini.left(self._key, self, Left(self._unsettled), self._expiry if lasts else None)
