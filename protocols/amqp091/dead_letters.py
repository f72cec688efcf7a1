"""Dead letters as RabbitMQ makes them: routed by the queue's dead-letter exchange, with x-death in their headers.

    x-death   one table per queue and reason, the newest first: count, reason, queue, time (of the first), exchange,
              routing-keys, original-expiration; and x-first-death-…, x-last-death-…

The core says when and why (routing/queues), and sees to it that nothing is lost on the way; here a message is made of
it. Source: RabbitMQ, Dead Letter Exchanges.
"""
from __future__ import annotations

import logging

from protocols.amqp091 import convert
from protocols.amqp091.asked import Asked
from protocols.amqp091.codec.codes import HardError
from protocols.amqp091.codec.methods import pack_short
from protocols.amqp091.codec.properties import Content, decode_properties, encode_properties
from protocols.amqp091.codec.tables import Long, Table, Timestamp, Value, encode_value, with_fields, without_field
from protocols.amqp091.topology.declared import Declared
from protocols.amqp091.topology.names import topic_of
from protocols.amqp091.topology.queue import Queue
from protocols.amqp091.topology.streamqueue import StreamQueue
from routing.errors import TopicError
from routing.event import Event, Native
from routing.queues.leaving.templates import Letter
from routing.queues.options import Cause
from routing.topic import check_topic

log = logging.getLogger(__name__)

DEATHS_MAX = 32             # tables in x-death; the oldest go


class DeadLetters:
    """The resolver of templates "amqp:<queue>"."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._router = declared.router

    def letters(self, name: str, event: Event, cause: Cause) -> list[Letter]:
        """Called by the core for every event that a queue lets go. None: nobody gets it, as there is no exchange."""
        queue = self._declared.queue(name)
        if queue is None or queue.options.dead_letter_exchange is None:
            return []
        exchange = self._declared.topology.exchanges.get(queue.options.dead_letter_exchange)
        if exchange is None:
            return []
        old_exchange, old_key, raw = convert.outward(event, self._router.clock_ms(), self._router.ledger.lost)
        try:
            content = decode_properties(raw)
        except HardError:                               # of another node, and not as we write it
            content = Content()
        keys = [text(old_key), *_carbon_copies(content)]
        self._mark(content, queue, cause, text(old_exchange), keys)
        if queue.options.dead_letter_key is not None:
            keys = [queue.options.dead_letter_key]
            if content.raw_headers is not None:
                content.raw_headers = without_field(content.raw_headers, "CC")
        native = Native(convert.NATIVE, pack_short(exchange.name) + pack_short(keys[0]) + encode_properties(content))
        targets = self._declared.topology.route_all(exchange, keys, Asked(content))
        topic = topic_of(exchange.name, keys[0]) if exchange.name else self._declared.topology.straight_topic(keys[0])
        try:
            check_topic(topic)
        except TopicError as error:
            log.error("queue %s: a dead letter has no topic: %s", name, error)
            return []
        letters = [Letter(self._declared.topology.straight_topic(target), topic, native) for target in targets.copies]
        if len(targets.copies) < len(targets.queues) or (exchange.name and (not letters or self._wanted(topic))):
            letters.append(Letter(topic, topic, native))
        return letters

    def _wanted(self, topic: str) -> bool:
        route = self._router.routes.of(topic)
        return bool(route.direct or route.consumers or route.remote)

    def _mark(self, content: Content, queue: Queue | StreamQueue, cause: Cause, exchange: str, keys: list[str]) -> None:
        """Write into the headers what has happened."""
        headers = content.headers or {}
        death: Table = {
            "count": Long(1), "reason": cause.value, "queue": queue.name,
            "time": Timestamp(self._router.clock_ms() // 1000), "exchange": exchange, "routing-keys": list(keys),
        }
        if content.expiration is not None:
            death["original-expiration"] = content.expiration
            content.expiration = None
        others: list[Value] = []
        known = headers.get("x-death")
        for one in known if isinstance(known, list) else ():
            if not isinstance(one, dict):
                continue
            count = one.get("count")
            if isinstance(count, int):
                one["count"] = Long(count)
            if one.get("queue") == queue.name and one.get("reason") == cause.value:
                death = {**one, "count": Long(count + 1 if isinstance(count, int) else 1)}
            else:
                others.append(one)
        fields = {"x-death": encode_value([death, *others[:DEATHS_MAX - 1]])}
        for name, value in (("reason", cause.value), ("queue", queue.name), ("exchange", exchange)):
            if f"x-first-death-{name}" not in headers:
                fields[f"x-first-death-{name}"] = encode_value(value)
            fields[f"x-last-death-{name}"] = encode_value(value)
        content.raw_headers = with_fields(content.raw_headers, fields)


def _carbon_copies(content: Content) -> list[str]:
    found = (content.headers or {}).get("CC")
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def text(packed: bytes) -> str:
    """Of a packed short string."""
    return packed[1:].decode("utf-8", "replace")
