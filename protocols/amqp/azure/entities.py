"""Entities: queues, topics and subscriptions of Service Bus, as queues of the node.

    jobs                                the queue jobs, made when it is first used; its dead letters beside it
    jobs/$DeadLetterQueue               a queue as any other
    orders/Subscriptions/billing        a durable queue that the topic orders fills from when it was first read
    jobs/$Deferred                      what was deferred: it waits there for who asks for it by number

An address without a host and with one mean the same; a name is a topic's where it has a subscription and no queue.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from protocols.amqp.codec.conditions import INVALID_FIELD, NOT_FOUND, LinkFault, refused
from protocols.amqp.nodes.addresses import core_name, queue_topic, target_topic
from protocols.amqp.nodes.finding import check_right, declare
from protocols.amqp.settings import Amqp10Settings
from routing.queues.bindings import Binding
from routing.queues.options import NAME_CHARS_MAX, QueueOptions
from routing.queues.queue import Queue
from routing.rights.policy import Action, Identity
from routing.router import Router

DEAD_LETTERS, DEFERRED, SUBSCRIPTIONS = "/$DeadLetterQueue", "/$Deferred", "/Subscriptions/"
_MARK = core_name(SUBSCRIPTIONS)
DELIVERIES_MAX = 10             # then to the dead letters                    Source: Service Bus, MaxDeliveryCount


class Entities:
    """One per server."""

    def __init__(self, router: Router, settings: Amqp10Settings) -> None:
        self._router = router
        self._settings = settings
        self._topics: Counter[str] = Counter()          # names in the core that have subscriptions: how many queues
        queues = router.queues
        for queue in queues.by_name.values():
            self._declared(queue)
        queues.on_declared.append(self._declared)
        queues.on_deleted.append(self._deleted)

    def _declared(self, queue: Queue) -> None:
        self._topics.update(_topics_of(queue.name))

    def _deleted(self, queue: Queue) -> None:
        for topic in _topics_of(queue.name):
            self._topics[topic] -= 1
            if not self._topics[topic]:
                del self._topics[topic]

    def queue(self, name: str, identity: Identity, *, reads: bool = True) -> Queue:
        """Get or make it. reads: for somebody who wants to read it. Raises LinkFault."""
        router = self._router
        topic = queue_topic(name)
        action = Action.SUBSCRIBE if reads else Action.PUBLISH
        check_right(router, identity, action, topic)
        found = router.queues.get(core_name(name))
        if found is not None:
            return found
        subscribed, mark, _ = name.partition(SUBSCRIPTIONS)
        if not self._settings.create_queues:
            raise LinkFault(NOT_FOUND, f"there is no queue or subscription {name[:260]}")
        if len(core_name(name + DEAD_LETTERS)) > NAME_CHARS_MAX:
            raise LinkFault(INVALID_FIELD, "the name is too long")
        if name.endswith((DEAD_LETTERS, DEFERRED)):
            return declare(router, name, QueueOptions(), identity)
        if mark:
            refusal = router.check_subscribe(identity, subscribed)
            if refusal is not None:
                raise refused(refusal)
        declare(router, name + DEAD_LETTERS, QueueOptions(), identity)
        letters = queue_topic(name + DEAD_LETTERS)
        made = declare(router, name, QueueOptions(dead_letter=letters), identity, max_deliveries=DELIVERIES_MAX)
        if mark:
            refusal = made.bind(Binding(subscribed), identity)
            if refusal is not None:
                router.queues.delete(made.name)
                raise refused(refusal)
        return made

    def topic(self, name: str, identity: Identity) -> str | None:
        """What a sender to this name publishes to where it is a topic; None: it is a queue. Raises LinkFault."""
        known = core_name(name)
        if self._router.queues.get(known) is not None or known not in self._topics:
            return None
        topic = target_topic(name)
        check_right(self._router, identity, Action.PUBLISH, topic)
        return topic


def _topics_of(name: str) -> Iterator[str]:
    """Of which names a queue is a subscription, as the core has them."""
    at = name.find(_MARK)
    while at >= 0:
        yield name[:at]
        at = name.find(_MARK, at + 1)
