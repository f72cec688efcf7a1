"""Acts on consumers: seek, pause, resume, delete."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.management.acts.act import Act, Acts, durable
from mesh.management.acts.call import Call, Endpoint, Values
from protocols.formats.event_json import parse_rfc3339
from protocols.rest.problems import Problem
from routing.consumers.consumer import Consumer
from routing.consumers.registry.registry import start_position
from routing.consumers.registry.stored import CONSUMER
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node
    from routing.log.partition import Partition
    from routing.router import Router


class SeekBody(msgspec.Struct, forbid_unknown_fields=True):
    """to: "earliest", "latest", an RFC 3339 time, or an offset (of one partition: name it if there are more)."""

    to: int | str
    stream: str | None = None
    partition: int | None = None
    dry_run: bool = False
    reason: str = ""


class ConsumerActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the table of consumers is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        to = {"oneOf": [{"type": "string", "maxLength": 40}, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}]}
        seek = {"to": to, "stream": {"type": "string"}, "partition": {"type": "integer", "minimum": 0}}
        return [
            Endpoint("POST", "consumers/{name}/seek", Action.OPERATE, "Read on from another place.", self.seek,
                     body=seek),
            Endpoint("POST", "consumers/{name}/pause", Action.OPERATE, "Deliver nothing until it is resumed.",
                     self.pause, body={}),
            Endpoint("POST", "consumers/{name}/resume", Action.OPERATE, "Deliver again.", self.resume, body={}),
            Endpoint("DELETE", "consumers/{name}", Action.OPERATE, "Delete it, with its place in the log.",
                     self.delete, body={}),
        ]

    async def seek(self, call: Call) -> Values:
        consumer = consumer_of(self._node.router, call)
        positions = _positions(consumer, call.as_(SeekBody))
        placed = [
            {"stream": partition.stream, "partition": partition.index, "position": position,
             "from": _floor(consumer, partition), "moves": position - _floor(consumer, partition)}
            for partition, position in positions.items()
        ]

        async def perform() -> Values:
            consumer.seek(positions)
            await stored(self._node.router, consumer)
            self._changed()
            return {"consumer": consumer.name, "positions": placed}
        before = {f"{one['stream']}/{one['partition']}": one["from"] for one in placed}
        after = {f"{one['stream']}/{one['partition']}": one["position"] for one in placed}
        return await self._acts.run(
            call, Act("consumer.seek", consumer.name, {"positions": placed}, perform, before, after))

    async def pause(self, call: Call) -> Values:
        return await self._pause(call, True)

    async def resume(self, call: Call) -> Values:
        return await self._pause(call, False)

    async def _pause(self, call: Call, paused: bool) -> Values:
        consumer = consumer_of(self._node.router, call)

        async def perform() -> Values:
            (consumer.pause if paused else consumer.resume)()
            await stored(self._node.router, consumer)
            self._changed()
            return {"consumer": consumer.name, "paused": paused}
        name = "consumer.pause" if paused else "consumer.resume"
        return await self._acts.run(call, Act(
            name, consumer.name, _preview(consumer), perform, {"paused": consumer.paused}, {"paused": paused}))

    async def delete(self, call: Call) -> Values:
        consumer = consumer_of(self._node.router, call)

        async def perform() -> Values:
            self._node.delete_consumer(consumer.name)
            await durable(self._node.router.state.delete(CONSUMER + consumer.name))
            self._changed()
            return {"consumer": consumer.name, "deleted": True}
        preview = _preview(consumer)
        return await self._acts.run(call, Act("consumer.delete", consumer.name, preview, perform, preview))


async def stored(router: Router, consumer: Consumer) -> None:
    """Wait until what it is and where it stands is on disk. Raises Problem."""
    ticket = router.registry.checkpoint(consumer)
    if ticket is not None:
        await durable(ticket)


def consumer_of(router: Router, call: Call) -> Consumer:
    """The one that the path names. Raises Problem."""
    name = call.names.get("name", "")
    consumer = router.consumers.get(name)
    if consumer is None:
        raise Problem(404, "not-found", f"there is no consumer {name[:200]}")
    return consumer


def _preview(consumer: Consumer) -> dict[str, Any]:
    """What an act on it touches, in numbers."""
    return {"members": len(consumer.members), "in_flight": consumer.in_flight, "lag_events": consumer.lag().events}


def _floor(consumer: Consumer, partition: Partition) -> int:
    """The offset of the first event that it has not done with."""
    cursor = consumer.cursors[partition]
    first = cursor.first_unacked()
    return min(first.offset, cursor.position) if first is not None else cursor.position


def _positions(consumer: Consumer, body: SeekBody) -> dict[Partition, int]:
    return positions_of(f"consumer {consumer.name}", consumer.cursors, body)


def positions_of(whose: str, partitions: Iterable[Partition], body: SeekBody) -> dict[Partition, int]:
    """Where each partition that the request names is to be read on. Raises Problem."""
    chosen = [
        partition for partition in partitions
        if body.stream in (None, partition.stream) and body.partition in (None, partition.index)
    ]
    if not chosen:
        raise Problem(404, "not-found", f"{whose} does not read such a partition")
    if isinstance(body.to, int):
        if len(chosen) > 1:
            raise Problem(400, "body-invalid", "an offset belongs to one partition: name stream and partition")
        if not 0 <= body.to < 2**63:
            raise Problem(400, "body-invalid", "an offset is not negative")
        start: str | int | dict[str, int] = body.to
    elif body.to in ("earliest", "latest"):
        start = body.to
    else:
        time_ms = parse_rfc3339(body.to)
        if time_ms is None:
            raise Problem(400, "body-invalid", "to is earliest, latest, an offset or an RFC 3339 time with its zone")
        start = {"time_ms": time_ms}
    return {partition: start_position(partition, start) for partition in chosen}
