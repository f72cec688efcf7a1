"""Route: what happens to events of one topic. Made once per topic, kept until subscriptions or rules change."""
from __future__ import annotations

from typing import TYPE_CHECKING

from routing.consumer import Consumer
from routing.policy import Action, Policy
from routing.streams import Stream, StreamTable
from routing.subscription import DirectTarget, FilterTrie, Sink, Subscription

if TYPE_CHECKING:
    from routing.log.partition import Partition


class Route:
    """stream and partition are None when no stream captures the topic. partition is that of an event without key."""

    __slots__ = ("consumers", "direct", "partition", "stream", "topic")

    def __init__(self, topic: str, stream: Stream | None, direct: tuple[DirectTarget, ...],
                 consumers: tuple[Consumer, ...]) -> None:
        self.topic = topic
        self.stream = stream
        self.partition: Partition | None = stream.partition_for(topic.encode()) if stream is not None else None
        self.direct = direct
        self.consumers = consumers


def make_route(topic: str, streams: StreamTable, trie: FilterTrie, policy: Policy) -> Route:
    """Match, group by receiver, and leave out those who may not read this very topic."""
    consumers: dict[Consumer, None] = {}
    by_sink: dict[Sink, list[Subscription]] = {}
    for entry in trie.match(topic):
        if isinstance(entry, Consumer):
            if entry.wants(topic):                      # asks the policy too
                consumers[entry] = None
        else:
            by_sink.setdefault(entry.sink, []).append(entry)
    readers = [
        (sink, tuple(subscriptions))
        for sink, subscriptions in by_sink.items()
        if (sink.consumer is None or sink.consumer not in consumers)
        and policy.decide(sink.identity, Action.SUBSCRIBE, topic).allowed
    ]
    direct = [DirectTarget(sink, subscriptions, len(readers) == 1) for sink, subscriptions in readers]
    return Route(topic, streams.capture(topic), tuple(direct), tuple(consumers))
