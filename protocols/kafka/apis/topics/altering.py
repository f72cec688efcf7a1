"""What AlterConfigs and IncrementalAlterConfigs have in common."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from protocols.kafka.api import Call, Message
from protocols.kafka.apis.topics.describe_configs import BROKER, GROUP, TOPIC
from protocols.kafka.codec.errors import Code
from protocols.kafka.topics import configs
from protocols.kafka.topics.changes import code_for, configure
from routing.rights.policy import Action
from routing.settings import StreamSettings

RESPONSE = """
    throttle_time_ms int32
    responses [] {
        error_code int16
        error_message string?
        resource_type int8
        resource_name string
    }
"""


async def alter(call: Call, resource: Message, change: Callable[[StreamSettings, list[Message]], StreamSettings], *,
                validate_only: bool) -> tuple[Code, str | None]:
    """Change one resource. change(settings, entries) may raise ConfigError."""
    topics = call.broker.topics
    if resource.resource_type == GROUP:
        return Code.INVALID_REQUEST, "a group's are changed by IncrementalAlterConfigs"
    if resource.resource_type == BROKER:
        return Code.POLICY_VIOLATION, "a node's settings are those of its configuration file"
    if resource.resource_type != TOPIC:
        return Code.INVALID_REQUEST, "topics have configurations here"
    stream = topics.find(resource.resource_name)
    if stream is None:
        return Code.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic"
    if not topics.may_change(call.identity, stream):
        return Code.TOPIC_AUTHORIZATION_FAILED, "not allowed"
    try:
        settings = change(stream.settings, resource.configs)
    except configs.ConfigError as error:
        return Code.INVALID_CONFIG, str(error)
    refusal = await configure(call, stream, settings, validate_only=validate_only)
    return (Code.NONE, None) if refusal is None else (code_for(refusal), refusal.text)


async def alter_group(call: Call, group_id: str, changes: Mapping[str, str | None], *, validate_only: bool
                      ) -> tuple[Code, str | None]:
    """Change the configuration of a group, which need not be there yet: then that is for who may operate."""
    groups, shares = call.broker.groups, call.broker.share_groups
    if groups.refuse_id(group_id) is not None:
        return Code.INVALID_REQUEST, "not a group id"
    if not groups.may_change(call.identity, group_id) or (
            group_id not in groups.by_id and not call.broker.topics.may(call.identity, Action.OPERATE)):
        return Code.GROUP_AUTHORIZATION_FAILED, "not allowed"
    try:
        ticket = shares.options.change(group_id, changes, validate_only=validate_only)
    except configs.ConfigError as error:
        return Code.INVALID_CONFIG, str(error)
    if ticket is not None:
        shares.options_changed(group_id)
        if (await call.durable(ticket)).refusals:
            return Code.KAFKA_STORAGE_ERROR, "it could not be stored"
    return Code.NONE, None


def row_of(resource: Message, outcome: tuple[Code, str | None]) -> dict[str, Any]:
    return {"error_code": outcome[0], "error_message": outcome[1], "resource_type": resource.resource_type,
            "resource_name": resource.resource_name}
