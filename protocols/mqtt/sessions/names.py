"""Consumers of share groups: their names, and what they are. Those of sessions: session.py."""
from __future__ import annotations

from protocols.mqtt.codec.filters import Share
from routing.consumers.consumer import ConsumerSpec
from routing.consumers.definition.members import Mode

SHARE_PREFIX = "mqtt-share/"        # never the consumer of a client id, which begins with "mqtt/"
IN_FLIGHT_MAX = 100_000             # of a whole group; each member has its own, smaller window


def group_name(share: Share) -> str:
    """Name of the group's consumer, or the queue."""
    return share.group if share.is_queue else f"{SHARE_PREFIX}{share.group}/{share.filter}"


def share_of(name: str) -> Share:
    """The share group of that name; one that nobody has joined for any other name."""
    if not name.startswith(SHARE_PREFIX):
        return Share("", "")
    group, _, pattern = name.removeprefix(SHARE_PREFIX).partition("/")
    return Share(group, pattern)


def group_spec(share: Share, durable: bool) -> ConsumerSpec:
    """durable: as soon as one member's session is."""
    return ConsumerSpec(group_name(share), (share.filter,), Mode.SHARED, durable=durable, max_in_flight=IN_FLIGHT_MAX)
