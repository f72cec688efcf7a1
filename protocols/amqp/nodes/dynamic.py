"""Dynamic nodes: temporary queues and topics, made for one connection. AMQP 1.0 §3.5.10, JMS 2.0 §6.2.

They are in memory and go with the link that made them, the connection at the latest. Whoever knows the address may send
to it: it has 128 random bits, and is told to those who are to answer. Only the connection that made it reads it.
"""
from __future__ import annotations

import secrets
from typing import Any

from protocols.amqp.codec.conditions import RESOURCE_LIMIT, LinkFault, refused
from protocols.amqp.codec.performatives import DeleteOnClose
from protocols.amqp.codec.types import Symbol
from protocols.amqp.nodes.addresses import QUEUE_SCHEME, TEMPORARY_QUEUE, TEMPORARY_TOPIC, TOPIC_SCHEME, core_name
from protocols.amqp.nodes.parts import Parts
from routing.errors import Refusal
from routing.queues.options import QueueOptions
from routing.queues.queue import Queue
from routing.rights.policy import INTERNAL
from routing.router import Router

NODE_PROPERTIES: dict[Any, Any] = {Symbol("lifetime-policy"): DeleteOnClose()}


def _room(parts: Parts, count_max: int) -> None:
    if len(parts.dynamic_queues) + len(parts.dynamic_topics) >= count_max:
        raise LinkFault(RESOURCE_LIMIT, f"a connection has at most {count_max} temporary queues and topics")


def make_queue(router: Router, parts: Parts, count_max: int) -> tuple[str, Queue]:
    """Its address, and the queue. Raises LinkFault."""
    _room(parts, count_max)
    name = TEMPORARY_QUEUE + secrets.token_hex(16)
    queue = router.queues.declare(core_name(name), QueueOptions(temporary=True), INTERNAL, durable=False)
    if isinstance(queue, Refusal):
        raise refused(queue)
    parts.dynamic_queues[name] = queue
    return QUEUE_SCHEME + name, queue


def make_topic(parts: Parts, count_max: int) -> str:
    """Its address: nothing else is there of it."""
    _room(parts, count_max)
    topic = TEMPORARY_TOPIC + secrets.token_hex(16)
    parts.dynamic_topics[topic] = None
    return TOPIC_SCHEME + topic


def drop(router: Router, parts: Parts, address: str) -> None:
    """The link that made it is closed."""
    if address.startswith(TOPIC_SCHEME):
        parts.dynamic_topics.pop(address[len(TOPIC_SCHEME):], None)
        return
    queue = parts.dynamic_queues.pop(address[len(QUEUE_SCHEME):], None)
    if queue is not None and not queue.is_deleted:
        router.queues.delete(queue.name, reason="it was temporary")


def drop_all(router: Router, parts: Parts) -> None:
    parts.dynamic_topics.clear()
    for name in list(parts.dynamic_queues):
        drop(router, parts, QUEUE_SCHEME + name)
