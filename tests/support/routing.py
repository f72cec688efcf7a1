"""A router on a real store, with a loop turned by hand and clocks that stand still."""
from __future__ import annotations

from collections import deque

from routing.event import Event
from routing.log.committing.workers import InlineWriter
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, Identity, Policy
from routing.router import Router
from routing.settings import Limits, StreamSettings

ANA = Identity(user="ana", protocol="test", client_id="ana-1")


class Desk:
    """router, publisher and the loop; run() does turns until nothing is left to do."""

    def __init__(self, path, settings=None, rules=(ALLOW_ALL,), limits=None, start=(1_000.0, 1_700_000_000_000),
                 **store_options):
        self.path = path
        self.queue = deque()
        self.now_s, self.now_ms = start
        self.limits = limits or Limits()
        options = {"pending_bytes_max": self.limits.pending_commit_bytes,
                   "tail_cache_bytes": self.limits.tail_cache_bytes, "spawn_writer": InlineWriter, **store_options}
        self.store = LocalStore(path, call_on_loop=self.queue.append, clock_ms=lambda: self.now_ms, **options)
        settings = settings or [StreamSettings("events", ("#",))]
        self.router = Router(self.store, settings, Policy(rules), limits=self.limits, call_soon=self.queue.append,
                             clock_s=lambda: self.now_s, clock_ms=lambda: self.now_ms)
        self.publisher = self.router.publisher(ANA)

    def run(self):
        while self.queue:
            self.queue.popleft()()

    def publish(self, *events, publisher=None):
        """Publish, wait until durable, return the ticket. Text counts as topic, with the topic as payload."""
        made = [event if isinstance(event, Event) else Event(event, event.encode(), 1) for event in events]
        ticket = self.router.publish(made, publisher or self.publisher)
        self.run()
        return ticket

    def tick(self, seconds=0.0):
        self.now_s += seconds
        self.now_ms += round(seconds * 1000)
        self.router.tick(self.now_s)
        self.run()

    def close(self):
        self.router.close()
        self.run()


def retained_of(router, pattern, identity=ANA):
    """The retained events that a filter gives this identity now."""
    cursor, found = router.retained.open_present(pattern), []
    while not cursor.done:
        found += router.retained.take(cursor, identity, 10, 10)
    return found


class Reader:
    """A member and a sink that writes down what it gets."""

    def __init__(self, credit=1_000, identity=ANA):
        self.identity = identity
        self.credit = credit
        self.consumer = None
        self.deliveries = []
        self.closed = None
        self.inbox = []
        self.inbox_scheduled = False
        self.direct = []
        self.flushes = 0

    def deliver(self, consumer, deliveries):
        self.deliveries.extend(deliveries)

    def consumer_closed(self, consumer, reason):
        self.closed = reason

    def flush_inbox(self):
        self.flushes += 1
        self.direct.extend(event for run, _, _ in self.inbox for event in run)
        self.inbox.clear()

    @property
    def topics(self):
        return [delivery.event.topic for delivery in self.deliveries]

    @property
    def payloads(self):
        return [delivery.event.payload for delivery in self.deliveries]

    def ack_all(self, consumer):
        taken, self.deliveries = self.deliveries, []
        self.credit += len(taken)
        consumer.ack(taken)
        return taken
