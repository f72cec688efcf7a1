"""Offsets: where in the log a filter of a source says that a receiver begins. RabbitMQ, Streams; Azure Event Hubs.

    rabbitmq:stream-offset-spec                 first · last · next · an offset · a timestamp · an age such as "1h"
    apache.org:selector-filter:string           amqp.annotation.x-opt-offset > '17'          also >=, and @latest
                                                amqp.annotation.x-opt-sequence-number > '17'
                                                amqp.annotation.x-opt-enqueued-time > '1700000000000'
"""
from __future__ import annotations

import re

from protocols.amqp.codec.conditions import INVALID_FIELD, LinkFault
from protocols.amqp.codec.types import Timestamp, Value
from protocols.streamstart import stream_start
from routing.consumers.definition.spec import Start
from routing.router import Router

TIME_LIMIT_MS = 1 << 52
_AZURE = re.compile(
    r"\s*amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time)\s*(>=?)\s*'(@latest|-1|\d{1,19})'\s*", re.ASCII)


def azure_offset(text: str) -> Value:
    """What a selector of Event Hubs asks, as a value for start_of(); None: it is a selector as any other."""
    found = _AZURE.fullmatch(text)
    if found is None:
        return None
    what, sign, value = found.groups()
    if value == "@latest":
        return "next"
    if value == "-1":
        return "first"
    number = int(value) + (sign == ">")
    return Timestamp(number) if what == "enqueued-time" else number


def start_of(value: Value, router: Router) -> Start:
    """Where a reader begins. Raises LinkFault for what says nothing."""
    if isinstance(value, Timestamp):
        return {"time_ms": min(max(int(value), 0), TIME_LIMIT_MS)}
    start = stream_start(value, router)
    if start is None:
        shown = value if isinstance(value, str | int) else type(value).__name__
        raise LinkFault(INVALID_FIELD, f"a stream has no offset {str(shown)[:100]!r}: first, last, next, a number, a "
                                       "timestamp, or an age such as 1h")
    return start
