"""A consumer that moves while something of it is still on its way: nothing is lost, and it does catch up."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from mesh.replication.messages import Batch, Export, ExportAsk, Step, decode
from mesh.replication.settings import ReplicationSettings
from routing.settings import StreamSettings
from tests.mesh.replication.consumers import attach, got, trio, write
from tests.mesh.replication.harness import START_MS, FakeOverlay, World

SLOW = ReplicationSettings(linger_s=0.5, window_bytes=1_024, batch_bytes=256)


def behind(prefix=""):
    """graz pulls from cloud already."""
    world = World(3, limits=SLOW)
    graz = world.add("graz", replicate=((f"{prefix}b", "latest"),))
    return world, graz, world.add("lyon"), world.add("cloud")


def deaf(world):
    """What graz says to cloud is lost."""
    world.tap = lambda source, to, body: [] if (source, to) == ("graz", "cloud") else None


def payloads(node, begin=0):
    return [event.payload for event in node.acked[begin:] if event.topic.startswith("a/")]


def branch_of(node, origin):
    return next(branch for branch in node.replication.intake.branches.values() if branch.origin.node == origin)


def leave(node, reader):
    """Returns what it got."""
    seen = got(reader)
    reader.ack_all(reader.consumer)
    reader.consumer.detach(reader)
    node.turn()
    return seen


def catching_up(node):
    return list(node.replication.intake.arrived.by_name)


def test_a_stream_that_cannot_hold_the_filter_keeps_nobody_from_having_caught_up():
    world = World(1, limits=SLOW)
    streams = [StreamSettings("events", ("a/#",)), StreamSettings("metrics", ("m/#",))]
    graz, cloud, lyon = (world.add(name, streams=streams) for name in ("graz", "cloud", "lyon"))
    first = attach(graz)
    graz.subscribe("m/#")
    lyon.subscribe("m/#")
    world.run(2)
    cloud.publish("a/1", "m/1")
    world.run(1)
    leave(graz, first)
    second = attach(lyon)
    world.run(10)
    assert not catching_up(lyon)
    cloud.publish("a/2")
    world.run(1)
    assert [(delivery.event.topic, delivery.attempts) for delivery in second.deliveries] == [("a/2", 1)]


@pytest.mark.parametrize("moment_s", [0.5, 3.0])
def test_a_wish_that_the_origin_has_not_heard_of(moment_s):
    world, graz, lyon, cloud = behind()
    world.run(2)
    write(world, cloud)
    deaf(world)
    first, begin = attach(graz), len(cloud.acked)
    world.run(0.2)
    for _ in range(6):
        write(world, cloud, count=2)
        world.run(moment_s / 6)
    seen = leave(graz, first)
    world.run(0.5)
    second = attach(lyon)
    world.run(5)
    world.tap = None
    world.run(12)
    assert {*seen, *got(second)} == {*payloads(cloud, begin)}
    assert not catching_up(lyon)


def test_unacked_events_from_before_a_late_wish():
    world, graz, lyon, cloud = behind()
    world.run(2)
    write(world, cloud)
    deaf(world)
    first = attach(graz, start="earliest")
    for _ in range(4):
        write(world, cloud, count=3)
        world.run(0.5)
    world.tap = None
    world.run_until(lambda: len(got(first)) >= len(payloads(cloud)))
    first.consumer.detach(first)                # nothing was acked
    graz.turn()
    second = attach(lyon)
    world.run(10)
    assert {*got(second)} == {*payloads(cloud)}


def test_history_that_waits_behind_a_shorter_one_of_the_same_filter():
    world, graz, lyon, cloud = behind()
    world.run(2)
    write(world, cloud)
    middle_ms = START_MS + round(world.now_s * 1000)
    for _ in range(3):
        write(world, cloud)

    def stuck(source, to, body):
        message = decode(body)
        if (source, to) == ("cloud", "graz") and isinstance(message, Batch) and message.body:
            flow = branch_of(graz, "cloud").backfill
            if flow is not None and flow.token == message.token and flow.events > 5:
                return []
        return None

    world.tap = stuck
    attach(graz, "other", start={"time_ms": middle_ms})
    world.run(3)
    assert branch_of(graz, "cloud").backfill is not None
    first = attach(graz, start="earliest")
    world.run(2)
    seen = leave(graz, first)
    world.run(0.5)
    second = attach(lyon)
    world.run(15)
    assert {*seen, *got(second)} == {*payloads(cloud)}


def test_a_later_time_is_met_by_an_earlier_one():
    world = World(1, limits=SLOW)
    graz, cloud, lyon = (world.add(name) for name in ("graz", "cloud", "lyon"))
    world.cut("graz", "cloud")
    world.run(1)
    write(world, cloud)
    middle_ms = START_MS + round(world.now_s * 1000)
    world.run(1)
    lyon.subscribe("b")                         # so that the live flow begins behind that
    world.run(2)
    attach(lyon, "other", start={"time_ms": middle_ms})
    world.run(3)
    write(world, cloud)
    first = attach(graz)
    world.run(1)
    leave(graz, first)
    attach(lyon)
    world.run(10)
    assert lyon.replication.handover.moved_in == 1 and not catching_up(lyon)


def test_clocks_that_are_measured_anew_bring_no_history_anew():
    world, graz, lyon, cloud = behind()
    world.cut("graz", "cloud")
    world.run(1)
    first = attach(graz)
    world.run(0.5)
    write(world, cloud)
    world.run(1)
    lyon.subscribe("b")
    world.run(1)
    leave(graz, first)
    second = attach(lyon)
    for skew_ms in range(40):
        lyon.overlay.nodes["cloud"].skew_ms = skew_ms
        world.run(0.5)
    assert {*got(second)} == {*payloads(cloud)} and not catching_up(lyon)
    assert branch_of(lyon, "cloud")._next_number <= 3


@pytest.mark.parametrize("prefix", ["", "c/"])
def test_an_origin_that_the_old_node_has_lost_sight_of(prefix, monkeypatch):
    """The border of the link that led there counts on."""
    usual = FakeOverlay.edge

    def edge(overlay, name):
        return usual(overlay, name) if name in overlay.nodes else None

    monkeypatch.setattr(FakeOverlay, "edge", edge)
    world, graz, lyon, cloud = behind(prefix)
    for node in (graz, lyon):
        node.edges["cloud"] = SimpleNamespace(exports=("#",), imports=("#",), prefix=prefix)
    world.run(2)
    deaf(world)
    first, begin = attach(graz, pattern=f"{prefix}a/#"), len(cloud.acked)
    world.run(0.1)
    for _ in range(10):
        write(world, cloud, count=3)
        world.run(0.2)
    world.tap = lambda source, to, body: (
        [] if isinstance(message := decode(body), Batch) and message.body and source == "cloud"
        and message.token != branch_of(graz, "cloud").live.token else None)
    world.run(3)
    world.cut("graz", "cloud")
    world.run(0.5)
    seen = leave(graz, first)
    world.tap = None
    second = attach(lyon, pattern=f"{prefix}a/#")
    world.run(12)
    assert {*seen, *got(second)} == {*payloads(cloud, begin)}


def test_an_origin_that_nobody_had_seen_when_it_moved():
    world = World(1, limits=SLOW)
    graz, cloud, lyon = (world.add(name) for name in ("graz", "cloud", "lyon"))
    world.cut("graz", "cloud")
    world.cut("lyon", "cloud")
    world.run(1)
    write(world, cloud)
    first = attach(graz, start="earliest")
    world.run(2)
    leave(graz, first)
    second = attach(lyon)
    world.run(10)
    world.mend("lyon", "cloud")
    world.run(5)
    assert {*got(second)} == {*payloads(cloud)}


def test_a_restart_in_the_middle_of_a_move_while_the_old_node_is_not_in_sight_yet():
    world, graz, _cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    leave(graz, first)
    write(world, graz)
    world.tap = lambda source, to, body: [] if isinstance(found := decode(body), Export) and found.state else None
    attach(lyon)
    world.run(2)
    assert graz.replication.handover.departures.count == 1
    lyon.kill()
    world.tap = None
    world.cut("graz", "lyon")
    lyon.start()
    world.run(20)
    world.mend("graz", "lyon")
    second = attach(lyon)
    world.run(10)
    assert {*got(second)} == {*payloads(graz)}
    assert not graz.replication.handover.departures.gone


def test_a_consumer_goes_before_what_is_left_of_an_earlier_move():
    """DONE was lost."""
    world, graz, cloud, lyon = trio()
    first = attach(graz)
    world.run(2)
    world.tap = lambda source, to, body: (
        [] if isinstance(found := decode(body), ExportAsk) and found.step == Step.DONE and to == "graz" else None)
    leave(graz, first)
    second = attach(lyon)
    world.run(3)
    world.tap = None
    leave(lyon, second)
    third = attach(graz)
    world.run(3)
    assert not graz.replication.handover.departures.gone
    write(world, cloud, count=5)
    world.run(2)
    third.ack_all(third.consumer)
    third.consumer.detach(third)
    graz.turn()
    write(world, cloud, count=3)
    world.run(2)
    fourth = attach(lyon)
    world.run(8)
    assert sorted(got(fourth)) == sorted(payloads(cloud)[5:]) and "desk" not in graz.router.consumers
