"""Offsets: where in the log a filter of a source says that a receiver begins. RabbitMQ, Streams; Azure Event Hubs.

    rabbitmq:stream-offset-spec                 first · last · next · an offset · a timestamp · an age such as "1h"
    apache.org:selector-filter:string           amqp.annotation.x-opt-offset > '17'          also >=, and @latest
                                                amqp.annotation.x-opt-sequence-number > '17'
                                                amqp.annotation.x-opt-enqueued-time > '1700000000000'
An offset counts in every partition of what is read.
"""
from __future__ import annotations

import re

from protocols.amqp.codec.conditions import INVALID_FIELD, LinkFault
from protocols.amqp.codec.types import Timestamp, Value
from routing.consumers.spec import Start
from routing.router import Router

OFFSET_LIMIT = 1 << 62
TIME_LIMIT_MS = 1 << 52
_UNITS_S = {"Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGE = re.compile(r"(\d{1,9})([YMDhms])", re.ASCII)
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
    if value == "next":
        return "latest"
    if value == "first":
        return "earliest"
    if value == "last":
        return [(partition.stream, partition.index, max(partition.next_offset - 1, 0))
                for partition in router.own_partitions()]
    if isinstance(value, Timestamp):
        return {"time_ms": min(max(int(value), 0), TIME_LIMIT_MS)}
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(int(value), OFFSET_LIMIT)
    age = _AGE.fullmatch(value) if isinstance(value, str) else None
    if age is None:
        shown = value if isinstance(value, str | int) else type(value).__name__
        raise LinkFault(INVALID_FIELD, f"a stream has no offset {str(shown)[:100]!r}: first, last, next, a number, a "
                                       "timestamp, or an age such as 1h")
    return {"time_ms": max(router.clock_ms() - int(age[1]) * _UNITS_S[age[2]] * 1000, 0)}
