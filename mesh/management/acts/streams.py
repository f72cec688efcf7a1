"""Acts on streams: described, made, changed, grown and deleted while the node runs. Kafka clients call them topics.

Their configurations have Kafka's names (docs/kafka.md), whoever reads and writes them.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mesh.management.acts.act import Act, Acts, durable
from mesh.management.acts.call import Call, Endpoint, Values
from protocols.kafka.topics import configs
from protocols.kafka.topics.names import captures, mesh_topic, name_problem
from protocols.rest.problems import Problem, problem_of
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node
    from routing.settings import StreamSettings
    from routing.streams.streams import Stream

_CONFIG = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
_COUNT = {"type": "integer", "minimum": 1}


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """config: Kafka's names and values."""

    name: str
    partitions: int = 1
    config: dict[str, str | None] = {}
    dry_run: bool = False
    reason: str = ""


class ChangeBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is named changes; null is the default of a configuration."""

    partitions: int | None = None
    config: dict[str, str | None] = {}
    dry_run: bool = False
    reason: str = ""


class StreamActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the table of streams is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "streams/{name}", Action.VIEW, "Its partitions and configurations.", self.describe),
            Endpoint("POST", "streams", Action.MANAGE, "Make a stream: a topic of Kafka clients.", self.create,
                     body={"name": {"type": "string"}, "partitions": _COUNT, "config": _CONFIG}),
            Endpoint("POST", "streams/{name}/change", Action.MANAGE, "Other configurations, more partitions.",
                     self.change, body={"partitions": _COUNT, "config": _CONFIG}),
            Endpoint("DELETE", "streams/{name}", Action.MANAGE, "Delete it with all its events.", self.delete, body={}),
        ]

    async def describe(self, call: Call) -> Values:
        stream = self._find(call)
        lifecycle = self._node.router.lifecycle
        return {
            "name": stream.name, "id": stream.incarnation.hex(), "capture": list(stream.filters),
            "configured": lifecycle.is_configured(stream.name), "owner": lifecycle.owner(stream.name),
            "partitions": [{"partition": partition.index, "start": partition.start_offset, "end": partition.end_offset}
                           for partition in stream.partitions],
            "config": [{"name": row["name"], "value": row["value"], "read_only": row["read_only"],
                        "default": row["config_source"] == configs.Source.DEFAULT}
                       for row in configs.rows(stream.settings, is_fixed=lifecycle.is_configured(stream.name))]}

    async def create(self, call: Call) -> Values:
        body, lifecycle = call.as_(CreateBody), self._node.router.lifecycle
        problem = name_problem(body.name)
        if problem is not None:
            raise Problem(400, "body-invalid", problem)
        try:
            settings = configs.fresh_settings(
                body.name, body.partitions, captures(body.name), mesh_topic(body.name), body.config)
        except configs.ConfigError as error:
            raise Problem(400, "body-invalid", str(error)) from error
        refusal = lifecycle.refuse_new(settings)
        if refusal is not None:
            raise problem_of(refusal)

        async def perform() -> Values:
            await durable(lifecycle.create(settings, call.identity.user))
            self._changed()
            return {"stream": body.name, "partitions": body.partitions}
        after = {"partitions": body.partitions, **body.config}
        return await self._acts.run(call, Act("stream.create", body.name, after, perform, None, after))

    async def change(self, call: Call) -> Values:
        stream, body, lifecycle = self._changeable(call), call.as_(ChangeBody), self._node.router.lifecycle
        try:
            settings = configs.changed(stream.settings, body.config)
        except configs.ConfigError as error:
            raise Problem(400, "body-invalid", str(error)) from error
        more = body.partitions is not None and body.partitions != len(stream.partitions)
        if body.partitions is not None and body.partitions < len(stream.partitions):
            raise Problem(400, "body-invalid", f"it has {len(stream.partitions)} partitions; fewer are not possible")

        async def perform() -> Values:
            if settings != stream.settings:
                await durable(lifecycle.change(settings))
            if more and body.partitions is not None:
                await durable(lifecycle.grow(stream.name, body.partitions))
            self._changed()
            return {"stream": stream.name, "partitions": len(stream.partitions)}
        before, after = _values(stream.settings), _values(settings)
        after["partitions"] = str(body.partitions or len(stream.partitions))
        changes = {name: {"from": before[name], "to": after[name]} for name in after if before[name] != after[name]}
        return await self._acts.run(call, Act(
            "stream.change", stream.name, {"changes": changes}, perform,
            {name: change["from"] for name, change in changes.items()},
            {name: change["to"] for name, change in changes.items()}))

    async def delete(self, call: Call) -> Values:
        stream = self._changeable(call)

        async def perform() -> Values:
            await durable(self._node.router.lifecycle.delete(stream.name))
            self._changed()
            return {"stream": stream.name, "deleted": True}
        preview = {"partitions": len(stream.partitions),
                   "records": sum(partition.end_offset - partition.start_offset for partition in stream.partitions)}
        return await self._acts.run(call, Act("stream.delete", stream.name, preview, perform, preview))

    def _find(self, call: Call) -> Stream:
        name = call.names.get("name", "")
        stream = self._node.router.streams.by_name.get(name)
        if stream is None:
            raise Problem(404, "not-found", f"there is no stream {name[:200]}")
        return stream

    def _changeable(self, call: Call) -> Stream:
        stream = self._find(call)
        if self._node.router.lifecycle.is_configured(stream.name) or stream.name.startswith("$"):
            raise Problem(409, "conflict", f"the stream {stream.name} is the configuration's: it is changed there")
        return stream


def _values(settings: StreamSettings) -> dict[str, str]:
    return {"partitions": str(settings.partitions), **{
        row["name"]: row["value"] for row in configs.rows(settings)}}
