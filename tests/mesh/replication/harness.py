"""Nodes in memory: real routers on simulated disks, and an overlay that loses, doubles and reorders on a fake clock.

World.run(seconds) lets time pass. A node is killed (page cache survives), loses power, or is wiped. check() compares
what was acked at every origin with what stands in every log.
"""
from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace

from mesh.publishers import Publishers
from mesh.replication.replication import Replication
from mesh.replication.settings import From, ReplicateSettings, ReplicationConfig, ReplicationSettings
from routing.direct.subscription import Subscription
from routing.event import Event
from routing.log.committing.workers import InlineWriter
from routing.log.store import LocalStore
from routing.rights.policy import ALLOW_ALL, Identity, Policy
from routing.router import Router
from routing.settings import Limits, StreamSettings
from routing.topic import filter_matches
from tests.support.disk import FaultyFileSystem, SimulatedDisk
from tests.support.routing import Reader

TICK_S = 0.01
START_MS = 1_700_000_000_000
LIMITS = Limits(tail_cache_bytes=20_000)


class World:
    def __init__(self, seed=0, *, loss=0.0, doubles=0.0, delay_s=(0.001, 0.001), limits=None):
        self.rng = random.Random(seed)
        self.loss = loss
        self.doubles = doubles
        self.delay_s = delay_s
        self.limits = limits or ReplicationSettings()
        self.now_s = 0.0
        self.nodes = {}
        self.cuts = set()               # frozenset of two names
        self.sent = 0
        self.sent_bytes = 0
        self.tap = None                 # tap(source, to, body) → bodies to deliver instead, or None
        self._events = []
        self._count = itertools.count()

    def add(self, name, **options):
        node = self.nodes[name] = Node(self, name, **options)
        node.start()
        return node

    def at(self, delay_s, work):
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._count), work))

    def run(self, seconds):
        end_s = self.now_s + seconds
        while self._events and self._events[0][0] <= end_s:
            self.now_s, _, work = heapq.heappop(self._events)
            work()
        self.now_s = end_s

    def run_until(self, condition, limit_s=60.0):
        end_s = self.now_s + limit_s
        while not condition():
            assert self.now_s < end_s, "the condition was not met in time"
            self.run(0.02)

    def send(self, source, to, body):
        """One message between two nodes. False: no route."""
        if frozenset((source, to)) in self.cuts or to not in self.nodes or not self.nodes[to].alive:
            return False
        self.sent += 1
        self.sent_bytes += len(body)
        for copy in [body] if self.tap is None or (bodies := self.tap(source, to, body)) is None else bodies:
            for _ in range(2 if self.rng.random() < self.doubles else 1):
                if self.rng.random() >= self.loss:
                    self.at(self.rng.uniform(*self.delay_s), lambda copy=copy: self._arrive(source, to, copy))
        return True

    def _arrive(self, source, to, body):
        node = self.nodes.get(to)
        if node is not None and node.alive and frozenset((source, to)) not in self.cuts:
            node.do(lambda: node.replication.on_message(source, body))

    def cut(self, one, other):
        self.cuts.add(frozenset((one, other)))
        self.tell({one, other})

    def mend(self, one, other):
        self.cuts.discard(frozenset((one, other)))
        self.tell({one, other})

    def tell(self, names):
        """Gossip: everybody hears a moment later what has become of these nodes."""
        for node in self.nodes.values():
            others = names - {node.name}
            if node.alive and others:
                self.at(0.005, lambda node=node, others=others: node.alive and node.do(
                    lambda: node.replication.on_nodes_changed(others)))


class FakeOverlay:
    def __init__(self, node):
        self.node = node
        self.me = SimpleNamespace(name=node.name, epoch=node.store.epoch, boot=str(node.life))
        self.edges = {}                 # node name → SimpleNamespace(exports, imports, prefix); None: no way known
        self.came_by = None             # the link of the message that is looked at

    @property
    def nodes(self):
        world = self.node.world
        return {
            other.name: SimpleNamespace(
                name=other.name, epoch=other.store.epoch, boot=str(other.life),
                skew_ms=float(other.wall_error_ms - self.node.wall_error_ms),
                streams=[SimpleNamespace(name=stream.name, partitions=stream.partitions, captures=stream.capture)
                         for stream in other.streams])
            for other in world.nodes.values()
            if other is not self.node and other.alive and frozenset((self.node.name, other.name)) not in world.cuts
        }

    def send(self, to, body, priority):
        return self.node.world.send(self.node.name, to, body)

    def edge(self, name):
        edge = self.node.edges.get(name, SimpleNamespace(exports=("#",), imports=("#",), prefix=""))
        if edge is not None:
            edge.node = name
        return edge


class Node:
    def __init__(self, world, name, *, streams=None, replicate=(), limits=LIMITS, wall_error_ms=0):
        self.world = world
        self.name = name
        self.streams = streams or [StreamSettings("events", ("#",))]
        self.replicate = replicate
        self.limits = limits
        self.wall_error_ms = wall_error_ms
        self.disk = SimulatedDisk()
        self.faulty = FaultyFileSystem(self.disk)
        self.alive = False
        self.life = 0
        self.edges = {}
        self.acked = []                 # events published here and acked
        self.number = 0
        self._queue = deque()

    # -- life -------------------------------------------------------------------------------------------------

    def start(self):
        self.life += 1
        self._queue.clear()
        world = self.world
        self.store = LocalStore(
            Path("/data"), call_on_loop=self.call_soon, clock_ms=self.clock_ms, clock_s=self.clock_s,
            fs=self.faulty, spawn_writer=InlineWriter, tail_cache_bytes=self.limits.tail_cache_bytes)
        self.router = Router(
            self.store, self.streams, Policy((ALLOW_ALL,)), limits=self.limits, call_soon=self.call_soon,
            clock_s=self.clock_s, clock_ms=self.clock_ms)
        self.publisher = self.router.publisher(Identity(user="ana", protocol="test", client_id=f"ana-{self.name}"))
        self.overlay = FakeOverlay(self)
        tables = tuple(ReplicateSettings(pattern, From(begin)) for pattern, begin in self.replicate)
        self.replication = Replication(
            self.router, self.overlay, self.clock_s, self.clock_ms, random.Random(world.rng.random()),
            ReplicationConfig(tables, world.limits), Publishers())
        self.router.on_wanted.append(self.replication.wanted_changed)
        self.alive = True
        self.replication.start()
        self.turn()
        self._tick_of(self.life)
        world.tell({self.name})

    def kill(self):
        """SIGKILL: what was written survives."""
        self.alive = False
        self.disk.locks.clear()
        self.world.tell({self.name})

    def lights_out(self):
        self.kill()
        self.disk.power_loss(self.world.rng)

    def wipe(self):
        """A new disk under the same name."""
        if self.alive:
            self.kill()
        self.disk = SimulatedDisk()
        self.faulty = FaultyFileSystem(self.disk)
        self.acked.clear()

    def _tick_of(self, life):
        if self.alive and self.life == life:
            self.router.tick(self.clock_s())
            self.store.maintain(self.clock_ms())
            self.do(lambda: self.replication.tick(self.clock_s()))
            self.world.at(TICK_S, lambda: self._tick_of(life))

    def clock_s(self):
        return self.world.now_s + 500.0

    def clock_ms(self):
        return START_MS + round(self.world.now_s * 1000) + self.wall_error_ms

    def call_soon(self, work):
        self._queue.append(work)

    def do(self, work):
        work()
        self.turn()

    def turn(self):
        while self._queue and self.alive:
            self._queue.popleft()()

    # -- use --------------------------------------------------------------------------------------------------

    def publish(self, *topics, **fields):
        """One event per topic, told apart by its payload. Acked ones are remembered."""
        events = []
        for topic in topics:
            self.number += 1
            payload = fields.get("payload", f"{self.name}:{self.life}:{self.number}".encode())
            events.append(Event(topic, payload, 1, **{key: value for key, value in fields.items() if key != "payload"}))
        self.publish_events(events)

    def publish_events(self, events):
        def done(ticket):
            self.acked.extend(event for index, event in enumerate(events) if index not in ticket.refusals)

        self.router.publish(events, self.publisher).on_done(done)
        self.turn()

    def subscribe(self, pattern):
        reader = Reader(identity=Identity(user="eva", protocol="test", client_id=f"eva-{self.name}-{pattern}"))
        subscription = Subscription(pattern, reader)
        assert self.router.subscribe(subscription) is None
        self.turn()
        reader.subscription = subscription
        return reader

    def unsubscribe(self, reader):
        self.router.unsubscribe(reader.subscription)
        self.turn()

    def log(self):
        """Every event in the log, in order of partition and offset."""
        out = []
        for partition in self.router.own_partitions():
            offset = partition.start_offset
            while offset < partition.end_offset:
                found = partition.scan(offset, lambda topic: True, max_events=1000, max_scanned=1000)
                out.extend(found.events)
                offset = found.next_offset
        return out

    def replicas(self, origin=None):
        return [event for event in self.log() if event.origin is not None and origin in (None, event.origin.node)]


def payloads(events):
    return [event.payload for event in events]


def check(world, destination, origin, filters, *, since=None, complete=True):
    """Exactly once, in order, and nothing that nobody asked for. Returns how many replicas there are.

    since: {filter: index in origin.acked from which everything must be there}; None: everything.
    """
    replicas = destination.replicas(origin.name)
    places = [(event.origin, event.origin_offset) for event in replicas]
    assert len(places) == len(set(places)), "an event is there twice"
    for event in replicas:
        assert any(filter_matches(pattern, event.topic) for pattern in filters), f"nobody asked for {event.topic}"
    order = {}
    for event in replicas:
        key = event.origin, event.flow, event.partition.index, event.partition.stream
        assert order.get(key, -1) < event.origin_offset, "out of order"
        order[key] = event.origin_offset
    known = {(event.partition.stream, event.partition.index, event.offset): event for event in origin.acked}
    if complete:
        got = {(event.origin.stream, event.origin.index, event.origin_offset): event for event in replicas
               if event.origin.epoch == origin.store.epoch}
        for place, event in known.items():
            if any(filter_matches(pattern, event.topic) and (
                    since is None or origin.acked.index(event) >= since.get(pattern, 0)) for pattern in filters):
                assert place in got, f"lost: {event.topic} at {place} of {origin.name}"
                assert (got[place].payload, got[place].key, got[place].headers, got[place].timestamp_ms) == (
                    event.payload, event.key, event.headers, event.timestamp_ms)
    return len(replicas)
