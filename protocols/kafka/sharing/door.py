"""GroupDoor: groups of every kind as operators act on them. The rights of who acts are the caller's to check."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protocols.kafka.broker import Broker
from protocols.kafka.groups.offsets import Committed
from protocols.kafka.groups.shown import group_row
from routing.errors import Reason, Refusal
from routing.ticket import Ticket, done_ticket

if TYPE_CHECKING:
    from routing.log.partition import Partition


class GroupDoor:
    """See Groups of protocols/server.py. One per server. Loop thread only."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def describe(self, name: str) -> Mapping[str, Any] | None:
        group = self._broker.groups.by_id.get(name)
        return group_row(self._broker.groups, group) if group is not None else None

    def places(self, name: str) -> dict[Partition, int]:
        broker = self._broker
        consumer = broker.share_groups.consumer(name)
        if consumer is not None:
            found = {}
            for partition, cursor in consumer.cursors.items():
                position, unacked = cursor.state()
                found[partition] = min((position, *unacked))
            return found
        return {stream.partitions[index]: committed.offset
                for topic, index, committed in broker.groups.offsets.of(name)
                if (stream := broker.topics.find(topic)) is not None and index < len(stream.partitions)}

    def refuse_change(self, name: str) -> Refusal | None:
        group = self._broker.groups.by_id.get(name)
        if group is None:
            return Refusal(Reason.NOT_FOUND, f"there is no group {name[:200]}")
        if not self._broker.cluster.leads:
            return Refusal(Reason.CONFLICT, f"another node leads the Kafka cluster: change group {name[:200]} there")
        if not group.is_empty or group.members:
            return Refusal(Reason.CONFLICT, f"group {name[:200]} has members: stop them first")
        return None

    def move(self, name: str, places: Mapping[Partition, int]) -> Ticket:
        broker = self._broker
        refusal = self.refuse_change(name)
        if refusal is not None:
            return done_ticket(refusal)
        consumer = broker.share_groups.consumer(name)
        if consumer is not None:
            consumer.seek(dict(places))
            return broker.router.registry.checkpoint(consumer) or done_ticket()
        ticket = done_ticket()
        for partition, offset in places.items():        # in one commit: the last one is durable when all are
            ticket = broker.groups.offsets.commit(name, partition.stream, partition.index, Committed(
                offset, 0, None, broker.router.clock_ms()))
        broker.groups.mirror.start([name])
        return ticket

    def delete(self, name: str) -> Ticket:
        refusal = self.refuse_change(name)
        ticket = self._broker.groups.delete(name)[1] if refusal is None else None
        return ticket if ticket is not None else done_ticket(refusal)
