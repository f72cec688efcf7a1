"""Making, changing and deleting topics, and waiting until that is durable. Rights are the caller's to check."""
from __future__ import annotations

from collections.abc import Mapping

from protocols.kafka.codec.errors import Code
from protocols.kafka.codec.fields import ZERO_UUID
from protocols.kafka.log.appending import code_of
from protocols.kafka.quotas.quotas import MUTATION
from protocols.kafka.runtime.call import Call
from protocols.kafka.topics import configs
from protocols.kafka.topics.names import captures, mesh_topic
from routing.errors import Reason, Refusal
from routing.settings import StreamSettings
from routing.streams.streams import Stream
from routing.ticket import Ticket

FIXED = "the stream is one of the configuration file: it is changed there"
_CODES = {Reason.CONFLICT: Code.TOPIC_ALREADY_EXISTS, Reason.QUOTA_EXCEEDED: Code.POLICY_VIOLATION,
          Reason.NOT_AUTHORIZED: Code.POLICY_VIOLATION, Reason.FILTER_INVALID: Code.INVALID_TOPIC_EXCEPTION,
          Reason.TOPIC_INVALID: Code.INVALID_TOPIC_EXCEPTION}


def code_for(refusal: Refusal) -> Code:
    """The code of what the acts below refuse."""
    return _CODES.get(refusal.reason) or code_of(refusal)


def settings_for(name: str, partitions: int, values: Mapping[str, str | None]) -> StreamSettings:
    """Of a new topic. Raises configs.ConfigError."""
    return configs.fresh_settings(name, partitions, captures(name), mesh_topic(name), values)


async def create(call: Call, settings: StreamSettings, *, validate_only: bool = False) -> bytes | Refusal:
    """The id of a new topic, once it is durable; without one when it is only asked whether it could be made."""
    lifecycle, topics, user = call.broker.router.lifecycle, call.broker.topics, call.identity.user
    refusal = topics.refuse_more(user) or lifecycle.refuse_new(settings)
    if refusal is not None:
        return refusal
    if validate_only:
        return ZERO_UUID
    call.charge(MUTATION, settings.partitions)
    refusal = await _done(call, lifecycle.create(settings, user))
    stream = topics.find(settings.name)
    if refusal is not None or stream is None:
        return refusal or Refusal(Reason.CONFLICT, "the topic was deleted meanwhile")
    return topics.id_of(stream)


async def delete(call: Call, stream: Stream) -> Refusal | None:
    if is_fixed(call, stream):
        return Refusal(Reason.NOT_AUTHORIZED, FIXED)
    call.charge(MUTATION, len(stream.partitions))
    return await _done(call, call.broker.router.lifecycle.delete(stream.name))


async def grow(call: Call, stream: Stream, partitions: int, *, validate_only: bool = False) -> Refusal | None:
    if is_fixed(call, stream):
        return Refusal(Reason.NOT_AUTHORIZED, FIXED)
    if validate_only:
        return None
    call.charge(MUTATION, partitions - len(stream.partitions))
    return await _done(call, call.broker.router.lifecycle.grow(stream.name, partitions))


async def configure(call: Call, stream: Stream, settings: StreamSettings, *, validate_only: bool = False
                    ) -> Refusal | None:
    if is_fixed(call, stream):
        return Refusal(Reason.NOT_AUTHORIZED, FIXED)
    if validate_only or settings == stream.settings:
        return None
    return await _done(call, call.broker.router.lifecycle.change(settings))


def is_fixed(call: Call, stream: Stream) -> bool:
    """The configuration file has it: it is changed there."""
    return call.broker.router.lifecycle.is_configured(stream.name)


async def _done(call: Call, ticket: Ticket) -> Refusal | None:
    return (await call.durable(ticket)).refusals.get(0)
