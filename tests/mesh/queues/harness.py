"""Nodes in memory with parts of queues: the world of mesh/replication, and the talk about queues beside it."""
from __future__ import annotations

import random
from types import SimpleNamespace

from mesh.queues.messages import is_of_queues
from mesh.queues.shared import Shared
from mesh.topology.settings import MeshSettings
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from routing.topic import filter_matches
from tests.mesh.replication.harness import TICK_S, Node, World
from tests.support.routing import ANA, Reader

SETTINGS = MeshSettings(queue_lost_s=5.0)
GRANTED = ("view", "operate")       # by `console` of a link, where a test says nothing else


class QueueNode(Node):
    queues = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.consoles = {}              # node name → `console` of the link by which it is reached

    def start(self):
        self.queues = None
        super().start()
        self.queues = Shared(self.router, self.overlay, self.clock_s, self.clock_ms,
                             random.Random(self.world.rng.random()), SETTINGS)
        self.queues.start()
        self.turn()
        self._tick_queues(self.life)

    def _tick_queues(self, life):
        if self.alive and self.life == life:
            self.do(lambda: self.queues.tick(self.clock_s()))
            self.world.at(TICK_S, lambda: self._tick_queues(life))

    def declare(self, name="work", *filters, **options):
        queue = self.router.queues.declare(name, QueueOptions(**options), ANA)
        for pattern in filters:
            assert queue.bind(Binding(pattern), ANA) is None
        self.turn()
        return queue

    def read(self, name="work", credit=10):
        """A member that acks as it is told."""
        queue = self.router.queues.get(name)
        reader = Reader(credit=credit, identity=ANA)
        reader.queue = queue
        assert queue.attach(reader) is None
        self.turn()
        return reader

    def ack(self, reader, count=None):
        """Ack what it holds; its credit is what it was."""
        taken, reader.deliveries[:] = reader.deliveries[:count], reader.deliveries[count:] if count else []
        reader.queue.ack(taken)
        reader.credit += len(taken)
        reader.queue.consumer.ready()
        self.turn()
        return [delivery.event.payload for delivery in taken]


class QueueWorld(World):
    def add(self, name, **options):
        node = self.nodes[name] = QueueNode(self, name, **options)
        node.start()
        return node

    def _arrive(self, source, to, body):
        node = self.nodes.get(to)
        if is_of_queues(body):
            if node is not None and node.alive and node.queues and frozenset((source, to)) not in self.cuts:
                node.overlay.came_by = SimpleNamespace(node=source, console=node.consoles.get(source, GRANTED))
                node.do(lambda: node.queues.on_message(source, body))
        else:
            super()._arrive(source, to, body)

    def tell(self, names):
        super().tell(names)
        for node in self.nodes.values():
            if node.alive and names - {node.name}:
                self.at(0.005, lambda node=node: node.alive and node.queues and node.do(node.queues.on_nodes_changed))


def three(seed=1, **options):
    """graz and lyon have the queue; cloud has not."""
    world = QueueWorld(seed, **options)
    nodes = [world.add(name) for name in ("graz", "lyon", "cloud")]
    world.run(1)
    return world, *nodes


def acked(*nodes, pattern="a/#"):
    return sorted(event.payload for node in nodes for event in node.acked if filter_matches(pattern, event.topic))
