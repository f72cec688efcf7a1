"""Finding: which queue an address means, whether it is there, and who may. Raises LinkFault.

Rights are asked before it is looked whether something is there, so that a refusal does not tell.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.codec.conditions import NOT_FOUND, UNAUTHORIZED, LinkFault, refused
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.addresses import Place, core_name, queue_topic, topic_of
from protocols.amqp.settings import Amqp10Settings
from protocols.declaring import Declaring
from routing.errors import Refusal
from routing.queues.options import QueueOptions
from routing.queues.queue import Queue
from routing.rights.policy import INTERNAL, Action, Identity
from routing.router import Router


class Finding:
    """One per server."""

    def __init__(self, router: Router, settings: Amqp10Settings, declaring: Declaring | None) -> None:
        self._declaring = declaring
        self._router = router
        self._settings = settings

    def stream_topic(self, place: Place) -> str | None:
        """Of a queue of type stream."""
        return self._declaring.stream_topic(place.name) if self._declaring is not None else None

    def is_queue(self, name: str) -> bool:
        return self._router.queues.get(core_name(name)) is not None or (
            self._declaring is not None and self._declaring.stream_topic(name) is not None)

    def queue(self, place: Place, identity: Identity, *, reads: bool = True) -> Queue:
        """The queue of a place; one that is missing is made where the address says so."""
        router = self._router
        topic = queue_topic(place.name)
        if reads:
            check_right(router, identity, Action.SUBSCRIBE, topic)
        queue = router.queues.get(core_name(place.name))
        if queue is not None:
            return queue
        if not (place.made and self._settings.create_queues):
            raise LinkFault(NOT_FOUND, f"there is no queue {place.name[:255]}")
        return declare(router, place.name, QueueOptions(), identity)

    def reply_topic(self, address: str, annotations: dict[Any, Any]) -> str | None:
        """What an address in reply-to means; see convert.read()."""
        return topic_of(address, annotations, self.is_queue)

    def when_stored(self, link: SendingLink | ReceivingLink, work: Callable[[], None]) -> None:
        """Once what was declared is on disk, if the link still waits for it. work: may raise LinkFault."""
        connection: Any = link.session.connection

        def stored() -> None:
            if link.is_waiting:
                connection.guarded(link, work)

        self._router.queues.when_stored(stored)


def declare(router: Router, name: str, options: QueueOptions, identity: Identity, *,
            max_deliveries: int | None = None) -> Queue:
    """Make a queue. Who may only send has no part in it: it belongs to the node, and whoever may read it reads it."""
    reads = router.policy.decide(identity, Action.SUBSCRIBE, queue_topic(name)).allowed
    made = router.queues.declare(
        core_name(name), options, identity if reads else INTERNAL, max_deliveries=max_deliveries)
    if isinstance(made, Refusal):
        raise refused(made)
    return made


def check_right(router: Router, identity: Identity, action: Action, topic: str) -> None:
    """Raises LinkFault."""
    if not router.policy.decide(identity, action, topic).allowed:
        raise denied(router, identity, action, topic)


def denied(router: Router, identity: Identity, action: Action, topic: str) -> LinkFault:
    refusal = router.policy.refuse(identity, action, topic, router.clock_ms())     # counted, and in the list of denials
    text = refusal.text if refusal is not None else f"user {identity.user} may not {action.value} this"
    return LinkFault(UNAUTHORIZED, text)
