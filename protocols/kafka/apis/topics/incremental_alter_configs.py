"""IncrementalAlterConfigs (44), versions 0 and 1: change some configurations of topics and groups, and leave
the others.
                                                                                                    Source: KIP-339
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.topics.altering import RESPONSE, alter, alter_group, row_of
from protocols.kafka.apis.topics.describe_configs import GROUP
from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics import configs
from routing.settings import StreamSettings

SCHEMA = Schema(44, "IncrementalAlterConfigs", 0, 1, flexible=1, request="""
    resources [] {
        resource_type int8
        resource_name string
        configs [] {
            name string
            config_operation int8
            value string?
        }
    }
    validate_only bool
""", response=RESPONSE)

SET, DELETE, APPEND, SUBTRACT = range(4)


async def handle(call: Call, request: Message) -> Values:
    responses: list[dict[str, Any]] = []
    for resource in request.resources:
        names = [entry.name for entry in resource.configs]
        if len(set(names)) < len(names):
            outcome: tuple[Code, str | None] = Code.INVALID_REQUEST, "a configuration is named twice"
        elif resource.resource_type == GROUP:
            outcome = await _alter_group(call, resource, validate_only=request.validate_only)
        else:
            outcome = await alter(call, resource, _changes, validate_only=request.validate_only)
        responses.append(row_of(resource, outcome))
        await call.rest()
    return {"responses": responses}


async def _alter_group(call: Call, resource: Message, *, validate_only: bool) -> tuple[Code, str | None]:
    if any(entry.config_operation not in (SET, DELETE) for entry in resource.configs):
        return Code.INVALID_REQUEST, "no configuration of a group is a list"
    return await alter_group(call, resource.resource_name, {
        entry.name: None if entry.config_operation == DELETE else entry.value or "" for entry in resource.configs},
        validate_only=validate_only)


def _changes(settings: StreamSettings, entries: list[Message]) -> StreamSettings:
    changes: dict[str, str | None] = {}
    for entry in entries:
        if entry.config_operation == DELETE:
            changes[entry.name] = None
        elif entry.value is None:
            raise configs.ConfigError(f"{entry.name[:100]}: has no value")
        elif entry.config_operation == SET:
            changes[entry.name] = entry.value
        elif entry.config_operation in (APPEND, SUBTRACT):
            changes[entry.name] = configs.appended(
                settings, entry.name, entry.value, take_away=entry.config_operation == SUBTRACT)
        else:
            raise configs.ConfigError(f"operation {entry.config_operation} is not known")
    return configs.changed(settings, changes)


API = Api(SCHEMA, handle)
