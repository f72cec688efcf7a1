"""Route: what happens to events of one topic. RouteTable makes it once per topic and keeps it until something changes:
streams, subscriptions, rules, or what other nodes want.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from routing.consumers.consumer import Consumer
from routing.direct.subscription import DirectTarget, Sink, Subscription
from routing.errors import Reason, Refusal
from routing.filters.filter_trie import FilterTrie
from routing.rights.policy import Action, Policy
from routing.settings import Limits
from routing.steps import dissolved
from routing.streams.streams import Stream, StreamTable
from routing.topic import KEPT_CHARS_MAX, filter_matches, is_wildcard

if TYPE_CHECKING:
    from routing.event import Event
    from routing.log.partition import Partition

ROUTE_BYTES = 400
TARGET_BYTES = 150
NAMED_BYTES = 80            # of each consumer or subscription that a route names: there, and where it is found by that
CHANGES_KEPT = 16           # a topic that is not used while more wildcard filters come and go has its route made anew
OWN_TOPICS = "$SYS/"        # what a node says about itself stays with it

QUEUE_FULL = Refusal(Reason.QUOTA_EXCEEDED, "a queue that would get it is full, and refuses what comes then")

Entry = Consumer | Subscription


class RemoteLane(Protocol):
    """The direct lane to other nodes, for events that no stream captures. The mesh sets it in the route table."""

    def wants(self, topic: str) -> bool:
        """Does any other node want this topic? Kept until RouteTable.changed()."""
        ...

    def send(self, events: list[Event]) -> None:
        """Send events of one topic to those who want them, at most once. Must not raise."""
        ...


class Route:
    """stream and partition are None when no stream captures the topic. partition is that of an event without key.

    remote: other nodes want events of this topic, which no stream captures.
    """

    __slots__ = ("checked", "consumers", "direct", "gates", "partition", "remote", "stream", "topic")

    def __init__(self, topic: str, stream: Stream | None, direct: tuple[DirectTarget, ...],
                 consumers: tuple[Consumer, ...], remote: bool) -> None:
        self.topic = topic
        self.checked = 0                        # how many changes of wildcard filters it has seen
        self.stream = stream
        self.partition: Partition | None = stream.partition_for(topic.encode()) if stream is not None else None
        self.direct = direct
        self.consumers = consumers
        self.gates = tuple(consumer.side for consumer in consumers if consumer.side is not None
                           and consumer.side.may_refuse)        # queues that refuse what they have no room for
        self.remote = remote

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        subscriptions = sum(len(target.subscriptions) for target in self.direct)
        return ROUTE_BYTES + len(self.topic) + TARGET_BYTES * len(self.direct) + NAMED_BYTES * (
            subscriptions + len(self.consumers))

    @property
    def entries(self) -> Iterator[Entry]:
        """Whom it names of the trie."""
        yield from self.consumers
        for target in self.direct:
            yield from target.subscriptions


class RouteTable:
    """Topic → Route. Whoever changes what a route is made of says so by changed(), or by left()."""

    def __init__(self, streams: StreamTable, policy: Policy, limits: Limits) -> None:
        self.trie = FilterTrie()
        self.remote: RemoteLane | None = None   # set by the mesh; None: this node is alone
        self.limits = limits
        self.generation = 0                     # another one whenever a route may have changed
        self._streams = streams
        self._policy = policy
        self._routes: dict[str, Route] = {}
        self._topics: dict[Entry, set[str]] = {}        # of the routes that name an entry, and of some that did
        self._changes: deque[str] = deque(maxlen=CHANGES_KEPT)      # wildcard filters, the last of _change_count
        self._change_count = 0
        self._bytes = 0                         # of them, about; those that were dropped one by one included

    def of(self, topic: str) -> Route:
        found = self._routes.get(topic)
        if found is not None and found.checked != self._change_count and not self._is_good(found):
            found = None
        if found is None:
            found = make_route(topic, self._streams, self.trie, self._policy, self.remote)
            if len(topic) <= KEPT_CHARS_MAX:
                self._bytes += found.bytes
                if len(self._routes) >= self.limits.match_cache_topics or self._bytes > self.limits.match_cache_bytes:
                    self._clear()
                    self._bytes = found.bytes
                found.checked = self._change_count
                self._routes[topic] = found
                for entry in found.entries:
                    self._topics.setdefault(entry, set()).add(topic)
        return found

    def _is_good(self, route: Route) -> bool:
        """Has no wildcard filter that matches its topic come or gone since it was looked at?"""
        missed = self._change_count - route.checked
        if missed > len(self._changes):
            return False
        route.checked = self._change_count
        changes = self._changes
        return not any(filter_matches(changes[-number], route.topic) for number in range(1, missed + 1))

    def known_topics(self) -> Iterator[str]:
        """Topics that were published lately, in the order in which they came; take few of them."""
        return iter(self._routes)

    def changed(self, pattern: str | None = None) -> None:
        """Those who want a filter are not who they were, or (None) anything may have changed."""
        self.generation += 1
        if pattern is None:
            self._clear()
        elif is_wildcard(pattern):                      # routes that it does not touch stay, see _is_good()
            self._change_count += 1
            self._changes.append(pattern)
        else:
            self._routes.pop(pattern, None)

    def left(self, entry: Entry) -> None:
        """An entry of the trie is no more: no route keeps it, however long its topic is not used."""
        self.generation += 1
        for topic in self._topics.pop(entry, ()):
            self._routes.pop(topic, None)

    def forget(self) -> Iterator[None]:
        """Those who ask again find out again. Work in pieces."""
        self.generation += 1
        routes, topics = self._routes, self._topics
        self._routes, self._topics, self._bytes = {}, {}, 0
        yield from dissolved(routes)
        yield from dissolved(topics)

    def _clear(self) -> None:
        self._routes.clear()
        self._topics.clear()
        self._bytes = 0


def make_route(topic: str, streams: StreamTable, trie: FilterTrie, policy: Policy, remote: RemoteLane | None) -> Route:
    """Match, group by receiver, and leave out those who may not read this very topic."""
    consumers: dict[Consumer, None] = {}
    by_sink: dict[Sink, list[Subscription]] = {}
    for entry in trie.match(topic):
        if isinstance(entry, Consumer):
            if entry.may_take(topic):                           # asks the policy
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
    stream = streams.capture(topic)
    far = stream is None and remote is not None and not topic.startswith(OWN_TOPICS) and remote.wants(topic)
    return Route(topic, stream, tuple(direct), tuple(consumers), far)
