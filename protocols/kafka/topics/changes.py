"""Making, changing and deleting topics, and waiting until that is durable. Rights are the caller's to check."""
from __future__ import annotations

from collections.abc import Mapping

from protocols.kafka.runtime.call import Call
from protocols.kafka.topics import configs
from protocols.kafka.topics.names import captures, mesh_topic
from routing.errors import Reason, Refusal
from routing.settings import StreamSettings
from routing.streams import Stream


def settings_for(name: str, partitions: int, values: Mapping[str, str | None]) -> StreamSettings:
    """Of a new topic. Raises configs.ConfigError."""
    return configs.fresh_settings(name, partitions, captures(name), mesh_topic(name), values)


async def create(call: Call, settings: StreamSettings, *, validate_only: bool = False) -> bytes | Refusal:
    """The id of a new topic, once it is durable."""
    router = call.broker.router
    if not validate_only:
        router.apply_streams([settings])
        return call.broker.topics.id_of(router.streams.by_name[settings.name])
    return bytes(16)


async def delete(call: Call, stream: Stream) -> Refusal | None:
    return Refusal(Reason.CONFLICT, "not yet")


async def grow(call: Call, stream: Stream, partitions: int, *, validate_only: bool = False) -> Refusal | None:
    return Refusal(Reason.CONFLICT, "not yet")


async def configure(call: Call, stream: Stream, settings: StreamSettings, *, validate_only: bool = False
                    ) -> Refusal | None:
    if not validate_only:
        call.broker.router.apply_streams([settings])
    return None


def is_fixed(call: Call, stream: Stream) -> bool:
    """The configuration file has it: it is changed there."""
    return False
