"""QueueBrowser: a receiver with distribution-mode copy. It sees what is ready and takes nothing. AMQP 1.0 §3.3.1."""
from __future__ import annotations

from typing import Any

from protocols.amqp import convert
from protocols.amqp.codec.composite import Composite
from protocols.amqp.codec.conditions import RESOURCE_DELETED, LinkFault
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.addresses import address_of
from routing.queues.predicates import Predicate
from routing.queues.queue import Queue
from routing.router import Router

PAGE = 100              # events looked at in one turn


class QueueBrowser:
    """SourceNode of a link. What comes to the queue after the end was reached is seen with the next credit."""

    __slots__ = ("_after", "_connection", "_current", "_ended", "_link", "_predicate", "_queue", "_router",
                 "_scheduled")

    def __init__(self, link: SendingLink, queue: Queue, router: Router, predicate: Predicate | None = None) -> None:
        self._link = link
        self._queue = queue
        self._router = router
        self._connection: Any = link.session.connection
        self._after: str | None = ""                    # where the next page begins, None: it was the last
        self._current = False                           # what was published before the attach is in the queue
        self._scheduled = False
        self._ended = False
        self._predicate = predicate
        queue.when_current(self._is_current)

    def _is_current(self) -> None:
        self._current = True
        self._later()

    def credit_changed(self) -> None:
        self._later()

    def drain(self) -> None:
        self._later()

    def accepted(self, held: list[Any]) -> None:
        return

    def settle(self, held: Any, state: Composite | None, *, settled: bool) -> None:
        return                                          # a copy: whatever becomes of it

    def detach(self, *, closed: bool) -> None:
        self._ended = True

    def _later(self) -> None:
        if self._current and not self._scheduled and not self._ended:
            self._scheduled = True
            self._router.call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        link = self._link
        if self._ended or not link.is_attached:
            return
        if self._queue.is_deleted:
            self._connection.fail_link(link, LinkFault(RESOURCE_DELETED, "the queue was deleted"))
            return
        room = link.room()
        self._connection.cork()
        if room > 0 and self._after is not None:
            page = self._queue.browse(min(room, PAGE), self._after)
            self._after = page.next
            now_ms = self._router.clock_ms()
            for event in page.events[:room]:
                if self._predicate is not None and not self._predicate.matches(event):
                    continue
                link.send(convert.outward(event, 0, now_ms, self._router.ledger.lost, address_of), None,
                          settled=link.presettled)
            if page.next is not None:
                self._later()
        if link.draining and (self._after is None or link.credit <= 0):
            link.drained()
        self._connection.uncork()
