"""Replies: where the answers to requests come in, whatever protocol the responder speaks.

    request ── event with reply_to "$reply/<node>/<id>" ──► responder ── publishes to that topic ──► Replies ──► waiter

The id is a random number of 128 bits that only the receivers of the request learn, so knowing it is the right to
answer: the policy lets everybody publish below $reply/ and nobody subscribe there. Nothing of it is stored or retained.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from routing.direct.subscription import DirectTarget, Subscription
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import INTERNAL, REPLY_PREFIX, Identity

if TYPE_CHECKING:
    from routing.consumers.consumer import Consumer
    from routing.router import Router

WAITING_MAX = 100_000       # requests of a node that wait for an answer; each costs some 300 bytes

Answered = Callable[[Event], None]


class Replies:
    """One per node: a Sink of the direct lane for all requests together, so that a request changes no route."""

    def __init__(self, router: Router, node: str, new_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        """node: the name of this node, of the characters that a node name may have."""
        self.identity: Identity = INTERNAL
        self.consumer: Consumer | None = None
        self.inbox: list[tuple[list[Event], DirectTarget, bool]] = []
        self.inbox_scheduled = False
        self.answered = 0
        self.late = 0                                   # answers that nobody waits for (any more)
        self._prefix = f"{REPLY_PREFIX}{node}/"
        self._new_id = new_id
        self._share = router.shares.requests
        self._waiting: dict[str, tuple[str, Answered]] = {}     # topic → who waits, and what is called
        refusal = router.subscribe(Subscription(f"{self._prefix}+", self))
        assert refusal is None, refusal

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, user: str, answered: Answered) -> str | Refusal:
        """A fresh topic for reply_to. answered(event) is called at most once, with the first answer.

        Refused: too many requests wait already. The caller keeps the time, and calls forget().
        """
        refusal = self._share.take(user, WAITING_MAX)
        if refusal is not None:
            return refusal
        topic = self._prefix + self._new_id()
        self._waiting[topic] = user, answered
        return topic

    def forget(self, topic: str) -> None:
        """No answer is wanted any more. Idempotent."""
        self._taken_out(topic)

    def _taken_out(self, topic: str) -> Answered | None:
        found = self._waiting.pop(topic, None)
        if found is None:
            return None
        self._share.give(found[0])
        return found[1]

    def flush_inbox(self) -> None:
        inbox, self.inbox = self.inbox, []
        for events, _, _ in inbox:
            for event in events:
                answered = self._taken_out(event.topic)
                if answered is None:
                    self.late += 1
                else:
                    self.answered += 1
                    answered(event)


def has_receiver(router: Router, topic: str) -> bool:
    """False when nobody, here or on a node that we know of, would get a request of this topic."""
    routes = router.routes
    route = routes.of(topic)
    if route.direct or any(consumer.is_read for consumer in route.consumers):
        return True
    return routes.remote is not None and routes.remote.wants(topic)
