"""Places: addresses of Azure's SDKs, which name their entities within a host. It is left out here.

    amqps://host/orders                                     the hub orders, to send to                 also without host
    amqps://host/orders/Partitions/2                        its partition 2, to send to
    amqps://host/orders/ConsumerGroups/$Default/Partitions/2     its partition 2, to read
    amqps://host/jobs, …/orders/Subscriptions/billing       a queue, a subscription of Service Bus
    $cbs · $management · jobs/$management                   tokens · what hubs there are · of a queue
"""
from __future__ import annotations

import re
from typing import NamedTuple

CLAIMS, INFO = "$cbs", "$management"
_HOST = re.compile(r"(?:amqps?|sb|wss?)://[^/]*/")
_READING = re.compile(r"(.+)/ConsumerGroups/([^/]+)/Partitions/([^/]+)", re.IGNORECASE)
_SENDING = re.compile(r"(.+)/Partitions/([^/]+)", re.IGNORECASE)
_INDEX = re.compile(r"\d{1,9}", re.ASCII)


class Place(NamedTuple):
    """hosted: the address named a host, so it is meant for Azure. group: "" to send. partition: None: any; -1: it is no
    number.
    """

    name: str
    hosted: bool
    group: str = ""
    partition: int | None = None


def place_of(address: str) -> Place:
    found = _HOST.match(address)
    path = address[found.end():].rstrip("/") if found is not None else address
    hosted = found is not None
    reading = _READING.fullmatch(path)
    if reading is not None:
        return Place(reading[1], hosted, reading[2], _index(reading[3]))
    sending = _SENDING.fullmatch(path)
    if sending is not None:
        return Place(sending[1], hosted, "", _index(sending[2]))
    return Place(path, hosted)


def _index(text: str) -> int:
    return int(text) if _INDEX.fullmatch(text) else -1
