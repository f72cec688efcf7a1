"""Retained events of other nodes: the snapshot first, then what changes; the newest stands everywhere."""
from __future__ import annotations

from types import SimpleNamespace

import msgspec

from mesh.replication.messages import RetainedAsk, decode, encode
from mesh.replication.settings import ReplicationSettings
from routing.event import Event
from tests.mesh.replication.harness import World


def retained(node, pattern="#"):
    return {event.topic: event.payload for event in node.router.retained.tree.match(pattern)}


def keep(node, topic, payload):
    node.publish_events([Event(topic, payload, 1, retain=True)])


def test_a_new_filter_brings_what_is_retained_there():
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    for number in range(50):
        keep(graz, f"a/{number}", b"%d" % number)
    keep(graz, "b", b"no")
    world.run(0.1)
    reader = cloud.subscribe("a/#")
    world.run(1)
    assert retained(cloud) == {f"a/{number}": b"%d" % number for number in range(50)}
    assert reader.direct == [], "they are no live events"
    assert not cloud.replicas(), "of before the interest: not in the log"


def test_many_pages_over_a_lossy_way():
    limits = ReplicationSettings(retained_page_bytes=2_000)
    world = World(2, loss=0.3, doubles=0.3, delay_s=(0.001, 0.05), limits=limits)
    graz, cloud = world.add("graz"), world.add("cloud")
    for number in range(300):
        keep(graz, f"a/{number}", b"x" * 50)
    cloud.subscribe("#")
    world.run_until(lambda: len(retained(cloud)) == 300)


def test_changes_and_removals_follow_as_events():
    world = World(3)
    graz, cloud = world.add("graz"), world.add("cloud")
    keep(graz, "a", b"1")
    cloud.subscribe("#")
    world.run(1)
    keep(graz, "a", b"2")
    world.run(0.5)
    assert retained(cloud) == {"a": b"2"}
    keep(graz, "a", b"")
    world.run(0.5)
    assert retained(cloud) == {}


def test_what_was_removed_while_nobody_listened_goes_with_the_next_snapshot():
    world = World(4, limits=ReplicationSettings(linger_s=0.2))
    graz, cloud = world.add("graz"), world.add("cloud")
    keep(graz, "a", b"1")
    keep(graz, "b", b"1")
    reader = cloud.subscribe("#")
    world.run(1)
    cloud.unsubscribe(reader)
    world.run(3)
    keep(graz, "a", b"")
    keep(graz, "c", b"1")
    world.run(1)
    assert retained(cloud) == {"a": b"1", "b": b"1"}
    cloud.subscribe("#")
    world.run(1)
    assert retained(cloud) == {"b": b"1", "c": b"1"}


def test_the_newest_stands_at_both_ends_whoever_wrote_it():
    world = World(5)
    graz, cloud = world.add("graz"), world.add("cloud")
    keep(graz, "a", b"old")
    world.run(0.1)
    keep(cloud, "a", b"new")
    graz.subscribe("#")
    cloud.subscribe("#")
    world.run(2)
    assert retained(graz) == retained(cloud) == {"a": b"new"}


def test_the_retained_events_of_a_wiped_node_go():
    world = World(6)
    graz, cloud = world.add("graz"), world.add("cloud")
    keep(graz, "a", b"1")
    cloud.subscribe("#")
    world.run(1)
    graz.wipe()
    graz.start()
    keep(graz, "b", b"2")
    world.run(2)
    assert retained(cloud) == {"b": b"2"}


def test_imports_and_prefix_of_the_link_count():
    world = World(7)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.edges["graz"] = SimpleNamespace(exports=("#",), imports=("a/#",), prefix="graz")
    keep(graz, "a/1", b"1")
    keep(graz, "b/1", b"1")
    cloud.subscribe("graz/#")
    world.run(1)
    assert retained(cloud) == {"graz/a/1": b"1"}


def test_imports_count_whatever_the_other_node_makes_of_the_question():
    world = World(8)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.edges["graz"] = SimpleNamespace(exports=("#",), imports=("a/#",), prefix="graz")

    def lie(source, to, body):
        message = decode(body)
        if isinstance(message, RetainedAsk):
            return [encode(msgspec.structs.replace(message, only=[]))]
        return None

    world.tap = lie
    keep(graz, "b/1", b"1")
    keep(graz, "a/1", b"1")
    cloud.subscribe("graz/#")
    world.run(1)
    assert "graz/b/1" not in retained(cloud)
    assert cloud.replication.intake.retained.refused
