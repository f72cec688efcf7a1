"""Which topics the members of a group have subscribed to, as far as they are consumers.

    ConsumerProtocolSubscription: version int16, topics: array of strings, …        Source: Kafka, ConsumerProtocol
"""
from __future__ import annotations

from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.fields import parse
from protocols.kafka.codec.read import decode, struct_reader
from protocols.kafka.groups.group import Group

CONSUMER = "consumer"
_TOPICS_MAX = 100_000
_SUBSCRIPTION = struct_reader(parse("""
    version int16
    topics []string
"""), 0, flexible=False)


def topics_of(group: Group) -> set[str] | None:
    """Of all members together; None when a member says something else than a consumer does."""
    found: set[str] = set()
    for member in group.members.values():
        if group.protocol_type != CONSUMER:
            return None
        for _, metadata in member.protocols[:1]:
            try:
                found.update(decode(_SUBSCRIPTION, metadata, 0, _TOPICS_MAX).topics)
            except MalformedRequest:
                return None
    return found
