"""QueueOptions: what makes a consumer a queue. Stored in its ConsumerSpec; the queue itself is in queue.py.

Terms are those of AMQP brokers, since most users of queues come from there. Times are in ms, sizes in payload bytes.
"""
from __future__ import annotations

import enum
from typing import Literal
from urllib.parse import quote

import msgspec

QUEUE_TOPICS = "$queue/"            # straight to a queue: captured by the built-in stream
TEMPORARY_TOPICS = "$temporary/"    # the same for temporary ones: captured by nothing
NAME_CHARS_MAX = 255                # AMQP 0-9-1 §3.1.1: a short string

Overflow = Literal["drop-head", "reject-publish"]


class Cause(enum.Enum):
    """Why a queue lets an event go that nobody has acked. The texts are RabbitMQ's reasons in x-death."""

    REJECTED = "rejected"               # by a reader, who does not want it back
    EXPIRED = "expired"                 # its time to live is over
    MAXLEN = "maxlen"                   # newer ones have pushed it out
    DELIVERY_LIMIT = "delivery_limit"   # it was tried so often in vain


class QueueOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of them can stay away. What a queue shares with every consumer stands in ConsumerSpec: durable, expires_s,
    max_deliveries (the delivery limit), ack_timeout_s, back-off.
    """

    temporary: bool = False             # in memory: neither log nor state; gone with the node
    auto_delete: bool = False           # deleted when the last of its members has gone
    message_ttl_ms: int | None = None   # 0: what cannot be delivered at once expires
    max_length: int | None = None       # events that are ready,
    max_length_bytes: int | None = None     # and their payloads
    overflow: Overflow = "drop-head"
    single_active: bool = False         # one member gets everything, the next takes over when it goes
    max_priority: int | None = None     # 1..255: higher ones first
    dead_letter: str | None = None      # template of the topic for what it lets go; None: that is the end of it
    native: bytes = b""                 # of the protocol that declared it; only kept


def straight_topic(name: str, *, temporary: bool = False) -> str:
    """The topic of events for this queue only, whatever its bindings."""
    return (TEMPORARY_TOPICS if temporary else QUEUE_TOPICS) + quote(name, safe=" !$&'()*,;=:@~")
