"""Attaching: which node a link is attached to, and whether its user may. Raises LinkFault, which refuses the link.

Rights are asked before it is looked whether something is there, so that a refusal does not tell.
"""
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from protocols.amqp.codec.conditions import (
    INVALID_FIELD,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    RESOURCE_LIMIT,
    RESOURCE_LOCKED,
    STOLEN,
    UNAUTHORIZED,
    LinkFault,
    refused,
)
from protocols.amqp.codec.performatives import OUTCOMES, Attach, Coordinator, Source, Target
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes import dynamic
from protocols.amqp.nodes.addresses import (
    TEMPORARY_QUEUE,
    TEMPORARY_TOPIC,
    Kind,
    Place,
    core_name,
    place_of,
    queue_topic,
    source_filter,
    target_topic,
    topic_of,
)
from protocols.amqp.nodes.browsing import QueueBrowser
from protocols.amqp.nodes.filters import Filters, filters_of
from protocols.amqp.nodes.management import Management, ManagementSource, ManagementTarget
from protocols.amqp.nodes.offsets import start_of
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.reading import QueueReader
from protocols.amqp.nodes.streams import StreamReader, StreamReading, read_topic
from protocols.amqp.nodes.subscriptions import PREFIX, Wish, find_subscription, open_subscription, wish_of
from protocols.amqp.nodes.targets import Destination, MessageTarget
from protocols.amqp.nodes.transactions import CoordinatorTarget
from protocols.amqp.settings import Amqp10Settings
from protocols.declaring import Declaring
from routing.consumers.consumer import Consumer
from routing.errors import Reason, Refusal
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.queues.predicates import Predicate
from routing.queues.queue import Queue
from routing.rights.policy import INTERNAL, Action, Identity
from routing.router import Router
from routing.topic import is_wildcard

COORDINATOR_CAPABILITIES = ("amqp:local-transactions", "amqp:multi-txns-per-ssn", "amqp:multi-ssns-per-txn")


class Attaching:
    """One per server. parts of a connection: connection.parts."""

    def __init__(self, router: Router, settings: Amqp10Settings, declaring: Declaring | None,
                 new_token: Callable[[Any, bytes, Callable[[bool], None]], None]) -> None:
        """declaring: who keeps exchanges, None: nobody on this node. new_token(connection, token, done)."""
        self._declaring = declaring
        self._new_token = new_token
        self._router = router
        self._settings = settings

    # -- sources ----------------------------------------------------------------------------------------------

    def source(self, link: SendingLink, attach: Attach) -> None:
        """A receiver wants to read."""
        connection: Any = link.session.connection
        source = attach.source
        self._admit(link, connection)
        if source is None:
            self._unsubscribe(link, attach, connection)
            return
        if not isinstance(source, Source):
            raise LinkFault(INVALID_FIELD, "the source is none that is known here")
        if source.dynamic:
            self._dynamic_source(link, source, connection)
            return
        place = place_of(source.address, source.capabilities, self._is_queue)
        found = filters_of(source.filter)
        if place.kind is Kind.QUEUE and self._stream_topic(place) is not None:
            self._stream_source(link, source, place, found, connection)
        elif place.kind is Kind.QUEUE:
            self._queue_source(link, source, place, found, connection)
        elif place.kind is Kind.TOPIC:
            self._topic_source(link, attach, source, place, found, connection)
        elif place.kind is Kind.MANAGEMENT:
            link.accept(ManagementSource(self._management(connection), link), source)
        else:
            raise LinkFault(NOT_IMPLEMENTED, "there is nothing to read at this address")

    def _queue_source(self, link: SendingLink, source: Source, place: Place, found: Filters, connection: Any) -> None:
        own = connection.parts.dynamic_queues.get(place.name)
        if own is not None:
            queue, identity = own, INTERNAL
        else:
            identity = connection.identity
            queue = self._queue(place, identity)
        if source.distribution_mode == "copy":
            if own is None and not self._router.rights.may_attach(identity, queue.consumer):
                raise _denied(self._router, identity, Action.SUBSCRIBE, queue.topic)
            link.accept(QueueBrowser(link, queue, self._router, found.predicate), _echo(source, found))
            return
        self._join(link, queue, identity, connection, _echo(source, found), default=source.default_outcome,
                   predicate=found.predicate)

    def _topic_source(self, link: SendingLink, attach: Attach, source: Source, place: Place, found: Filters,
                      connection: Any) -> None:
        pattern = source_filter(place.name)
        if pattern.startswith(TEMPORARY_TOPIC):
            if pattern not in connection.parts.dynamic_topics:
                raise LinkFault(UNAUTHORIZED, "a temporary topic is read by the connection that made it")
            queue = self._temporary_subscription(pattern, found.predicate)
            self._join(link, queue, INTERNAL, connection, _echo(source, found), default=source.default_outcome)
            return
        wish = wish_of(attach, source, connection.container_id)
        if found.start is not None and not wish.durable and not wish.shared:
            consumer = read_topic(self._router, pattern, start_of(found.start, self._router), connection.identity,
                                  self._settings.unsettled_max)
            if isinstance(consumer, Refusal):
                raise refused(consumer)
            self._join_stream(link, consumer, lambda: self._router.delete_consumer(consumer.name), source, found,
                              connection, wild=is_wildcard(pattern))
            return
        queue = open_subscription(self._router, wish, pattern, found.predicate, connection.identity)
        self._join(link, queue, connection.identity, connection, _echo(source, found), wish,
                   default=source.default_outcome)

    def _stream_topic(self, place: Place) -> str | None:
        """Of a queue of type stream."""
        return self._declaring.stream_topic(place.name) if self._declaring is not None else None

    def _stream_source(self, link: SendingLink, source: Source, place: Place, found: Filters, connection: Any) -> None:
        assert self._declaring is not None
        topic = queue_topic(place.name)
        if not self._router.policy.decide(connection.identity, Action.SUBSCRIBE, topic).allowed:
            raise _denied(self._router, connection.identity, Action.SUBSCRIBE, topic)
        start = start_of(found.start, self._router) if found.start is not None else "latest"
        made = self._declaring.read_stream(place.name, connection.identity, start, self._settings.unsettled_max)
        if isinstance(made, Refusal):
            raise refused(made)
        self._join_stream(link, made.consumer, made.leave, source, found, connection, wild=True)

    def _join_stream(self, link: SendingLink, consumer: Consumer, leave: Callable[[], object], source: Source,
                     found: Filters, connection: Any, *, wild: bool) -> None:
        parts: Parts = connection.parts
        reading = StreamReading(self._router, consumer, leave)
        reader = StreamReader(link, reading, connection.identity, self._router, parts.work, parts.transactions,
                              found.predicate, wild=wild)
        refusal = consumer.attach(reader)
        if refusal is not None:
            leave()
            raise refused(refusal)
        reader.joined()
        link.accept(reader, _echo(source, found.of_stream()))

    def _temporary_subscription(self, pattern: str, predicate: Predicate | None) -> Queue:
        made = self._router.queues.declare(
            PREFIX + secrets.token_hex(8), QueueOptions(temporary=True, auto_delete=True), INTERNAL, durable=False)
        if isinstance(made, Refusal):
            raise refused(made)
        made.bind(Binding(pattern, predicate), INTERNAL)
        return made

    def _join(self, link: SendingLink, queue: Queue, identity: Identity, connection: Any, echo: Source,
              wish: Wish | None = None, *, default: Any = None, predicate: Predicate | None = None) -> None:
        """Make the link a member. The answer waits until what was declared is on disk."""
        parts: Parts = connection.parts
        router = self._router

        def gone(closed: bool) -> None:
            if wish is not None and wish.durable and closed and not queue.is_deleted and not queue.consumer.members.all:
                router.queues.delete(queue.name, reason="the subscription was closed")

        reader = QueueReader(link, queue, identity, router, parts.work, parts.transactions,
                             default_outcome=default, on_detach=gone, selects=predicate is not None,
                             named=bool(self._settings.identify_as),
                             wild=any(is_wildcard(pattern) for pattern in queue.consumer.filters))

        def attach() -> None:
            if not link.is_waiting:
                return
            if queue.is_deleted:
                raise LinkFault(NOT_FOUND, "the queue was deleted")
            if predicate is not None:
                refusal = queue.attach_selecting(reader, predicate)
            else:
                refusal = queue.attach(reader, exclusive=wish is not None and not wish.shared)
            if refusal is not None and refusal.reason is Reason.CONFLICT:
                raise LinkFault(RESOURCE_LOCKED, refusal.text)
            if refusal is not None:
                raise refused(refusal)
            reader.joined()
            link.accept(reader, echo)

        if not queue.consumer.spec.durable:
            attach()
        else:
            router.queues.when_stored(lambda: connection.guarded(link, attach))

    def _dynamic_source(self, link: SendingLink, source: Source, connection: Any) -> None:
        parts: Parts = connection.parts
        address, queue = dynamic.make_queue(self._router, parts, self._settings.dynamic_nodes_max)
        reader = QueueReader(link, queue, INTERNAL, self._router, parts.work, parts.transactions,
                             on_detach=lambda closed: dynamic.drop(self._router, parts, address),
                             named=bool(self._settings.identify_as))
        refusal = queue.attach(reader)
        if refusal is not None:
            raise refused(refusal)
        reader.joined()
        link.accept(reader, Source(
            address, source.durable, source.expiry_policy, source.timeout, True, dynamic.NODE_PROPERTIES,
            capabilities=source.capabilities))

    def _unsubscribe(self, link: SendingLink, attach: Attach, connection: Any) -> None:
        """An attach without source finds a durable subscription; closing the link ends it."""
        queue = find_subscription(self._router, attach, connection.container_id)
        if queue is None or not self._router.rights.owns(connection.identity, queue.consumer):
            raise LinkFault(NOT_FOUND, "there is no such subscription")
        if queue.consumer.members.all:
            raise LinkFault(RESOURCE_LOCKED, "the subscription has a reader")
        pattern = next(iter(queue.bindings.live), ("", None))[0]
        link.accept(_Handle(self._router, queue), Source(f"topic://{pattern}", 2, "never", capabilities=("topic",)))

    # -- targets ----------------------------------------------------------------------------------------------

    def target(self, link: ReceivingLink, attach: Attach) -> None:
        """A sender wants to send."""
        connection: Any = link.session.connection
        target = attach.target
        self._admit(link, connection)
        parts: Parts = connection.parts
        if isinstance(target, Coordinator):
            link.accept(CoordinatorTarget(link, parts.transactions, parts.work), Coordinator(COORDINATOR_CAPABILITIES))
            return
        if not isinstance(target, Target):
            raise LinkFault(INVALID_FIELD, "the target is none that is known here")

        def resolve(to: str) -> Destination:
            place = place_of(to, (), self._is_queue)
            if place.kind is Kind.ANONYMOUS:
                raise LinkFault(INVALID_FIELD, "a message for the anonymous terminus says in to where it goes")
            return self._destination(place, connection)

        def reply_topic(address: str, annotations: dict[Any, Any]) -> str | None:
            return topic_of(address, annotations, self._is_queue)

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
            place = place_of(target.address, target.capabilities, self._is_queue)
            if place.kind is Kind.MANAGEMENT:
                link.accept(ManagementTarget(self._management(connection)), target)
                return
            destination = self._destination(place, connection) if place.kind is not Kind.ANONYMOUS else None
        node = MessageTarget(link, self._router, parts.work, parts.transactions, destination, resolve, reply_topic,
                             self._declaring, on_detach)
        if destination is None or destination.queue is None or not destination.queue.consumer.spec.durable:
            link.accept(node, echo)
            return

        def accept() -> None:
            if link.is_waiting:
                link.accept(node, echo)

        self._router.queues.when_stored(lambda: connection.guarded(link, accept))

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
            stream = self._stream_topic(place)
            topic = stream if stream is not None else queue_topic(place.name)
            if not self._router.policy.decide(identity, Action.PUBLISH, topic).allowed:
                raise _denied(self._router, identity, Action.PUBLISH, topic)
            if stream is not None:
                return Destination(topic)
            return Destination(topic, self._queue(place, identity, reads=False))
        if place.kind is Kind.TOPIC:
            topic = target_topic(place.name)
            if topic.startswith(TEMPORARY_TOPIC):
                return Destination(topic, None, True)
            if not self._router.policy.decide(identity, Action.PUBLISH, topic).allowed:
                raise _denied(self._router, identity, Action.PUBLISH, topic)
            if place.exchange is not None and self._declaring is not None \
                    and not self._declaring.has_exchange(place.exchange[0]):
                raise LinkFault(NOT_FOUND, f"no exchange '{place.exchange[0]}' in vhost '/'")
            return Destination(topic, exchange=place.exchange)
        raise LinkFault(NOT_IMPLEMENTED, "nothing can be sent to this address")

    def _management(self, connection: Any) -> Management:
        parts: Parts = connection.parts
        if self._declaring is None:
            raise LinkFault(NOT_FOUND, "this node serves no AMQP 0-9-1, which keeps queues, exchanges and bindings")
        if parts.management is None:
            parts.management = Management(
                self._declaring, self._declaring.declarer(connection.identity), connection,
                lambda token, done: self._new_token(connection, token, done))
        return parts.management

    # -- queues -----------------------------------------------------------------------------------------------

    def _is_queue(self, name: str) -> bool:
        return self._router.queues.get(core_name(name)) is not None or (
            self._declaring is not None and self._declaring.stream_topic(name) is not None)

    def _queue(self, place: Place, identity: Identity, *, reads: bool = True) -> Queue:
        """The queue of a place; one that is missing is made where the address says so."""
        router = self._router
        topic = queue_topic(place.name)
        if reads and not router.policy.decide(identity, Action.SUBSCRIBE, topic).allowed:
            raise _denied(router, identity, Action.SUBSCRIBE, topic)
        queue = router.queues.get(core_name(place.name))
        if queue is not None:
            return queue
        if not (place.made and self._settings.create_queues):
            raise LinkFault(NOT_FOUND, f"there is no queue {place.name[:255]}")
        # Who may only send has no part in it: it belongs to the node, and whoever may read it reads it.
        owner = identity if router.policy.decide(identity, Action.SUBSCRIBE, topic).allowed else INTERNAL
        made = router.queues.declare(core_name(place.name), QueueOptions(), owner)
        if isinstance(made, Refusal):
            raise refused(made)
        return made

    def _admit(self, link: SendingLink | ReceivingLink, connection: Any) -> None:
        """A connection has a bound of links, and of two with one name and direction the newer takes over.   §2.6.1"""
        parts: Parts = connection.parts
        count = sum(len(session.links) for session in connection.sessions.values())
        if count > self._settings.links_max:
            raise LinkFault(RESOURCE_LIMIT, f"a connection has at most {self._settings.links_max} links")
        if len(parts.names) > 2 * count + 64:           # with those that have gone
            parts.names = {key: one for key, one in parts.names.items() if not one.is_gone}
        other = parts.names.get((link.role, link.name))
        parts.names[link.role, link.name] = link
        if other is not None and other.is_attached:
            other.fail(LinkFault(STOLEN, "another link of this name has been attached"))


class _Handle:
    """SourceNode of a link that only holds a subscription, to end it."""

    def __init__(self, router: Router, queue: Queue) -> None:
        self._router = router
        self._queue = queue

    def credit_changed(self) -> None:
        return

    def drain(self) -> None:
        return

    def settle(self, held: Any, state: Any, *, settled: bool) -> None:
        return

    def detach(self, *, closed: bool) -> None:
        if closed and not self._queue.is_deleted and not self._queue.consumer.members.all:
            self._router.queues.delete(self._queue.name, reason="the subscription was ended")


def _echo(source: Source, found: Filters) -> Source:
    """The source as it applies: filters that are not understood are left out."""
    return Source(source.address, source.durable, source.expiry_policy, source.timeout, source.dynamic,
                  source.dynamic_node_properties, source.distribution_mode, found.applied or None,
                  source.default_outcome, source.outcomes or OUTCOMES, source.capabilities)


def _denied(router: Router, identity: Identity, action: Action, topic: str) -> LinkFault:
    refusal = router.policy.refuse(identity, action, topic, router.clock_ms())     # counted, and in the list of denials
    text = refusal.text if refusal is not None else f"user {identity.user} may not {action.value} this"
    return LinkFault(UNAUTHORIZED, text)
