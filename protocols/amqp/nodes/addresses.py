"""Addresses of clients and places of the mesh. docs/amqp10.md has the table for people.

    queue://jobs · /queues/jobs                 the queue, topic $queue/jobs
    topic://plant/graz/+ · /topics/plant%2F…    a topic; a source may have wildcards, * and > are + and #
    /exchanges/orders/eu.new                    exchange and key of AMQP 0-9-1, topic orders/eu/new
    jobs                                        what the capability says; else a queue of that name; else a topic
    none                                        the address is in the message (anonymous terminus)
"""
from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from protocols.amqp.codec.conditions import INVALID_FIELD, LinkFault
from routing.errors import TopicError
from routing.queues.options import QUEUE_TOPICS, TEMPORARY_TOPICS, straight_topic
from routing.topic import check_filter, check_topic

QUEUE_SCHEME, TOPIC_SCHEME = "queue://", "topic://"
QUEUE_CAPABILITIES = frozenset(("queue", "temporary-queue"))
TOPIC_CAPABILITIES = frozenset(("topic", "temporary-topic"))
TEMPORARY_TOPIC = TEMPORARY_TOPICS + "topic-"
TEMPORARY_QUEUE = "temporary-"
_QUEUE, _TOPIC = 0, 1           # x-opt-jms-dest and x-opt-jms-reply-to: 0 queue, 1 topic, 2 and 3 temporary ones
_MANAGEMENT = frozenset(("/management", "$management"))


class Kind(enum.Enum):
    QUEUE = "queue"
    TOPIC = "topic"
    MANAGEMENT = "management"
    ANONYMOUS = "anonymous"


class Place(NamedTuple):
    """name: of the queue, as its clients call it, or the topic. made: one that is missing may be made."""

    kind: Kind
    name: str = ""
    made: bool = False
    exchange: tuple[str, str] | None = None     # exchange and key that it came from


def core_name(queue: str) -> str:
    """The name of its consumer: one with a slash is that of a session of some protocol, so there is none in it."""
    return queue.replace("%", "%25").replace("/", "%2F")


def queue_name(core: str) -> str:
    return core.replace("%2F", "/").replace("%25", "%")


def place_of(address: str | None, capabilities: tuple[str, ...], is_queue: Callable[[str], bool]) -> Place:
    """Where an address leads. is_queue: is there a queue of that name? Raises LinkFault for what is none."""
    if address is None or address == "":
        return Place(Kind.ANONYMOUS)
    if address in _MANAGEMENT:
        return Place(Kind.MANAGEMENT)
    if address.startswith(QUEUE_SCHEME):
        return _queue(address[len(QUEUE_SCHEME):], made=True)
    if address.startswith(TOPIC_SCHEME):
        return _topic(address[len(TOPIC_SCHEME):])
    if address.startswith("/queues/"):
        return _queue(_segment(address[len("/queues/"):]), made=False)
    if address.startswith("/topics/"):
        return _topic(_segment(address[len("/topics/"):]))
    if address.startswith("/exchanges/"):
        exchange, _, key = address[len("/exchanges/"):].partition("/")
        exchange, key = _segment(exchange), _segment(key)
        return Place(Kind.TOPIC, exchange_topic(exchange, key), exchange=(exchange, key))
    if not QUEUE_CAPABILITIES.isdisjoint(capabilities):
        return _queue(address, made=True)
    if not TOPIC_CAPABILITIES.isdisjoint(capabilities):
        return _topic(address)
    return _queue(address, made=False) if is_queue(address) else _topic(address)


def _queue(name: str, *, made: bool) -> Place:
    if not name:
        raise LinkFault(INVALID_FIELD, "the address names no queue")
    return Place(Kind.QUEUE, name, made)


def _topic(name: str) -> Place:
    if not name:
        raise LinkFault(INVALID_FIELD, "the address names no topic")
    return Place(Kind.TOPIC, name)


def _segment(text: str) -> str:
    """Percent-decoded, as RabbitMQ wants it.                                       Source: RabbitMQ, Address v2"""
    if "/" in text:
        raise LinkFault(INVALID_FIELD, "a slash within a part of an address is written %2F")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise LinkFault(INVALID_FIELD, "the address is not UTF-8") from None


def exchange_topic(exchange: str, key: str) -> str:
    """As AMQP 0-9-1 has it: the exchange is the first level, and dots of the key are slashes."""
    levels = "/".join(_literal(level) for level in key.split(".")) if key else ""
    if exchange == "amq.topic":
        return levels or exchange
    first = _literal(exchange)
    return f"{first}/{levels}" if levels else first


def _literal(level: str) -> str:
    for char, code in (("%", "%25"), ("/", "%2F"), ("+", "%2B"), ("#", "%23")):
        level = level.replace(char, code)
    return "%24" + level[1:] if level.startswith("$") else level


def target_topic(topic: str) -> str:
    """The topic that a sender publishes to. Raises LinkFault for one with wildcards, or none at all."""
    if topic.startswith("$") and not topic.startswith(TEMPORARY_TOPIC):
        raise LinkFault("amqp:unauthorized-access", "clients do not publish to topics that begin with $")
    try:
        check_topic(topic)
    except TopicError as error:
        raise LinkFault(INVALID_FIELD, str(error)) from None
    return topic


def source_filter(topic: str) -> str:
    """The filter that a receiver reads. * and > as ActiveMQ has them are + and #."""
    if "*" in topic or ">" in topic:
        levels = topic.split("/")
        topic = "/".join("+" if level == "*" else level for level in levels[:-1])
        last = "#" if levels[-1] == ">" else "+" if levels[-1] == "*" else levels[-1]
        topic = f"{topic}/{last}" if topic else last
    try:
        check_filter(topic)
    except TopicError as error:
        raise LinkFault(INVALID_FIELD, str(error)) from None
    return topic


def queue_topic(name: str) -> str:
    """Straight to a queue."""
    if name.startswith(TEMPORARY_QUEUE):
        return straight_topic(core_name(name), temporary=True)
    return straight_topic(core_name(name))


def topic_of(address: str, annotations: dict[object, object], is_queue: Callable[[str], bool]) -> str | None:
    """A reply-to as other protocols read it; None when it is no address of ours."""
    kind = annotations.get("x-opt-jms-reply-to")
    capabilities = ("queue",) if kind in (0, 2) else ("topic",) if kind in (1, 3) else ()
    if address.startswith("$reply/"):
        return address
    try:
        place = place_of(address, capabilities, is_queue)
        if place.kind is Kind.QUEUE:
            return queue_topic(place.name)
        if place.kind is Kind.TOPIC:
            check_topic(place.name)
            return place.name
    except (LinkFault, TopicError):
        pass
    return None


def address_of(topic: str) -> str:
    """The address of a topic, for messages that came by another protocol."""
    for start in (QUEUE_TOPICS, TEMPORARY_TOPICS):
        if topic.startswith(start) and not topic.startswith(TEMPORARY_TOPIC):
            return QUEUE_SCHEME + queue_name(unquote(topic[len(start):]))
    return TOPIC_SCHEME + topic
