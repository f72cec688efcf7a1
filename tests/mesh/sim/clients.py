"""What programs at the nodes do, and what they know afterwards: publishers, live subscribers, durable consumers.

Every act is written down as the checker wants it: Published per message, Wish per filter.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from routing.consumers.consumer import ConsumerSpec
from routing.direct.subscription import Subscription
from routing.errors import Refusal
from routing.event import Event
from routing.rights.policy import Identity
from routing.ticket import Ticket
from tests.support.checker import Message, parse_payload
from tests.support.mesh_checker import ALWAYS, NEVER, MeshHistory, Published, Wish

if TYPE_CHECKING:
    from tests.mesh.sim.node import SimNode

COUNTS_S = 1.2                          # a wish counts so long after it was made, whoever is cut off at that time
TOMBSTONE = "test-tombstone"            # header with the identity of an event that has no payload


@dataclass
class Book:
    """Everything that was done, for the checker. extras: message → key and headers, which must arrive unchanged."""

    history: MeshHistory = field(default_factory=MeshHistory)
    extras: dict[Message, tuple[bytes | None, tuple]] = field(default_factory=dict)

    def message_of(self, event: Event) -> Message | None:
        """None: damaged, or one of its fields is not what was sent."""
        payload = event.payload
        if not payload:
            payload = next((value for name, value in event.headers if name == TOMBSTONE), b"")
        message = parse_payload(payload)
        if message is not None and (event.key, event.headers) != self.extras.get(message, (event.key, event.headers)):
            return None
        return message


class Publisher:
    """The program that publishes at a node. A new producer name with each life of the node, sequences from 1."""

    def __init__(self, book: Book, node: SimNode) -> None:
        self.book, self.node = book, node
        self._sequences: dict[tuple[str, str], int] = {}

    def publish(self, topics: list[str], *, retain: bool = False, filler: int = 0) -> None:
        """One publish call with an event per topic."""
        node, rng = self.node, self.node.world.plan
        if not node.alive:
            return
        events, messages = [], []
        for topic in topics:
            place = (f"{node.name}.{node.life}", topic.replace("/", "-"))
            self._sequences[place] = self._sequences.get(place, 0) + 1
            message = Message(*place, self._sequences[place])
            tombstone = retain and rng.random() < 0.25
            key = rng.choice((b"k1", b"k2", b"k3")) if rng.random() < 0.1 and not retain else None
            headers = (("kind", rng.choice(("x", 7, b"\x00\xff"))),) if rng.random() < 0.1 else ()
            if tombstone:
                headers += ((TOMBSTONE, message.payload()),)
            self.book.extras[message] = key, headers
            self.book.history.published[message] = Published(
                node.name, topic, node.world.now_s, retain=retain, tombstone=tombstone)
            if topic.startswith("live/"):
                self.book.history.unstored.add(topic)
            payload = b"" if tombstone else message.payload(filler)
            events.append(Event(topic, payload, 1, key=key, headers=headers, retain=retain))
            messages.append(message)

        def publish() -> None:
            node.router.publish(events, node.publisher).on_done(lambda done: self._answered(messages, done))

        node.do(publish)

    def _answered(self, messages: list[Message], ticket: Ticket) -> None:
        for index, message in enumerate(messages):
            published = self.book.history.published[message]
            if index not in ticket.refusals:
                published.acked_at = self.node.world.now_s
            elif published.retain:              # stored in two places, of which a full disk may have refused one
                published.expendable = True
            else:
                published.refused = True


class Listener:
    """The program at a node with live subscriptions: a sink of the direct lane. Comes back after a crash."""

    consumer = None

    def __init__(self, book: Book, node: SimNode) -> None:
        self.book, self.node = book, node
        self.identity = Identity(user=node.name, protocol="sim", client_id=f"s-{node.name}")
        self.inbox: list = []
        self.inbox_scheduled = False
        self.wishes: dict[str, Wish] = {}
        self._subscriptions: dict[str, Subscription] = {}
        node.on_start.append(self._come_back)

    def subscribe(self, pattern: str) -> None:
        if pattern in self.wishes:
            return
        self._wish(pattern)
        if self.node.alive:
            self.node.do(lambda: self._subscribe(pattern))

    def unsubscribe(self, pattern: str) -> None:
        wish = self.wishes.pop(pattern, None)
        if wish is None:
            return
        wish.until = self.node.world.now_s
        if self.node.alive:
            self.node.do(lambda: self.node.router.unsubscribe(self._subscriptions.pop(pattern)))

    def node_gone(self) -> None:
        """What was subscribed is forgotten: from here on it may come or not, until subscribed again."""
        for pattern in list(self.wishes):
            self.wishes[pattern].until = self.node.world.now_s
            self._wish(pattern)
        self._subscriptions.clear()
        self.inbox.clear()
        self.inbox_scheduled = False

    def _wish(self, pattern: str) -> None:
        wish = self.wishes[pattern] = Wish(self.node.name, pattern, since=self.node.world.now_s, certain=NEVER)
        self.book.history.wishes.append(wish)

    def _come_back(self) -> None:
        for pattern in self.wishes:
            self._subscribe(pattern)

    def _subscribe(self, pattern: str) -> None:
        subscription = self._subscriptions[pattern] = Subscription(pattern, self)
        refusal = self.node.router.subscribe(subscription)
        assert refusal is None, refusal
        self.wishes[pattern].counts = self.node.world.now_s + COUNTS_S

    def flush_inbox(self) -> None:
        got = self.book.history.direct.setdefault(self.node.name, [])
        for run, _, _ in self.inbox:
            for event in run:
                message = self.book.message_of(event)
                assert message is not None, f"{self.node.name} got a damaged event on {event.topic}"
                if event.topic.startswith("live/"):
                    got.append(message)
        self.inbox.clear()


class DurableReader:
    """A durable consumer with one member that acks everything. Comes back after a crash."""

    def __init__(self, book: Book, node: SimNode, name: str, pattern: str, start: str,
                 opened: Callable[[DurableReader], None] | None = None) -> None:
        self.book, self.node, self.name, self.pattern, self.start = book, node, name, pattern, start
        self.identity = Identity(user=node.name, protocol="sim", client_id=name)
        self.credit = 100
        self.got: list[tuple[str, int, int, bool]] = []     # stream, partition, offset, marked as a repeat
        self.wish = Wish(node.name, pattern, since=ALWAYS if start == "earliest" else node.world.now_s, certain=NEVER)
        book.history.wishes.append(self.wish)
        node.on_start.append(self._attach)
        if node.alive:
            node.do(self._attach)

    def _attach(self) -> None:
        self.credit = 100
        if self.name not in self.node.router.registry.by_name:      # new, or it was not on disk when the node went down
            self.wish.counts = self.node.world.now_s + COUNTS_S
        consumer = self.node.router.open_consumer(
            ConsumerSpec(self.name, (self.pattern,), start=self.start), self.identity)
        assert not isinstance(consumer, Refusal), consumer
        refusal = consumer.attach(self)
        assert refusal is None, refusal

    def deliver(self, consumer, deliveries) -> None:
        for delivery in deliveries:
            event = delivery.event
            if event.partition is None:         # one that no stream captures: as it comes
                continue
            self.got.append((event.partition.stream, event.partition.index, event.offset, delivery.attempts > 1))
        self.credit += len(deliveries)
        self.node.call_soon(lambda: consumer.ack(deliveries))

    def consumer_closed(self, consumer, reason) -> None:
        raise AssertionError(f"{self.name} was closed: {reason}")

    def node_wiped(self) -> None:
        """The consumer is gone with the disk; the program makes it anew."""
        world = self.node.world
        self.wish.until = world.now_s
        self.got.clear()
        self.wish = Wish(self.node.name, self.pattern, since=ALWAYS if self.start == "earliest" else world.now_s,
                         certain=NEVER)
        self.book.history.wishes.append(self.wish)
