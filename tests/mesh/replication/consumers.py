"""Readers of one durable consumer on the nodes of a world, for the tests of hand-over."""
from __future__ import annotations

from mesh.replication.settings import ReplicationSettings
from routing.consumers.consumer import ConsumerSpec
from routing.settings import StreamSettings
from tests.mesh.replication.harness import World
from tests.support.routing import ANA, Reader


def attach(node, name="desk", pattern="a/#", credit=10_000, identity=ANA, **options):
    consumer = node.router.open_consumer(ConsumerSpec(name, (pattern,) if pattern else (), **options), identity)
    reader = Reader(credit=credit, identity=identity)
    reader.consumer = consumer
    assert consumer.attach(reader) is None
    node.turn()
    return reader


def got(reader):
    return [delivery.event.payload for delivery in reader.deliveries]


def trio(seed=1, **options):
    world = World(seed, limits=ReplicationSettings(linger_s=0.5), **options)
    streams = [StreamSettings("events", ("#",), partitions=2)]
    nodes = [world.add("graz", streams=streams), world.add("cloud"), world.add("lyon", streams=streams)]
    world.run(1)
    return world, *nodes


def write(world, *nodes, count=10):
    for number in range(count):
        for node in nodes:
            node.publish(f"a/{number}", "b")
        world.run(0.01)
    return [event.payload for node in nodes for event in node.acked if event.topic.startswith("a/")]
