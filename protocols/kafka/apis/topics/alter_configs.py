"""AlterConfigs (33), versions 0 to 2: set all configurations of topics; what is not named gets its default.

The older way, which aiokafka, kafka-python and kafkajs use.                                        Source: KIP-133
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.api import Api, Call, Message, Values
from protocols.kafka.apis.topics.altering import RESPONSE, alter, row_of
from protocols.kafka.codec.schema import Schema
from protocols.kafka.topics import configs
from routing.settings import StreamSettings

SCHEMA = Schema(33, "AlterConfigs", 0, 2, flexible=2, request="""
    resources [] {
        resource_type int8
        resource_name string
        configs [] {
            name string
            value string?
        }
    }
    validate_only bool
""", response=RESPONSE)


async def handle(call: Call, request: Message) -> Values:
    responses: list[dict[str, Any]] = []
    for resource in request.resources:
        outcome = await alter(call, resource, _all, validate_only=request.validate_only)
        responses.append(row_of(resource, outcome))
        await call.rest()
    return {"responses": responses}


def _all(settings: StreamSettings, entries: list[Message]) -> StreamSettings:
    values: dict[str, str | None] = dict.fromkeys(name for name, key in configs.KEYS.items() if key.take is not None)
    values.update((entry.name, entry.value) for entry in entries)
    return configs.changed(settings, values)


API = Api(SCHEMA, handle)
