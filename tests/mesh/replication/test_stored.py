"""Batches of Kafka producers travel as they are stored: all but base offset and leader epoch, exactly once."""
from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from mesh.replication.settings import ReplicationSettings
from routing.settings import StreamSettings
from tests.mesh.replication.harness import START_MS, World, check, payloads

ORDERS = StreamSettings("orders", ("orders/#",), 2)
EVENTS = StreamSettings("events", ("#",))
LZ4, ZSTD = 3, 4
CHECKED_FROM = 16           # of a batch: behind length, base offset and leader epoch
EVERYTHING = (("orders/#", "earliest"),)


def kafka_batch(values, *, codec=LZ4, producer=(-1, -1, -1), headers=()):
    builder = DefaultRecordBatchBuilder(2, codec, 0, *producer, 1 << 30)
    for index, value in enumerate(values):
        builder.append(index, START_MS, b"k", value, list(headers))
    return bytes(builder.build())


def add(world, name, **options):
    return world.add(name, streams=[ORDERS, EVENTS], replicate=EVERYTHING, **options)


def produce(node, partition, *values, **options):
    """As a Kafka client: it chooses the partition."""
    ticket = node.router.publish_raw("orders", partition, kafka_batch(values, **options), node.publisher)
    node.turn()
    return ticket


def partition_of(node, index):
    return node.router.streams.by_name["orders"].partitions[index]


def stored(node, index):
    """The batches of a partition without what the broker sets."""
    return [batch[CHECKED_FROM:] for batch in partition_of(node, index).read(0, 1 << 30)]


def places(node, index):
    return [(event.origin.node if event.origin else "", event.origin_offset) for event in node.log()
            if event.partition is partition_of(node, index)]


def caught_up(world, origin, *others):
    ends = [partition_of(origin, index).end_offset for index in (0, 1)]
    world.run_until(lambda: all(
        branch.live.floor >= ends[branch.origin.index] for other in others
        for branch in other.replication.intake.branches.values()
        if branch.origin.node == origin.name and branch.origin.stream == "orders"), 120)


@pytest.mark.parametrize("codec", [0, 1, 2, LZ4, ZSTD])
def test_a_batch_comes_byte_for_byte_into_the_same_partition(codec):
    world = World()
    graz, cloud, lyon = (add(world, name) for name in ("graz", "cloud", "lyon"))
    produce(graz, 0, b"before")
    world.run(3)
    for index in range(20):
        produce(graz, index % 2, *(b"%d.%d" % (index, number) for number in range(50)), codec=codec,
                producer=(7, 0, index // 2 * 50))
        world.run(0.2)
    caught_up(world, graz, cloud, lyon)
    for node in (cloud, lyon):
        for index in (0, 1):
            assert stored(node, index) == stored(graz, index), (node.name, index)
            assert [place for _, place in places(node, index)] == list(range(partition_of(graz, index).end_offset))
            assert {name for name, _ in places(node, index)} == {"graz"}
        assert not partition_of(node, 0).producers, "ids of another node's producers mean nothing here"
    assert not graz.replicas(), "what came from graz does not go back"


def test_live_readers_and_consumers_get_the_events():
    world = World()
    graz, cloud = add(world, "graz"), add(world, "cloud")
    reader = cloud.subscribe("orders")
    world.run(2)
    produce(graz, 1, b"one", b"two")
    world.run(1)
    assert payloads(reader.direct) == [b"one", b"two"]


def test_events_of_other_protocols_between_them_keep_their_order_and_partition():
    world = World()
    graz, cloud = add(world, "graz"), add(world, "cloud")
    world.run(2)
    for number in range(30):
        produce(graz, number % 2, b"kafka %d" % number)
        graz.publish("orders/1", key=b"k")
        world.run(0.05 if number % 3 else 0)
    caught_up(world, graz, cloud)
    for index in (0, 1):
        assert [event.payload for event in cloud.log() if event.partition is partition_of(cloud, index)] == [
            event.payload for event in graz.log() if event.partition is partition_of(graz, index)]
        assert [place for _, place in places(cloud, index)] == list(range(partition_of(graz, index).end_offset))


def test_a_narrower_wish_gets_the_events_opened():
    world = World()
    graz = world.add("graz", streams=[ORDERS, EVENTS])
    cloud = world.add("cloud", streams=[ORDERS, EVENTS], replicate=(("orders/1", "earliest"),))
    world.run(2)
    produce(graz, 0, b"a", b"b", headers=[("meshgate-topic", b"orders/1")])
    produce(graz, 0, b"c", headers=[("meshgate-topic", b"orders/2")])
    world.run(3)
    assert payloads(cloud.replicas("graz")) == [b"a", b"b"]
    assert not partition_of(cloud, 0).origins


def test_with_another_count_of_partitions_they_come_opened():
    world = World()
    graz = add(world, "graz")
    cloud = world.add("cloud", streams=[StreamSettings("orders", ("orders/#",), 3), EVENTS], replicate=EVERYTHING)
    world.run(2)
    produce(graz, 0, b"a", b"b")
    world.run(3)
    assert sorted(payloads(cloud.replicas("graz"))) == [b"a", b"b"]


def test_a_batch_that_this_node_does_not_take_is_opened_and_its_records_are_taken_one_by_one():
    """Larger than a batch may be here; no record of it is."""
    world = World()
    graz = add(world, "graz")
    small = StreamSettings("orders", ("orders/#",), 2, batch_bytes_max=2_000)
    cloud = world.add("cloud", streams=[small, EVENTS], replicate=EVERYTHING)
    world.run(2)
    produce(graz, 0, *(bytes([65 + number]) * 500 for number in range(20)), codec=0)
    produce(graz, 0, b"after")
    world.run(10)
    assert len(cloud.replicas("graz")) == 21
    assert [place for _, place in places(cloud, 0)] == list(range(21))


@pytest.mark.parametrize("seed", range(12))
def test_exactly_once_in_order_through_losses_cuts_kills_and_losses_of_power(seed):
    world = World(seed, loss=0.05, doubles=0.05, delay_s=(0.001, 0.05),
                  limits=ReplicationSettings(batch_bytes=4_000, window_bytes=40_000))
    nodes = [add(world, name) for name in ("graz", "cloud", "lyon")]
    sequence = dict.fromkeys((node.name, index) for node in nodes for index in (0, 1))
    for step in range(60):
        node = world.rng.choice(nodes)
        if not node.alive:
            node.start()
        elif world.rng.random() < 0.08:
            world.rng.choice((node.kill, node.lights_out))()
        elif world.rng.random() < 0.05:
            one, other = world.rng.sample([each.name for each in nodes], 2)
            world.cut(one, other)
            world.at(world.rng.uniform(0.1, 2), lambda one=one, other=other: world.mend(one, other))
        elif world.rng.random() < 0.3:
            node.publish("orders/x", key=b"%d" % world.rng.randrange(9))
        else:
            index = world.rng.randrange(2)
            count = world.rng.randrange(1, 200)
            produce(node, index, *(b"%s %d %d" % (node.name.encode(), step, number) for number in range(count)),
                    codec=world.rng.choice((0, LZ4, ZSTD)))
            sequence[node.name, index] = step
        world.run(world.rng.choice((0.01, 0.1, 0.5)))
    for node in nodes:
        if not node.alive:
            node.start()
    for one, other in (("graz", "cloud"), ("cloud", "lyon"), ("graz", "lyon")):
        world.mend(one, other)
    world.run(5)
    for node in nodes:
        caught_up(world, node, *(each for each in nodes if each is not node))
    for node in nodes:
        for other in nodes:
            if other is node:
                continue
            for index in (0, 1):
                own = [(event.offset, event.payload) for event in node.log()
                       if event.partition is partition_of(node, index) and event.origin is None]
                came = sorted((event.origin_offset, event.payload) for event in other.log()
                              if event.origin is not None and event.origin.node == node.name
                              and event.origin.stream == "orders" and event.origin.index == index)
                assert came == own, (seed, node.name, other.name, index)
            check(world, other, node, ["#"], complete=False)            # in order in each partition
    assert any(partition_of(node, index).origins for node in nodes for index in (0, 1)), "some came as they were"


def test_the_first_records_of_a_topic_keep_their_partition_though_it_was_made_here_after_the_flow_began():
    """Kafka's topics are made on all nodes of a cluster, a moment apart, and written to at once."""
    world = World()
    graz = add(world, "graz")
    cloud = world.add("cloud", streams=[EVENTS], replicate=EVERYTHING)
    world.run(0.5)
    flows = [branch.live for branch in cloud.replication.intake.branches.values() if branch.origin.stream == "orders"]
    assert {flow.state.value for flow in flows} == {"running"}
    made = cloud.router.lifecycle.create(ORDERS, "ana")
    for _ in range(50):
        cloud.turn()
    assert made is not None and "orders" in cloud.router.streams.by_name
    for index in (0, 1, 1, 0):
        produce(graz, index, b"%d" % index, headers=[("meshgate-topic", b"orders/7")])
    world.run(2)
    for index in (0, 1):
        assert len(places(cloud, index)) == 2 and {name for name, _ in places(cloud, index)} == {"graz"}
        assert [event.payload for event in cloud.log() if event.partition is partition_of(cloud, index)] == [
            b"%d" % index] * 2
