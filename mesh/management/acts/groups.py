"""Acts on groups of Kafka clients: described with their places, moved, deleted."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mesh.management.acts.act import Act, Acts, durable
from mesh.management.acts.call import Call, Endpoint, Values
from mesh.management.acts.consumers import SeekBody, positions_of
from protocols.rest.problems import Problem, problem_of
from protocols.server import Groups
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node


class GroupActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the table of groups is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        to = {"oneOf": [{"type": "string", "maxLength": 40}, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}]}
        reset = {"to": to, "stream": {"type": "string"}, "partition": {"type": "integer", "minimum": 0}}
        return [
            Endpoint("GET", "groups/{name}", Action.VIEW, "Its members, and where it stands.", self.describe),
            Endpoint("POST", "groups/{name}/reset", Action.OPERATE, "Read on from another place; without members.",
                     self.reset, body=reset),
            Endpoint("DELETE", "groups/{name}", Action.OPERATE, "Forget it and its offsets; without members.",
                     self.delete, body={}),
        ]

    async def describe(self, call: Call) -> Values:
        groups, name, row = self._find(call)
        return {**row, "places": [
            {"stream": partition.stream, "partition": partition.index, "offset": offset,
             "start": partition.start_offset, "end": partition.end_offset,
             "lag": max(partition.end_offset - max(offset, partition.start_offset), 0)}
            for partition, offset in _in_order(groups.places(name))]}

    async def reset(self, call: Call) -> Values:
        groups, name, _ = self._find(call)
        body, before = call.as_(SeekBody), groups.places(name)
        stream = self._node.router.streams.by_name.get(body.stream or "")
        known = [*before, *(partition for partition in (stream.partitions if stream is not None else ())
                            if partition not in before)]
        after = positions_of(f"group {name}", known, body)
        refusal = groups.refuse_change(name)
        if refusal is not None:
            raise problem_of(refusal)
        placed = [{"stream": partition.stream, "partition": partition.index, "position": position,
                   "from": before.get(partition), "moves": position - before.get(partition, position)}
                  for partition, position in _in_order(after)]

        async def perform() -> Values:
            await durable(groups.move(name, after))
            self._changed()
            return {"group": name, "positions": placed}
        return await self._acts.run(call, Act(
            "group.reset", name, {"positions": placed}, perform,
            {f"{one['stream']}/{one['partition']}": one["from"] for one in placed},
            {f"{one['stream']}/{one['partition']}": one["position"] for one in placed}))

    async def delete(self, call: Call) -> Values:
        groups, name, row = self._find(call)
        refusal = groups.refuse_change(name)
        if refusal is not None:
            raise problem_of(refusal)

        async def perform() -> Values:
            await durable(groups.delete(name))
            self._changed()
            return {"group": name, "deleted": True}
        preview = {"kind": row["kind"], "topics": row["topics"]}
        return await self._acts.run(call, Act("group.delete", name, preview, perform, preview))

    def _find(self, call: Call) -> tuple[Groups, str, dict[str, Any]]:
        name = call.names.get("name", "")
        for server in self._node.protocols.values():
            row = server.groups.describe(name) if server.groups is not None else None
            if row is not None and server.groups is not None:
                return server.groups, name, dict(row)
        raise Problem(404, "not-found", f"there is no group {name[:200]}")


def _in_order(places: dict[Any, int]) -> list[tuple[Any, int]]:
    return sorted(places.items(), key=lambda pair: (pair[0].stream, pair[0].index))
