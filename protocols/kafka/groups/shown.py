"""Groups as operators see them: rows of the management API."""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protocols.kafka.groups.coordinator import Coordinator

MEMBERS_SHOWN = 100


def group_rows(groups: Coordinator) -> Iterator[Mapping[str, Any]]:
    """lag is that of the consumer of the group's name, which follows its commits."""
    for group_id, group in list(groups.by_id.items()):
        members = list(group.members.values())
        yield {
            "group": group_id, "state": group.state.value, "user": group.owner, "protocol_type": group.protocol_type,
            "assignor": group.protocol, "generation": group.generation, "members": len(members),
            "leader": group.leader, "topics": sorted(groups.offsets.topics(group_id)),
            "detail": [{"member_id": member.member_id, "client_id": member.client_id, "instance_id": member.instance_id,
                        "host": member.client_host, "session_timeout_s": member.session_timeout_s}
                       for member in members[:MEMBERS_SHOWN]]}
