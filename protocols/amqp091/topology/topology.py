"""The exchanges and bindings of a node, and where a message goes. Loop thread only; queues.py has the queues.

A message is published once, on its topic (names.py); queues whose bindings say the same as a topic filter get it from
there, as everybody in the mesh does. The others that it goes to (a binding between exchanges, an alternate exchange,
headers, hashes, CC, a # within a key) get a copy of their own on $queue/<name>. Targets says which are which.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from protocols.amqp091.codec.tables import Table
from protocols.amqp091.topology import names
from protocols.amqp091.topology.exchange import PREDECLARED, Exchange
from protocols.amqp091.topology.matching import Binding, Message
from routing.event import Properties

ROUTES_CACHED = 50_000
HOPS_MAX = 10_000           # exchanges that one message visits


class Targets(msgspec.Struct, frozen=True, gc=False):
    """queues: all that get it. copies: those of them that no topic filter gives it to."""

    queues: tuple[str, ...]
    copies: tuple[str, ...]


NOWHERE = Targets((), ())
PLAIN_MAX = 10_000          # of what is remembered of messages that are all alike but for their bodies
PLAIN_BYTES_MAX = 128       # of their properties


class Plain(msgspec.Struct, frozen=True, gc=False):
    """What an exchange, a key and the bytes of the properties come to, where that is all that counts."""

    topic: str
    properties: Properties
    durable: bool


class _Nothing:
    @property
    def headers(self) -> Table:
        return {}

    def property_text(self, name: str) -> str:
        return ""


_NO_MESSAGE: Message = _Nothing()


class Topology:
    """See the module's head. Does not check rights or options: declaring.py does."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Exchange] = {
            name: Exchange(name, type_, True, False, False, {}, "") for name, type_ in PREDECLARED}
        self.exchanges["amq.rabbitmq.trace"] = Exchange("amq.rabbitmq.trace", "topic", True, False, True, {}, "")
        self.queue_exists: Callable[[str], bool] = lambda name: False
        self.of_queue: dict[str, dict[tuple[str, str, bool, str, bytes], Binding]] = {}     # bindings to it
        self._routes: dict[tuple[str, str], Targets] = {}
        self.topics: dict[tuple[str, str], str] = {}            # of exchange and key
        self.plain: dict[tuple[str, str, bytes], Plain] = {}
        self.streams: dict[str, str] = {}                       # queues of type stream → the topic straight to it
        self.version = 0                                        # of what was worked out

    def changed(self) -> None:
        """What was worked out may not hold any more."""
        self.version += 1
        self._routes.clear()
        self.plain.clear()
        if self.streams:
            self.topics.clear()                     # a queue of that name may be a stream now, or not any more

    def remember(self, exchange: str, key: str, raw: bytes, plain: Plain) -> None:
        """Until something changes. Only for what is routed by the key alone, and to a queue by its topic alone."""
        if (exchange, key) in self._routes and len(raw) <= PLAIN_BYTES_MAX:
            if len(self.plain) >= PLAIN_MAX:
                self.plain.clear()
            self.plain[exchange, key, raw] = plain

    def straight_topic(self, queue: str) -> str:
        """Of what goes to this queue and no other."""
        return self.streams.get(queue) or names.queue_topic(queue)

    # -- exchanges and bindings -------------------------------------------------------------------------------

    def add_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self.changed()

    def remove_exchange(self, name: str) -> list[Binding]:
        """Returns the bindings that have gone with it, in both directions."""
        exchange = self.exchanges.pop(name)
        gone = [*exchange.bindings.values(), *exchange.incoming.values()]
        for binding in gone:
            self.unbind(binding, exchange)
        self.changed()
        return gone

    def find(self, binding: Binding) -> Binding | None:
        exchange = self.exchanges.get(binding.source)
        return exchange.bindings.get(binding.identity) if exchange is not None else None

    def bind(self, binding: Binding) -> None:
        source = self.exchanges[binding.source]
        source.bindings[binding.identity] = binding
        source.matcher.add(binding)
        if binding.to_exchange:
            self.exchanges[binding.destination].incoming[binding.identity] = binding
        else:
            self.of_queue.setdefault(binding.destination, {})[binding.identity] = binding
        self.changed()

    def unbind(self, binding: Binding, leaving: Exchange | None = None) -> None:
        """leaving: an exchange that is not in the table any more."""
        source = self.exchanges.get(binding.source) or leaving
        if source is not None and source.bindings.pop(binding.identity, None) is not None:
            source.matcher.remove(binding)
        if binding.to_exchange:
            target = self.exchanges.get(binding.destination) or leaving
            if target is not None:
                target.incoming.pop(binding.identity, None)
        else:
            bound = self.of_queue.get(binding.destination)
            if bound is not None:
                bound.pop(binding.identity, None)
                if not bound:
                    del self.of_queue[binding.destination]
        self.changed()

    # -- routing ----------------------------------------------------------------------------------------------

    def route(self, exchange: Exchange, key: str, message: Message | None = None) -> Targets:
        """message: asked for where the key alone does not decide."""
        known = self._routes.get((exchange.name, key))
        if known is not None:
            return known
        walk = _Walk(self, key, message if message is not None else _NO_MESSAGE)
        targets = walk.begin(exchange)
        if not walk.asked_message:
            if len(self._routes) >= ROUTES_CACHED:
                self._routes.clear()
            self._routes[exchange.name, key] = targets
        return targets

    def route_all(self, exchange: Exchange, keys: Iterable[str], message: Message) -> Targets:
        """With more keys than one (CC, BCC): the first is that of the topic."""
        queues: dict[str, bool] = {}
        for number, key in enumerate(keys):
            targets = self.route(exchange, key, message)
            copies = set(targets.copies)
            for name in targets.queues:
                queues[name] = queues.get(name, False) or (number == 0 and name not in copies)
        return Targets(tuple(queues), tuple(name for name, natural in queues.items() if not natural))


class _Walk:
    """One message on its way through the exchanges."""

    def __init__(self, topology: Topology, key: str, message: Message) -> None:
        self._topology = topology
        self._key = key
        self._message = message
        self.asked_message = False

    def begin(self, first: Exchange) -> Targets:
        if not first.name:                              # the default exchange: the key is the queue
            found = (self._key,) if self._topology.queue_exists(self._key) else ()
            return Targets(found, ())
        queues: dict[str, bool] = {}                    # True: by a topic filter
        seen = {first.name}
        ahead = [first]
        while ahead and len(seen) <= HOPS_MAX:
            exchange = ahead.pop()
            for name in self._leave(exchange, exchange is first, queues):
                following = self._topology.exchanges.get(name)
                if following is not None and name not in seen:
                    seen.add(name)
                    ahead.append(following)
        return Targets(tuple(queues), tuple(name for name, natural in queues.items() if not natural))

    def _leave(self, exchange: Exchange, is_first: bool, queues: dict[str, bool]) -> list[str]:
        """Fill in the queues that it leads to; the exchanges."""
        if not exchange.name:
            if self._topology.queue_exists(self._key):
                queues.setdefault(self._key, False)
                return []
            return []
        matcher = exchange.matcher
        self.asked_message = self.asked_message or matcher.needs_message
        following: list[str] = []
        count = 0
        for binding in matcher.match(self._key, self._message):
            count += 1
            if binding.to_exchange:
                following.append(binding.destination)
            else:
                natural = is_first and binding.filter is not None
                queues[binding.destination] = queues.get(binding.destination, False) or natural
        if not count and exchange.alternate is not None:
            following.append(exchange.alternate)
        return following


def filter_of(exchange: Exchange, key: str) -> tuple[str, bool]:
    """The topic filter that wants what a binding wants, and whether it wants nothing else."""
    kind = exchange.kind
    if kind == "direct":
        return names.direct_filter(exchange.name, key), True
    if kind == "fanout":
        return names.fanout_filter(exchange.name), True
    if kind == "topic":
        return names.topic_filter(exchange.name, key)
    return names.fanout_filter(exchange.name), False
