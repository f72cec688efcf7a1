"""History on demand: what a filter wants from before it came, less what other filters have brought."""
from __future__ import annotations

import pytest

from mesh.replication.settings import ReplicationSettings
from routing.consumers.consumer import ConsumerSpec
from routing.settings import StreamSettings
from tests.mesh.replication.harness import START_MS, World, check
from tests.support.routing import ANA

LIMITS = ReplicationSettings(linger_s=0.3, window_bytes=4_096, batch_bytes=1_024)


def consume(node, name, pattern, start):
    consumer = node.router.open_consumer(ConsumerSpec(name, (pattern,), start=start), ANA)
    node.turn()
    return consumer


def story(seed=0, **options):
    """graz has history of a, b and c; cloud has pulled b for a while in the middle."""
    world = World(seed, limits=LIMITS, **options)
    streams = [StreamSettings("events", ("#",), partitions=2)]
    graz, cloud = world.add("graz", streams=streams), world.add("cloud", streams=[
        StreamSettings("events", ("#",), partitions=3)])
    write(world, graz)
    reader = cloud.subscribe("b/+")
    world.run(1)
    write(world, graz)
    world.run(1)
    cloud.unsubscribe(reader)
    world.run(2)
    write(world, graz)
    return world, graz, cloud


def write(world, node, count=30):
    for number in range(count):
        node.publish("a/1", f"b/{number % 3}", "b/x", "c")
        world.run(0.01)


def settle(world, node):
    world.run_until(lambda: all(
        branch.live.is_steady and branch.backfill is None and branch.live.floor >= branch.live.end > 0
        for branch in node.replication.intake.branches.values()))
    world.run(2)


def test_a_consumer_from_the_beginning_gets_all_history_once():
    world, graz, cloud = story()
    consume(cloud, "audit", "#", "earliest")
    world.run(3)
    write(world, graz)
    settle(world, cloud)
    assert check(world, cloud, graz, ["#"]) == 4 * 4 * 30


def test_a_narrow_filter_brings_only_its_own_history():
    world, graz, cloud = story()
    before = len(cloud.replicas())
    consume(cloud, "audit", "b/x", "earliest")
    world.run(3)
    settle(world, cloud)
    assert len(cloud.replicas()) - before == 60, "of three parts of 30, the one in the middle was here"
    check(world, cloud, graz, ["b/+"], complete=False)


def test_history_by_time():
    world, graz, cloud = story()
    since_ms = graz.acked[len(graz.acked) // 2].timestamp_ms
    consume(cloud, "audit", "a/#", {"time_ms": since_ms})
    world.run(3)
    settle(world, cloud)
    wanted = [event for event in graz.acked if event.topic == "a/1" and event.timestamp_ms >= since_ms]
    assert len([event for event in cloud.replicas() if event.topic == "a/1"]) == len(wanted) > 0
    branch = next(iter(cloud.replication.intake.branches.values()))
    number = branch._next_number
    world.run(5)
    assert branch._next_number == number, "and it is not asked again and again"


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_in_the_middle_of_a_back_fill(seed):
    world, graz, cloud = story(seed, loss=0.1, doubles=0.1, delay_s=(0.001, 0.02))
    consume(cloud, "audit", "#", "earliest")
    world.run(0.4)                  # it is stored by then
    for _ in range(6):
        world.run(world.rng.uniform(0.05, 1.0))
        write(world, graz, 3)
        world.rng.choice((cloud.kill, cloud.lights_out))()
        cloud.start()
    world.loss = 0
    settle(world, cloud)
    assert check(world, cloud, graz, ["#"]) == 4 * (3 * 30 + 18)


def test_a_back_fill_that_is_not_wanted_any_more_stops_and_can_go_on_later():
    world, graz, cloud = story(delay_s=(0.3, 0.3))
    consume(cloud, "audit", "#", "earliest")
    world.run_until(lambda: any(
        branch.backfill and branch.backfill.events for branch in cloud.replication.intake.branches.values()))
    cloud.router.delete_consumer("audit")
    world.run(5)
    assert not any(branch.backfill for branch in cloud.replication.intake.branches.values())
    some = len(cloud.replicas())
    assert some < 360
    consume(cloud, "again", "#", "earliest")
    world.run(3)
    settle(world, cloud)
    assert check(world, cloud, graz, ["#"]) == 360


def test_replicate_from_the_beginning_reaches_a_node_that_joins_late():
    world = World(1)
    graz = world.add("graz")
    write(world, graz)
    cloud = world.add("cloud", replicate=(("b/#", "earliest"),))
    world.run(3)
    assert check(world, cloud, graz, ["b/#"]) == 60
    assert {event.flow for event in cloud.replicas()} == {0}, "in one go, in order"


def test_a_filter_that_comes_back_counts_from_then_on():
    world, graz, cloud = story()
    had = len(cloud.replicas())
    cloud.subscribe("b/+")
    world.run(1)
    write(world, graz)
    world.run(1)
    assert len(cloud.replicas()) == had + 60
    check(world, cloud, graz, ["b/+"], complete=False)


def test_events_of_before_the_wipe_of_an_origin_and_of_after_it():
    world = World(3)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("#")
    world.run(1)
    write(world, graz)
    world.run(1)
    assert len(cloud.replicas()) == 120
    graz.wipe()
    world.run(1)
    graz.start()
    write(world, graz)              # before anybody can have asked the new log for anything
    world.run(3)
    assert check(world, cloud, graz, ["#"]) == 240
    assert world.now_s * 1000 + START_MS > 0


def test_a_live_reader_gets_no_history_that_a_consumer_asked_for():
    world, _, cloud = story()
    reader = cloud.subscribe("b/+")
    world.run(1)
    before = len(reader.direct)
    consume(cloud, "audit", "#", "earliest")
    world.run(3)
    settle(world, cloud)
    assert len(cloud.replicas()) > 30 and len(reader.direct) == before
