"""Emulator: what Azure's SDKs find here with UseDevelopmentEmulator=true. Asked before nodes/attaching.py.

    $cbs ─► claims.py     $management ─► hub_info.py               hubs ─► hub_sending.py, hub_reading.py
                          X/$management ─► entity_requests.py      queues ─► entity_sending.py, entity_reading.py

A client comes in by SASL ANONYMOUS. Where people have to log in it is nobody until $cbs has taken its token, and may do
nothing else before.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocols.amqp.azure.claims import claim
from protocols.amqp.azure.desk import Desk
from protocols.amqp.azure.entities import Entities
from protocols.amqp.azure.entity_reading import EntityReader
from protocols.amqp.azure.entity_requests import EntityRequests
from protocols.amqp.azure.entity_sending import EntityTarget
from protocols.amqp.azure.hub_info import describe
from protocols.amqp.azure.hub_reading import Seats, read_hub
from protocols.amqp.azure.hub_sending import HubTarget
from protocols.amqp.azure.hubs import Hubs
from protocols.amqp.azure.places import CLAIMS, INFO, Place, place_of
from protocols.amqp.codec.conditions import (
    INVALID_FIELD,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    RESOURCE_LIMIT,
    UNAUTHORIZED,
    LinkFault,
    refused,
)
from protocols.amqp.codec.performatives import Attach, Source, Target
from protocols.amqp.codec.types import Symbol, Value
from protocols.amqp.engine.receiving import ReceivingLink
from protocols.amqp.engine.sending import SendingLink
from protocols.amqp.nodes.answering import AnswerSource, AskingTarget
from protocols.amqp.nodes.finding import Finding
from protocols.amqp.nodes.parts import Parts
from protocols.amqp.nodes.sources.filters import filters_of
from protocols.amqp.nodes.sources.offsets import start_of
from protocols.amqp.nodes.sources.sources import echo_of
from protocols.amqp.settings import Amqp10Settings
from protocols.authentication.authenticator import Authenticator
from routing.router import Router
from routing.streams.streams import Stream

EPOCH = Symbol("com.microsoft:epoch")
SESSION_FILTER = Symbol("com.microsoft:session-filter")
DESKS_MAX = 1_000               # addresses of one connection that take requests
END_METRIC = "com.microsoft:enable-receiver-runtime-metric"

NewToken = Callable[[Any, bytes, Callable[[bool], None]], None]


class Emulator:
    """One per server. parts of a connection: connection.parts."""

    def __init__(self, router: Router, settings: Amqp10Settings, authenticator: Authenticator, finding: Finding,
                 new_token: NewToken) -> None:
        """new_token(connection, token, done): the connection is to be of its user."""
        self._router = router
        self._settings = settings
        self._authenticator = authenticator
        self._finding = finding
        self._new_token = new_token
        self._hubs = Hubs(router)
        self._entities = Entities(router, settings)
        self._seats = Seats()

    def source(self, link: SendingLink, attach: Attach) -> bool:
        """A receiver wants to read. False: it is nothing of Azure's. Raises LinkFault."""
        connection: Any = link.session.connection
        address = attach.source.address if isinstance(attach.source, Source) and not attach.source.dynamic else None
        self._admit(connection, address)
        if address is None:
            return False
        desk = self._desk(connection, address)
        if desk is not None:
            link.accept(AnswerSource(desk, link), attach.source)
            return True
        place = place_of(address)
        if self._is_hub(place):
            self._read_hub(link, attach, place, connection)
        elif place.hosted:
            self._read_entity(link, attach, place, connection)
        else:
            return False
        return True

    def target(self, link: ReceivingLink, attach: Attach) -> bool:
        """A sender wants to send."""
        connection: Any = link.session.connection
        address = attach.target.address if isinstance(attach.target, Target) and not attach.target.dynamic else None
        self._admit(connection, address)
        if address is None:
            return False
        desk = self._desk(connection, address)
        if desk is not None:
            link.accept(AskingTarget(desk), attach.target)
            return True
        place = place_of(address)
        is_hub = self._is_hub(place)
        if not is_hub and not place.hosted:
            return False
        target: HubTarget | EntityTarget
        parts: Parts = connection.parts
        if is_hub:
            if place.group:
                raise LinkFault(INVALID_FIELD, "events are sent to a hub or a partition, not to a consumer group")
            stream = self._hubs.writable(place.name, connection.identity)
            if place.partition is not None:
                self._check_index(stream, place)
            target = HubTarget(link, self._router, parts.work, stream, place.partition, self._finding.reply_topic,
                               self._settings.batch_events_max)
        else:
            topic, queue = self._entities.topic(place.name, connection.identity), None
            if topic is None:
                queue = self._entities.queue(place.name, connection.identity, reads=False)
                topic = queue.topic
            target = EntityTarget(link, self._router, parts, topic, queue, self._finding.reply_topic,
                                  self._settings.batch_events_max)
        link.settle_first()                             # as the services do; the SDK for Python counts on it
        self._finding.when_stored(link, lambda: link.accept(target, attach.target))
        return True

    def _admit(self, connection: Any, address: str | None) -> None:
        if connection.identity.revoked and address != CLAIMS:
            raise LinkFault(UNAUTHORIZED, "a token has to be shown at $cbs before")

    def _is_hub(self, place: Place) -> bool:
        """An address may be of anybody: it is a hub's where there is one of that name, or it names a partition."""
        return place.partition is not None or self._hubs.find(place.name) is not None

    # -- reading ----------------------------------------------------------------------------------------------

    def _read_hub(self, link: SendingLink, attach: Attach, place: Place, connection: Any) -> None:
        identity, source = connection.identity, attach.source
        stream = self._hubs.readable(place.name, identity)
        if place.partition is None:
            raise LinkFault(INVALID_FIELD, "a hub is read by partition: HUB/ConsumerGroups/GROUP/Partitions/NUMBER")
        index = self._check_index(stream, place)
        found = filters_of(source.filter)
        start = start_of(found.start, self._router) if found.start is not None else "earliest"
        leave = self._seats.take(stream, place.group or "$Default", index, link, _epoch_of(attach))
        read_hub(link, self._router, stream, index, start, identity, predicate=found.predicate,
                 tells_of_the_end=END_METRIC in attach.desired_capabilities, echo=echo_of(source, found.of_stream()),
                 leave=leave, in_flight=self._settings.unsettled_max)

    def _check_index(self, stream: Stream, place: Place) -> int:
        if place.partition is None or not 0 <= place.partition < len(stream.partitions):
            raise LinkFault(NOT_FOUND, f"the hub {stream.name} has the partitions 0 to {len(stream.partitions) - 1}")
        return place.partition

    def _read_entity(self, link: SendingLink, attach: Attach, place: Place, connection: Any) -> None:
        source, parts = attach.source, connection.parts
        if SESSION_FILTER in (source.filter or {}):
            raise LinkFault(NOT_IMPLEMENTED, "sessions of Service Bus are not served")
        found = filters_of(source.filter)
        queue = self._entities.queue(place.name, connection.identity)
        reader = EntityReader(link, queue, connection.identity, self._router, parts, self._entities,
                              default_outcome=source.default_outcome)

        def attach_to() -> None:
            refusal = queue.attach(reader)
            if refusal is not None:
                raise refused(refusal)
            reader.joined()
            link.accept(reader, echo_of(source, found))

        self._finding.when_stored(link, attach_to)

    # -- requests ---------------------------------------------------------------------------------------------

    def _desk(self, connection: Any, address: str) -> Desk | None:
        """None: no requests are taken at this address."""
        desks: dict[str, Desk] = connection.parts.desks
        desk = desks.get(address)
        if desk is not None:
            return desk
        if address == CLAIMS:
            desk = Desk(connection, lambda request, answer: claim(
                request, answer, is_open=self._authenticator.open,
                is_safe=connection.channel.secure or not self._settings.passwords_need_tls,
                new_token=lambda token, done: self._new_token(connection, token, done)))
        elif address == INFO:
            desk = Desk(connection, lambda request, answer: describe(
                self._hubs, connection.identity, request, answer))
        elif address.endswith("/" + INFO):
            if len(desks) >= DESKS_MAX:
                raise LinkFault(RESOURCE_LIMIT, f"a connection asks at most {DESKS_MAX} entities")
            requests = EntityRequests(place_of(address.removesuffix("/" + INFO)).name, self._router, self._entities,
                                      connection, self._finding.reply_topic)
            desk = Desk(connection, requests.ask, requests.close)
        else:
            return None
        desks[address] = desk
        return desk


def _epoch_of(attach: Attach) -> int | None:
    """Raises LinkFault."""
    value: Value = (attach.properties or {}).get(EPOCH)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LinkFault(INVALID_FIELD, f"{EPOCH} is a number from 0 on")
    return int(value)
