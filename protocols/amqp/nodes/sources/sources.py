"""Sources: what a receiver is attached to: a queue, a topic, a stream, a subscription, management. Raises LinkFault."""
from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from protocols.amqp import convert
from protocols.amqp.codec.conditions import (
    INVALID_FIELD,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    RESOURCE_LOCKED,
    UNAUTHORIZED,
    LinkFault,
    refused,
)
from protocols.amqp.codec.performatives import OUTCOMES, Attach, Source
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes import dynamic
from protocols.amqp.nodes.addresses import (
    TEMPORARY_TOPIC,
    Kind,
    Place,
    place_of,
    queue_topic,
    source_filter,
)
from protocols.amqp.nodes.answering import AnswerSource
from protocols.amqp.nodes.finding import Finding, check_right, denied
from protocols.amqp.nodes.management import Management
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.browsing import QueueBrowser
from protocols.amqp.nodes.sources.filters import Filters, filters_of
from protocols.amqp.nodes.sources.offsets import start_of
from protocols.amqp.nodes.sources.reading import QueueReader, settle_later
from protocols.amqp.nodes.sources.resuming import ResumingReader
from protocols.amqp.nodes.sources.streams import StreamReader, StreamReading, read_topic
from protocols.amqp.nodes.sources.subscriptions import (
    PREFIX,
    Wish,
    find_subscription,
    has_ended,
    open_subscription,
    wish_of,
)
from protocols.amqp.resuming.suspended import NEVER, Termini, expiry_of, key_of
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


class Sources:
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

    def source(self, link: SendingLink, attach: Attach) -> None:
        """A receiver wants to read."""
        connection: Any = link.session.connection
        source = attach.source
        if source is None:
            self._unsubscribe(link, attach, connection)
            return
        if not isinstance(source, Source):
            raise LinkFault(INVALID_FIELD, "the source is none that is known here")
        if source.dynamic:
            self._dynamic_source(link, source, connection)
            return
        place = place_of(source.address, source.capabilities, self._finding.is_queue)
        found = filters_of(source.filter)
        if place.kind is Kind.QUEUE and self._finding.stream_topic(place) is not None:
            self._stream_source(link, source, place, found, connection)
        elif place.kind is Kind.QUEUE:
            self._queue_source(link, source, place, found, connection)
        elif place.kind is Kind.TOPIC:
            self._topic_source(link, attach, source, place, found, connection)
        elif place.kind is Kind.MANAGEMENT:
            link.accept(AnswerSource(self._management(connection), link), source)
        else:
            raise LinkFault(NOT_IMPLEMENTED, "there is nothing to read at this address")

    def _queue_source(self, link: SendingLink, source: Source, place: Place, found: Filters, connection: Any) -> None:
        own = connection.parts.dynamic_queues.get(place.name)
        if own is not None:
            queue, identity = own, INTERNAL
        else:
            identity = connection.identity
            queue = self._finding.queue(place, identity)
        if source.distribution_mode == "copy":
            if own is None and not self._router.rights.may_attach(identity, queue.consumer):
                raise denied(self._router, identity, Action.SUBSCRIBE, queue.topic)
            link.accept(QueueBrowser(link, queue, self._router, found.predicate), echo_of(source, found))
            return
        self._join(link, queue, identity, connection, echo_of(source, found), default=source.default_outcome,
                   predicate=found.predicate)

    def _topic_source(self, link: SendingLink, attach: Attach, source: Source, place: Place, found: Filters,
                      connection: Any) -> None:
        pattern = source_filter(place.name)
        if pattern.startswith(TEMPORARY_TOPIC):
            if pattern not in connection.parts.dynamic_topics:
                raise LinkFault(UNAUTHORIZED, "a temporary topic is read by the connection that made it")
            queue = self._temporary_subscription(pattern, found.predicate)
            self._join(link, queue, INTERNAL, connection, echo_of(source, found), default=source.default_outcome)
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
        self._join(link, queue, connection.identity, connection, echo_of(source, found), wish,
                   default=source.default_outcome)

    def _stream_source(self, link: SendingLink, source: Source, place: Place, found: Filters, connection: Any) -> None:
        assert self._declaring is not None
        topic = queue_topic(place.name)
        check_right(self._router, connection.identity, Action.SUBSCRIBE, topic)
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
                              found.predicate, notes=convert.topic_note if wild else None)
        refusal = consumer.attach(reader)
        if refusal is not None:
            leave()
            raise refused(refusal)
        reader.joined()
        link.accept(reader, echo_of(source, found.of_stream()))

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
            if wish is None or not wish.durable or queue.is_deleted or queue.consumer.members.all:
                return
            if closed or has_ended(wish, link):
                router.queues.delete(queue.name, reason="the subscription was closed")
            elif wish.ends != NEVER:
                parts.ending[queue.name] = queue        # with the connection, at the latest

        options: dict[str, Any] = {
            "default_outcome": default, "on_detach": gone, "selects": predicate is not None,
            "named": bool(self._settings.identify_as),
            "notes": convert.topic_note if any(map(is_wildcard, queue.consumer.filters)) else None}
        expiry = expiry_of(echo) if queue.consumer.spec.durable and not link.presettled and not (
            wish is not None and wish.shared) else None
        made = (link, queue, identity, router, parts.work, parts.transactions)
        resuming = ResumingReader(*made, self._termini, key_of(link), expiry, **options) if expiry is not None else None
        reader = resuming or QueueReader(*made, **options)

        def attach() -> None:
            if queue.is_deleted:
                raise LinkFault(NOT_FOUND, "the queue was deleted")
            kept = resuming.claim() if resuming is not None else None
            if predicate is not None:
                refusal = queue.attach_selecting(reader, predicate)
            else:
                if resuming is None:                    # else its tags name places, and outlive the node
                    link.settle_later = settle_later(link, queue)
                refusal = queue.attach(
                    reader, exclusive=wish is not None and not wish.shared, early=resuming is None)
            if refusal is not None and resuming is not None and kept is not None:
                resuming.refused(kept)
            if refusal is not None and refusal.reason is Reason.CONFLICT:
                raise LinkFault(RESOURCE_LOCKED, refusal.text)
            if refusal is not None:
                raise refused(refusal)
            reader.joined()
            if resuming is not None and kept is not None:
                connection.long_work(resuming.resume(kept, link.attach, echo))
            else:
                link.accept(reader, echo)

        if not queue.consumer.spec.durable:
            attach()
        else:
            self._finding.when_stored(link, attach)

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


class _Handle:
    """SourceNode of a link that only holds a subscription, to end it."""

    def __init__(self, router: Router, queue: Queue) -> None:
        self._router = router
        self._queue = queue

    def credit_changed(self) -> None:
        return

    def drain(self) -> None:
        return

    def accepted(self, held: list[Any]) -> None:
        return

    def settle(self, held: Any, state: Any, *, settled: bool) -> None:
        return

    def detach(self, *, closed: bool) -> None:
        if closed and not self._queue.is_deleted and not self._queue.consumer.members.all:
            self._router.queues.delete(self._queue.name, reason="the subscription was ended")


def echo_of(source: Source, found: Filters) -> Source:
    """The source as it applies: filters that are not understood are left out."""
    return Source(source.address, source.durable, source.expiry_policy, source.timeout, source.dynamic,
                  source.dynamic_node_properties, source.distribution_mode, found.applied or None,
                  source.default_outcome, source.outcomes or OUTCOMES, source.capabilities)
