"""Two nodes: what is published on one is in the log of the other, once, in order."""
from __future__ import annotations

from mesh.replication.messages import RetainedAsk, RetainedPage, decode, encode
from tests.mesh.replication.harness import World, check, payloads


def test_a_live_subscription_brings_the_events_of_another_node():
    world = World()
    graz, cloud = world.add("graz"), world.add("cloud")
    reader = cloud.subscribe("plant/#")
    world.run(0.5)
    graz.publish("plant/a", "plant/b", "office/a")
    world.run(0.5)
    assert payloads(reader.direct) == [b"graz:1:1", b"graz:1:2"]
    assert check(world, cloud, graz, ["plant/#"]) == 2
    assert not graz.replicas()


def test_events_arrive_within_a_few_round_trips_of_an_idle_flow():
    world = World(delay_s=(0.01, 0.01))
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("#")
    world.run(1)
    graz.publish("a")
    world.run(0.03)
    assert len(cloud.replicas()) == 1


def test_both_directions_at_once_and_nothing_comes_back():
    world = World(3)
    graz, cloud = world.add("graz"), world.add("cloud")
    graz.subscribe("#")
    cloud.subscribe("#")
    world.run(0.5)
    for _ in range(50):
        graz.publish("a/x", "a/y")
        cloud.publish("a/x", "b")
        world.run(0.01)
    world.run(2)
    assert check(world, cloud, graz, ["#"]) == 100
    assert check(world, graz, cloud, ["#"]) == 100


def test_what_is_published_while_the_way_is_cut_comes_afterwards():
    world = World(4)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("#")
    world.run(0.5)
    world.cut("graz", "cloud")
    for _ in range(500):
        graz.publish("a", "b", "c")
        world.run(0.01)
    assert not cloud.replicas()
    world.mend("graz", "cloud")
    world.run(5)
    assert check(world, cloud, graz, ["#"]) == 1500


def test_a_lossy_way_loses_doubles_and_reorders_nothing_in_the_log():
    for seed in range(20):
        world = World(seed, loss=0.2, doubles=0.2, delay_s=(0.001, 0.05))
        graz, cloud = world.add("graz"), world.add("cloud")
        cloud.subscribe("a/#")
        world.run_until(lambda cloud=cloud: any(
            branch.live.is_steady for branch in cloud.replication.intake.branches.values()))
        for _ in range(100):
            graz.publish("a/1", "b", "a/2")
            world.run(0.01)
        world.run_until(lambda graz=graz, cloud=cloud: len(cloud.replicas()) >= 200)
        world.run(1)
        assert check(world, cloud, graz, ["a/#"]) == 200


def test_what_is_asked_for_while_no_way_leads_back_is_not_passed_over():
    """A Pull may come before the node knows by which link its answer leaves, and so what may leave. It was answered
    that nothing is wanted up to the end, and the destination took that for looked at.
    """
    world = World(1)
    graz = world.add("graz")
    edge_to, away = graz.overlay.edge, True
    graz.overlay.edge = lambda name: None if away else edge_to(name)
    graz.publish("a/1", "a/2", retain=True)
    cloud = world.add("cloud", replicate=(("a/#", "earliest"),))
    reader = cloud.subscribe("b/#")
    for _ in range(5):
        graz.publish("a/3", "b/1")
        world.run(0.5)
    assert not cloud.replicas()
    away = False
    world.run(5)
    graz.publish("a/4")
    away = True
    world.run(0.5)
    away = False
    world.run(5)
    assert check(world, cloud, graz, ("a/#", "b/#"), since={"b/#": len(graz.acked)}) >= 8
    cloud.unsubscribe(reader)


def test_what_is_retained_is_not_told_to_be_nothing_while_no_way_leads_back():
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    graz.publish("a/1", retain=True)
    world.run(1)
    graz.overlay.edge = lambda name: None
    pages = []
    world.tap = lambda source, to, body: pages.append(body) if isinstance(decode(body), RetainedPage) else None
    ask = encode(RetainedAsk(1, graz.store.epoch, "a/#", "", []))
    graz.do(lambda: graz.replication.on_message("cloud", ask))
    world.run(1)
    assert not pages
    del graz.overlay.edge
    graz.do(lambda: graz.replication.on_message("cloud", ask))
    world.run(1)
    assert len(pages) == 1 and cloud.alive
