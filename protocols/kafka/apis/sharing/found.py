"""The share group that a request of its offsets names."""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.kafka.api import Call, Values
from protocols.kafka.codec.errors import Code
from protocols.kafka.sharing.groups import not_shared

if TYPE_CHECKING:
    from protocols.kafka.groups.share_group import ShareGroup
    from routing.consumers.consumer import Consumer


def to_change(call: Call, group_id: str) -> tuple[ShareGroup, Consumer] | Values:
    """The group and what it reads through; or the answer, when who calls may not change it or it is none."""
    groups = call.broker.share_groups
    if not call.broker.groups.may_change(call.identity, group_id):
        return {"error_code": Code.GROUP_AUTHORIZATION_FAILED}
    found, consumer = groups.find(group_id), groups.consumer(group_id)
    return not_shared(group_id) if found is None or consumer is None else (found, consumer)
