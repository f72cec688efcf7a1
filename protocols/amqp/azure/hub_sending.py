"""HubTarget: a sender's link to a hub, or to one of its partitions.

Where an event goes: to the partition of the link; else to that of its key, as Kafka's default partitioner finds it;
else the partitions take turns, delivery by delivery. All events of a batch go to one.
"""
from __future__ import annotations

from protocols.amqp import convert
from protocols.amqp.azure.taking import Taking
from protocols.amqp.codec.conditions import NOT_IMPLEMENTED, RESOURCE_DELETED, LinkFault
from protocols.amqp.engine.receiving import Incoming, ReceivingLink
from protocols.amqp.nodes.work import Whole, Work
from routing.event import Event
from routing.log.partition import Partition
from routing.log.template import topic_of_key
from routing.router import Router
from routing.streams.streams import Stream


class HubTarget(Taking):
    """TargetNode of a link."""

    def __init__(self, link: ReceivingLink, router: Router, work: Work, stream: Stream, index: int | None,
                 reply_topic: convert.ReplyTo, batch_events_max: int) -> None:
        """index: of the partition, None: whichever an event belongs to."""
        super().__init__(link, router, work, reply_topic, batch_events_max)
        self._stream = stream
        self._index = index
        self._turn = 0

    def check(self, delivery: Incoming) -> None:
        if self._router.streams.by_name.get(self._stream.name) is not self._stream:
            raise LinkFault(RESOURCE_DELETED, "the hub was deleted")
        if delivery.txn_id is not None:
            raise LinkFault(NOT_IMPLEMENTED, "a hub takes no messages of transactions")

    def place(self, event: Event) -> None:
        event.topic = topic_of_key(self._stream.settings, event.key)

    def publish(self, whole: Whole, events: list[Event], *, is_last: bool) -> None:
        if whole.partition is None:
            whole.partition = self._partition_of(events[0])
        self._work.publish_piece(events, whole, is_last=is_last)

    def _partition_of(self, event: Event) -> Partition:
        stream = self._stream
        if self._index is not None:
            return stream.partitions[self._index]
        if event.key is not None:
            return stream.partition_for(event.key)
        self._turn += 1
        return stream.partitions[self._turn % len(stream.partitions)]
