"""Groups as operators see them: rows of the management API."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocols.kafka.groups.consumer_member import ConsumerMember
    from protocols.kafka.groups.coordinator import Coordinator
    from protocols.kafka.groups.group import Group
    from protocols.kafka.groups.member import Member
    from protocols.kafka.groups.share_group import ShareMember

MEMBERS_SHOWN = 100


def group_rows(groups: Coordinator) -> Iterator[Mapping[str, Any]]:
    """lag is that of the consumer of the group's name, which follows its commits."""
    for group in list(groups.by_id.values()):
        yield group_row(groups, group)


def group_row(groups: Coordinator, group: Group) -> Mapping[str, Any]:
    """kind: classic, consumer (KIP-848) or share (KIP-932)."""
    kind, state, type = group.shown
    generation, assignor = group.generation, group.protocol
    members: list[Member | ConsumerMember | ShareMember] = list(group.members.values())
    topics = groups.offsets.topics(group.group_id)
    if group.share is not None:
        generation, assignor = group.share.epoch, ""
        members, topics = list(group.share.members.values()), group.share.topics
    elif group.consumer is not None and not members:
        generation, assignor = group.consumer.epoch, group.consumer.assignor
        members = list(group.consumer.members.values())
    return {
        "group": group.group_id, "kind": kind, "state": state, "user": group.owner, "protocol_type": type,
        "assignor": assignor, "generation": generation, "members": len(members),
        "leader": group.leader, "topics": sorted(topics),
        "detail": [{"member_id": member.member_id, "client_id": member.client_id,
                    "instance_id": getattr(member, "instance_id", None), "host": member.client_host,
                    "session_timeout_s": getattr(member, "session_timeout_s", None)}
                   for member in members[:MEMBERS_SHOWN]]}
