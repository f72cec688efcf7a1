"""What a flow does on its way: expiry, prefixes, a storage that refuses, a long way, many partitions."""
from __future__ import annotations

import errno
from types import SimpleNamespace

from mesh.replication.settings import ReplicationSettings
from routing.event import Event, Properties
from routing.settings import StreamSettings
from tests.mesh.replication.harness import START_MS, World, check, payloads


def test_events_that_expire_on_the_way_are_not_delivered():
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    reader = cloud.subscribe("#")
    world.run(1)
    world.cut("graz", "cloud")
    now_ms = START_MS + round(world.now_s * 1000)
    graz.publish_events([
        Event("a", b"short", 1, properties=Properties(expires_at_ms=now_ms + 2_000)),
        Event("a", b"long", 1, properties=Properties(expires_at_ms=now_ms + 60_000)), Event("a", b"for ever", 1)])
    world.run(5)
    world.mend("graz", "cloud")
    world.run(2)
    assert payloads(reader.direct) == [b"long", b"for ever"] == payloads(cloud.replicas())
    assert graz.replication.snapshot()["destinations"][0]["expired"] == 1


def test_prefix_and_imports_at_the_destination_exports_at_the_origin():
    world = World(2)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.edges["graz"] = SimpleNamespace(exports=("#",), imports=("a/#", "b/#"), prefix="eu/graz")
    graz.edges["cloud"] = SimpleNamespace(exports=("a/#", "c/#"), imports=("#",), prefix="")
    reader = cloud.subscribe("eu/+/#")
    other = cloud.subscribe("a/#")
    world.run(1)
    graz.publish("a/1", "b/1", "c/1", "d")
    world.run(1)
    assert [event.topic for event in reader.direct] == ["eu/graz/a/1"]
    assert not other.direct
    assert [event.topic for event in cloud.replicas()] == ["eu/graz/a/1"]


def test_a_storage_that_refuses_for_a_while_costs_nothing():
    world = World(3)
    graz, cloud = world.add("graz"), world.add("cloud", streams=[StreamSettings("events", ("#",), partitions=3)])
    cloud.subscribe("#")
    world.run(1)
    cloud.faulty.faults.fail("pwrite", at=2, count=40, code=errno.ENOSPC)
    for number in range(200):
        graz.publish(f"a/{number % 7}")
        world.run(0.02)
    flow = next(iter(cloud.replication.intake.branches.values())).live
    cloud.faulty.faults.clear()
    world.run(15)
    assert check(world, cloud, graz, ["#"]) == 200
    assert not flow.trouble


def test_a_long_way_is_filled_by_the_window():
    world = World(4, delay_s=(0.25, 0.25), limits=ReplicationSettings(batch_bytes=16_384))
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("#")
    world.run(3)
    world.cut("graz", "cloud")
    for _ in range(20):
        graz.publish(*["a"] * 500, payload=b"x" * 200)
    world.mend("graz", "cloud")
    world.run(2.5)
    assert check(world, cloud, graz, ["#"]) == 10_000, "2 MB in five one-way trips: not one batch per round trip"


def test_a_window_bounds_what_is_under_way_while_the_destination_cannot_write():
    world = World(5, limits=ReplicationSettings(window_bytes=20_000, batch_bytes=4_000))
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("#")
    world.run(1)
    publish = cloud.replication.intake.replicas.publish
    held = []
    cloud.replication.intake.replicas.publish = lambda *arguments: held.append(arguments)
    for _ in range(100):
        graz.publish(*["a"] * 20, payload=b"x" * 100)
        world.run(0.02)
    assert 10_000 < sum(len(event.payload) for _, _, events, *_ in held for event in events) < 30_000
    cloud.replication.intake.replicas.publish = publish
    for arguments in held:
        cloud.do(lambda arguments=arguments: publish(*arguments))
    world.run(10)
    assert check(world, cloud, graz, ["#"]) == 2_000


def test_five_nodes_hear_each_other_once():
    world = World(6, loss=0.05, delay_s=(0.001, 0.02))
    nodes = [world.add(f"n{number}") for number in range(5)]
    for node in nodes:
        node.subscribe("#")
    world.run(3)
    for _ in range(20):
        for node in nodes:
            node.publish("a", "b")
        world.run(0.05)
    world.loss = 0
    world.run(10)
    for one in nodes:
        for other in nodes:
            if one is not other:
                assert check(world, one, other, ["#"]) == 40


def test_a_quiet_mesh_says_little():
    world = World(7)
    nodes = [world.add(f"n{number}", replicate=(("#", "latest"),)) for number in range(4)]
    world.run(30)
    before = world.sent
    world.run(60)
    assert world.sent - before <= 12 * 2 * 7, "a question and an answer per flow and ten seconds"
    assert len(nodes) == 4


def test_too_many_filters_are_widened_and_nothing_is_missed(caplog):
    world = World(8, limits=ReplicationSettings(filters_max=20))
    graz, cloud = world.add("graz"), world.add("cloud")
    readers = [cloud.subscribe(f"plant/{number}/temp") for number in range(100)]
    world.run(3)
    assert len(cloud.replication.intake.filters) <= 20
    assert cloud.replication.snapshot()["widened"] and "joined" in caplog.text
    graz.publish(*(f"plant/{number}/temp" for number in range(100)))
    world.run(2)
    assert [len(reader.direct) for reader in readers] == [1] * 100
