"""Where a reader of a stream begins, in the words that RabbitMQ has for it; both AMQPs ask in them.

    first · last · next · an offset · an age such as "1h"            Source: RabbitMQ, Streams

An offset counts in every partition of what is read. Timestamps are the callers': each AMQP has a unit of its own.
"""
from __future__ import annotations

import re

from routing.consumers.definition.spec import Start
from routing.router import Router

OFFSET_LIMIT = 1 << 62

_UNITS_S = {"Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGE = re.compile(r"(\d{1,9})([YMDhms])", re.ASCII)


def age_s(text: str) -> int | None:
    """Of "7D" and the like, in seconds; None when it is no age."""
    found = _AGE.fullmatch(text)
    return int(found[1]) * _UNITS_S[found[2]] if found is not None else None


def stream_start(value: object, router: Router) -> Start | None:
    """None: it says nothing. value: as it came, but for a timestamp. last is a little before the end."""
    if value == "next":
        return "latest"
    if value == "first":
        return "earliest"
    if value == "last":
        return [(partition.stream, partition.index, max(partition.next_offset - 1, 0))
                for partition in router.own_partitions()]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return min(int(value), OFFSET_LIMIT)
    age = age_s(value) if isinstance(value, str) else None
    return None if age is None else {"time_ms": max(router.clock_ms() - age * 1000, 0)}
