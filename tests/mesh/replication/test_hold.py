"""An origin keeps what a destination has not confirmed, within bounds, and says what it had to give up."""
from __future__ import annotations

import pytest

from mesh.replication.messages import Close, decode
from mesh.replication.settings import ReplicationSettings, Spill
from routing.settings import StreamSettings
from tests.mesh.replication.harness import World, check

STREAMS = [StreamSettings("events", ("#",), retention_bytes=20_000, segment_bytes=10_000)]


def pair(**limits):
    world = World(1, limits=ReplicationSettings(**limits))
    graz, cloud = world.add("graz", streams=STREAMS), world.add("cloud", replicate=(("#", "latest"),))
    world.run(2)
    return world, graz, cloud


def fill(world, node, count=200):
    for _ in range(count):
        node.publish(*["a/b/c"] * 10)
        world.run(0.03)


def test_retention_waits_for_a_destination_that_is_away():
    world, graz, cloud = pair()
    world.cut("graz", "cloud")
    fill(world, graz)
    world.run(3)
    assert graz.router.own_partitions()[0].start_offset == 0
    world.mend("graz", "cloud")
    world.run(10)
    assert check(world, cloud, graz, ["#"]) == 2_000
    assert graz.router.own_partitions()[0].start_offset > 0, "and goes on afterwards"


def test_the_memory_of_a_destination_survives_a_restart_of_the_origin():
    world, graz, cloud = pair()
    world.cut("graz", "cloud")
    fill(world, graz, 20)
    graz.kill()
    graz.start()
    fill(world, graz)
    assert graz.router.own_partitions()[0].start_offset == 0
    world.mend("graz", "cloud")
    world.run(10)
    assert check(world, cloud, graz, ["#"]) == 2_200


def test_beyond_the_bound_the_oldest_goes_and_the_gap_is_counted_at_both_ends():
    world, graz, cloud = pair(hold_bytes=40_000)
    world.cut("graz", "cloud")
    fill(world, graz)
    world.run(3)
    start = graz.router.own_partitions()[0].start_offset
    assert start > 0
    assert graz.replication.outlets.hold.spilled > 0
    world.mend("graz", "cloud")
    world.run(10)
    assert len(cloud.replicas()) == 2_000 - start, "the flow goes on behind the gap"
    branch, = cloud.replication.intake.branches.values()
    assert branch.live.lost == start


def test_with_the_other_policy_publishers_are_refused_until_it_is_back():
    world, graz, cloud = pair(hold_bytes=40_000, spill=Spill.REFUSE)
    world.cut("graz", "cloud")
    fill(world, graz)
    world.run(3)
    assert graz.router.own_partitions()[0].held_up is not None
    assert len(graz.acked) < 2_000
    world.mend("graz", "cloud")
    world.run(10)
    assert check(world, cloud, graz, ["#"]) == len(graz.acked)
    before = len(graz.acked)
    fill(world, graz, 1)
    assert len(graz.acked) == before + 10, "and taken again afterwards"


@pytest.mark.parametrize("spill", Spill)
def test_a_disk_that_runs_full_is_treated_by_the_same_policy(spill):
    world, graz, _ = pair(spill=spill, hold_free_bytes=1_000_000)
    graz.replication.watch_disk(lambda: 100)
    world.cut("graz", "cloud")
    fill(world, graz)
    world.run(3)
    partition = graz.router.own_partitions()[0]
    assert (partition.held_up is not None) == (spill is Spill.REFUSE)
    assert (partition.start_offset > 0) == (spill is Spill.DROP_OLDEST)


def test_a_destination_that_is_not_heard_for_too_long_is_forgotten():
    world, graz, _ = pair(hold_age_ms=5_000)
    world.cut("graz", "cloud")
    fill(world, graz)
    world.run(10)
    assert not graz.replication.outlets.hold.destinations
    assert graz.router.own_partitions()[0].start_offset > 0


def test_a_destination_that_wants_no_more_holds_nothing_back():
    world = World(1, limits=ReplicationSettings(linger_s=0.5))
    graz, cloud = world.add("graz", streams=STREAMS), world.add("cloud")
    reader = cloud.subscribe("#")
    world.run(2)
    assert graz.replication.outlets.hold.floor(graz.router.own_partitions()[0]) is not None
    cloud.unsubscribe(reader)
    world.run(5)
    assert graz.replication.outlets.hold.floor(graz.router.own_partitions()[0]) is None


def test_a_goodbye_that_got_lost_holds_nothing_back_for_ever():
    world = World(1, limits=ReplicationSettings(linger_s=0.5))
    graz, cloud = world.add("graz", streams=STREAMS), world.add("cloud")
    reader = cloud.subscribe("#")
    world.run(2)
    cloud.unsubscribe(reader)
    world.tap = lambda source, to, body: [] if isinstance(decode(body), Close) else None
    world.run(5)
    assert graz.replication.outlets.hold.destinations
    world.run(620)
    assert not graz.replication.outlets.hold.destinations
