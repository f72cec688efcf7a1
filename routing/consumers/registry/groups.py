"""Groups whose members commit offsets, as Kafka's do: named consumers that are moved without reading.

Called by protocols that keep offsets themselves. So such a group is seen where all consumers are: one lag, one place to
seek, one name: a REST client may pull as `billing` what the Kafka group `billing` has not committed.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.consumers.definition.members import Mode
from routing.errors import Reason, Refusal

if TYPE_CHECKING:
    from routing.consumers.registry.registry import ConsumerRegistry
    from routing.log.partition import Partition
    from routing.rights.policy import Identity
    from routing.streams.streams import StreamTable
    from routing.ticket import Ticket

Place = tuple[str, int]             # stream, partition


class Desk(Protocol):
    """What is needed of the router."""

    registry: ConsumerRegistry
    streams: StreamTable


class Groups:
    """Loop thread only."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def commit(self, name: str, offsets: Mapping[Place, int], identity: Identity) -> Ticket | Refusal:
        """The group has read up to these offsets, forward or back. The ticket is done when that is durable.

        A group that nobody knows is made; partitions of its streams that it has not committed begin at their end.
        Refused: who may not read all of the streams, and a name that belongs to a consumer of another kind.
        """
        registry, streams = self._desk.registry, self._desk.streams
        positions: dict[Partition, int] = {}
        for (stream, index), offset in offsets.items():
            partition = streams.partition(stream, index)
            if partition is None:
                return Refusal(Reason.NOT_FOUND, f"there is no partition {index} of {stream}")
            positions[partition] = offset
        consumer = registry.by_name.get(name)
        if consumer is None:
            found = self._make(name, {stream for stream, _ in offsets}, identity)
        elif consumer.spec.mode is not Mode.SHARED or consumer.spec.queue is not None:
            return Refusal(Reason.CONFLICT, f"consumer {name} is not a shared one, which groups are")
        else:
            found = self._widen(consumer, {stream for stream, _ in offsets}, identity)
        if isinstance(found, Refusal):
            return found
        found.move(positions)
        ticket = registry.checkpoint(found)
        if ticket is None:
            return Refusal(Reason.CONFLICT, f"consumer {name} is not durable")
        return ticket

    def _make(self, name: str, streams: set[str], identity: Identity) -> Consumer | Refusal:
        table = self._desk.streams.by_name
        filters = tuple(sorted({pattern for stream in streams for pattern in table[stream].filters}))
        return self._desk.registry.open(
            ConsumerSpec(name, filters, Mode.SHARED, streams=tuple(sorted(streams))), identity)

    def _widen(self, consumer: Consumer, streams: set[str], identity: Identity) -> Consumer | Refusal:
        """A known group, which reads these streams as well from now on."""
        registry = self._desk.registry
        if not registry.rights.may_attach(identity, consumer):
            return Refusal(Reason.NOT_AUTHORIZED, f"consumer {consumer.name} belongs to {consumer.identity.user}")
        known = consumer.spec.streams
        if known and streams - set(known):
            consumer.take_spec(msgspec.structs.replace(consumer.spec, streams=tuple(sorted({*known, *streams}))))
            registry.changed(consumer)
        for stream in sorted(streams):
            for pattern in self._desk.streams.by_name[stream].filters:
                if pattern not in consumer.filters:
                    refusal = consumer.add_filter(pattern, identity)
                    if refusal is not None:
                        return refusal
        return consumer

    def positions(self, name: str) -> dict[Place, int]:
        """Where a group of that name reads on, by stream and partition: the first offset that is not done with."""
        consumer = self._desk.registry.by_name.get(name)
        if consumer is None:
            return {}
        found = {}
        for partition, cursor in consumer.cursors.items():
            position, unacked = cursor.state()
            found[partition.stream, partition.index] = min([position, *unacked])
        return found
