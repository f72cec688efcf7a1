"""Batches of another node that come as it has stored them, into a partition of ours: not opened, not packed again.

Called by replicas.py. They go in by the door of a Kafka producer's batches (log/producing/door.py), which checks all of
it; where they come from is noted beside the log (log/records/origins.py). That is possible when the stream here is of
the same name, with as many partitions, and names the topic of its records in the same way: takes_stored().

A batch that was refused stops those behind it, or what is missing could not be pulled again: the position of its
partition would be beyond it.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from routing.errors import Reason, Refusal, TopicError
from routing.log.records.origins import Came
from routing.log.template import fixed_topic
from routing.streams.streams import stream_of
from routing.ticket import Ticket
from routing.topic import check_topic

if TYPE_CHECKING:
    from routing.event import OriginPartition
    from routing.log.partition import Partition
    from routing.log.producing.door import Ask
    from routing.log.producing.raw import Checked, Terms
    from routing.publishing.publisher import Publisher
    from routing.publishing.route import Route
    from routing.replicas.flow import Flow
    from routing.streams.streams import Stream, StreamTable

BROKEN = Refusal(Reason.CONFLICT, "an earlier batch of this flow was refused; it must be pulled again")
NOT_AS_IT_IS = Refusal(Reason.PAYLOAD_INVALID, "this batch cannot be taken in as it is")


class StoredBatch(msgspec.Struct, frozen=True):
    """first and next: its offsets at the origin."""

    data: bytes
    first: int
    next: int


class Stored(msgspec.Struct, frozen=True):
    """What came of one flow. topic: of records that name none. wanted(topic): was it asked for?"""

    batches: list[StoredBatch]
    topic: str
    wanted: Callable[[str], bool]


class Desk(Protocol):
    """What is needed of the router."""

    published: int
    streams: StreamTable

    def admit(self, topic: str, publisher: Publisher, count: int) -> Route | Refusal: ...
    def terms_of(self, stream: Stream) -> Terms: ...


Await = Callable[[Ticket, Callable[[], None]], None]


def stored_topic(streams: StreamTable, origin: OriginPartition, partitions: int) -> str:
    """The topic that records of an origin partition have here if they name none, where its batches can be taken in as
    they are; else "". partitions: of the stream there.
    """
    stream = streams.by_name.get(stream_of(origin.stream))
    if stream is None or len(stream.partitions) != partitions or origin.index >= partitions:
        return ""
    if stream.partitions[origin.index].origins.is_full:
        return ""
    return fixed_topic(stream.settings) or ""


def put_stored(desk: Desk, flow: Flow, stored: Stored, publisher: Publisher, wait: Await) -> Refusal | None:
    """Append what is not here yet; wait(ticket, committed) is called for each batch. Returns why not."""
    stream = desk.streams.by_name.get(flow.stream)
    if stream is None or flow.origin.index >= len(stream.partitions):
        return NOT_AS_IT_IS
    partition = stream.partitions[flow.origin.index]
    for batch in stored.batches:
        last = flow.positions.get(partition, -1)
        if batch.next <= last + 1:
            flow.repeats += batch.next - batch.first
            continue
        if batch.first <= last or not flow.keeps(batch.first):
            return NOT_AS_IT_IS                         # a part of it is here, or may be
        flow.positions[partition] = batch.next - 1
        _append(desk, flow, stream, partition, batch, stored, publisher, wait)
    return None


def _append(desk: Desk, flow: Flow, stream: Stream, partition: Partition, batch: StoredBatch, stored: Stored,
            publisher: Publisher, wait: Await) -> None:
    ticket = Ticket(())
    before = flow.last_part
    ask = _asking(desk, stream, stored, publisher)

    def ask_in_order(checked: Checked) -> Counter[str] | Refusal | frozenset[str]:
        return BROKEN if before is not None and before.refusal is not None else ask(checked)

    part = flow.last_part = partition.append_raw(
        batch.data, ticket, desk.terms_of(stream), ask_in_order, Came(flow.origin, batch.first, flow.flow))

    def committed() -> None:
        flow.marks[partition] = (part.base_offset + part.count - 1, batch.next - 1)
        flow.dirty = True
        flow.events += part.count
        flow.stored += 1

    wait(ticket, committed)


def _asking(desk: Desk, stream: Stream, stored: Stored, publisher: Publisher) -> Ask:
    """Decides whether a checked batch may come in: its topics, or why not."""
    def ask(checked: Checked) -> Counter[str] | Refusal:
        topics: Counter[str] = checked.named or Counter()
        if checked.foreign or checked.topics or fixed_topic(stream.settings) != stored.topic:
            return NOT_AS_IT_IS
        for topic in topics:
            try:
                check_topic(topic)
            except TopicError:
                return NOT_AS_IT_IS
            if desk.streams.capture(topic) is not stream:
                return NOT_AS_IT_IS
        rest = checked.records - sum(topics.values())
        if rest:
            topics[stored.topic] += rest
        for topic, count in topics.items():
            if not stored.wanted(topic):
                return NOT_AS_IT_IS
            refusal = desk.admit(topic, publisher, count)
            if isinstance(refusal, Refusal):
                return refusal
        desk.published += checked.records
        return topics

    return ask
