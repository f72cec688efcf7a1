"""Destinations: where what a sender sends goes: a queue, a topic, an exchange, a coordinator. Raises LinkFault."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.codec.conditions import INVALID_FIELD, NOT_FOUND, NOT_IMPLEMENTED, LinkFault
from protocols.amqp.codec.performatives import SETTLED, Attach, Coordinator, Target
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.nodes import dynamic
from protocols.amqp.nodes.addresses import (
    TEMPORARY_QUEUE,
    TEMPORARY_TOPIC,
    Kind,
    Place,
    core_name,
    place_of,
    queue_topic,
    target_topic,
)
from protocols.amqp.nodes.answering import AskingTarget
from protocols.amqp.nodes.finding import Finding, check_right
from protocols.amqp.nodes.management import Management
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.targets.resuming import ResumingTarget
from protocols.amqp.nodes.targets.targets import Destination, MessageTarget
from protocols.amqp.nodes.transactions import CoordinatorTarget
from protocols.amqp.resuming.suspended import Termini, expiry_of, key_of
from protocols.amqp.settings import Amqp10Settings
from protocols.declaring import Declaring
from routing.rights.policy import Action
from routing.router import Router

COORDINATOR_CAPABILITIES = ("amqp:local-transactions", "amqp:multi-txns-per-ssn", "amqp:multi-ssns-per-txn")


class Destinations:
    """One per server. parts of a connection: connection.parts."""

    def __init__(self, router: Router, settings: Amqp10Settings, declaring: Declaring | None, finding: Finding,
                 management: Callable[[Any], Management], termini: Termini) -> None:
        """management: that of a connection."""
        self._termini = termini
        self._declaring = declaring
        self._finding = finding
        self._management = management
        self._router = router
        self._settings = settings

    def target(self, link: ReceivingLink, attach: Attach) -> None:
        """A sender wants to send."""
        connection: Any = link.session.connection
        target = attach.target
        parts: Parts = connection.parts
        if isinstance(target, Coordinator):
            link.accept(CoordinatorTarget(link, parts.transactions, parts.work), Coordinator(COORDINATOR_CAPABILITIES))
            return
        if not isinstance(target, Target):
            raise LinkFault(INVALID_FIELD, "the target is none that is known here")

        def resolve(to: str) -> Destination:
            place = place_of(to, (), self._finding.is_queue)
            if place.kind is Kind.ANONYMOUS:
                raise LinkFault(INVALID_FIELD, "a message for the anonymous terminus says in to where it goes")
            return self._destination(place, connection)

        on_detach: Callable[[bool], None] | None = None
        destination: Destination | None
        echo = target
        if target.dynamic:
            address = self._dynamic_target(target, parts)
            on_detach = lambda closed: dynamic.drop(self._router, parts, address)  # noqa: E731
            destination = resolve(address)
            echo = Target(address, target.durable, target.expiry_policy, target.timeout, True, dynamic.NODE_PROPERTIES,
                          target.capabilities)
        else:
            place = place_of(target.address, target.capabilities, self._finding.is_queue)
            if place.kind is Kind.MANAGEMENT:
                link.accept(AskingTarget(self._management(connection)), target)
                return
            destination = self._destination(place, connection) if place.kind is not Kind.ANONYMOUS else None
        made = (link, self._router, parts.work, parts.transactions, destination, resolve, self._finding.reply_topic,
                self._declaring)
        expiry = expiry_of(target) if not target.dynamic and attach.snd_settle_mode != SETTLED else None
        accept: Callable[[], None]
        if expiry is not None:
            resuming = ResumingTarget(
                *made, self._termini, key_of(link), expiry, count_max=self._settings.unsettled_max)
            accept = lambda: resuming.accept(attach, echo)  # noqa: E731
        else:
            node = MessageTarget(*made, on_detach)
            accept = lambda: link.accept(node, echo)  # noqa: E731
        if destination is None or destination.queue is None or not destination.queue.consumer.spec.durable:
            accept()
        else:
            self._finding.when_stored(link, accept)

    def _dynamic_target(self, target: Target, parts: Parts) -> str:
        if "temporary-topic" in target.capabilities:
            return dynamic.make_topic(parts, self._settings.dynamic_nodes_max)
        return dynamic.make_queue(self._router, parts, self._settings.dynamic_nodes_max)[0]

    def _destination(self, place: Place, connection: Any) -> Destination:
        identity = connection.identity
        if place.kind is Kind.QUEUE:
            if place.name.startswith(TEMPORARY_QUEUE):      # its name is the right to send to it
                found = self._router.queues.get(core_name(place.name))
                if found is None:
                    raise LinkFault(NOT_FOUND, "the temporary queue is gone")
                return Destination(found.topic, found, True)
            stream = self._finding.stream_topic(place)
            topic = stream if stream is not None else queue_topic(place.name)
            check_right(self._router, identity, Action.PUBLISH, topic)
            if stream is not None:
                return Destination(topic)
            return Destination(topic, self._finding.queue(place, identity, reads=False))
        if place.kind is Kind.TOPIC:
            topic = target_topic(place.name)
            if topic.startswith(TEMPORARY_TOPIC):
                return Destination(topic, None, True)
            check_right(self._router, identity, Action.PUBLISH, topic)
            if place.exchange is not None and self._declaring is not None \
                    and not self._declaring.has_exchange(place.exchange[0]):
                raise LinkFault(NOT_FOUND, f"no exchange '{place.exchange[0]}' in vhost '/'")
            return Destination(topic, exchange=place.exchange)
        raise LinkFault(NOT_IMPLEMENTED, "nothing can be sent to this address")
