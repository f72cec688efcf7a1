"""Runs of the simulated mesh with a script instead of a seed's plan: what the random runs have found, in the small."""
from __future__ import annotations

from collections.abc import Sequence

from routing.event import Event
from routing.settings import StreamSettings
from tests.mesh.sim.clients import Book, DurableReader, Listener, Publisher
from tests.mesh.sim.network import SimLink
from tests.mesh.sim.node import SimNode
from tests.mesh.sim.scenario import pairs
from tests.mesh.sim.world import World

EVENTS = StreamSettings("events", ("s/#",))
ORDERS = StreamSettings("orders", ("s/orders/#",))


class Script:
    """A line of nodes that are up and know each other."""

    def __init__(self, *replicates: Sequence[tuple[str, str]], streams: Sequence[StreamSettings] = (EVENTS,)) -> None:
        self.world = World(1)
        self.book = Book()
        self.nodes = [SimNode(self.world, f"n{number}", list(streams), list(replicate))
                      for number, replicate in enumerate(replicates)]
        self.links = [SimLink(self.world, self.nodes[one], self.nodes[other])
                      for one, other in pairs("line", len(self.nodes))]
        for link in self.links:
            link.a.links.append(link)
            link.b.links.append(link)
        self.listeners = [Listener(self.book, node) for node in self.nodes]
        self.publishers = [Publisher(self.book, node) for node in self.nodes]
        for node in self.nodes:
            node.wall_error_ms = 0
            node.start()
        self.world.run_for(3.0)

    def topics(self, number: int) -> list[str]:
        """Topics of the replicas in a node's log."""
        found = []
        for stream in self.nodes[number].router.streams:
            for partition in stream.partitions:
                scan = partition.scan(0, lambda topic: True, max_events=1_000, max_scanned=10_000)
                found += [event.topic for event in scan.events if event.origin is not None]
        return sorted(found)


def test_a_wider_filter_does_not_reach_back_to_the_moment_of_a_narrower_one():
    """S8. The partition of `orders` was never pulled: nothing wanted could be in it until s/# is subscribed."""
    script = Script([], [("s/1/2", "latest")], streams=(EVENTS, ORDERS))
    script.publishers[0].publish(["s/orders/1", "s/1/2"])
    script.world.run_for(3.0)
    script.listeners[1].subscribe("s/#")
    script.world.run_for(3.0)
    assert script.topics(1) == ["s/1/2"]
    script.publishers[0].publish(["s/orders/2"])
    script.world.run_for(3.0)
    assert script.topics(1) == ["s/1/2", "s/orders/2"]


def test_what_a_wiped_origin_publishes_before_it_is_back_is_not_lost_for_an_old_wish_under_a_wider_new_one():
    """S7. The durable s/0/# was wanted of n0's first log; # came while n0 was away; its new log has s/0/1 by then."""
    script = Script([], [])
    DurableReader(script.book, script.nodes[1], "c", "s/0/#", "latest")
    script.world.run_for(3.0)
    script.publishers[0].publish(["s/0/0"])
    script.world.run_for(3.0)
    script.links[0].closed = True
    script.links[0].cut()
    script.nodes[0].kill()
    script.nodes[0].wipe()
    script.nodes[0].start()
    script.publishers[0].publish(["s/0/1", "s/2/2"])
    script.world.run_for(3.0)
    script.listeners[1].subscribe("#")
    script.world.run_for(1.0)
    script.links[0].closed = False
    script.world.run_for(8.0)
    assert script.topics(1) == ["s/0/0", "s/0/1"]
    script.publishers[0].publish(["s/0/3", "s/2/3"])
    script.world.run_for(3.0)
    assert script.topics(1) == ["s/0/0", "s/0/1", "s/0/3", "s/2/3"]


def test_a_filter_that_comes_back_long_after_it_went_does_not_reach_back():
    """A stream that is made meanwhile has events from before the second subscription."""
    script = Script([], [])
    script.listeners[1].subscribe("s/orders/#")
    script.world.run_for(2.0)
    script.listeners[1].unsubscribe("s/orders/#")
    script.world.run_for(40.0)
    script.nodes[0].kill()
    script.nodes[0].streams = [EVENTS, ORDERS]
    script.nodes[0].start()
    script.world.run_for(5.0)
    script.publishers[0].publish(["s/orders/1"])
    script.world.run_for(3.0)
    script.listeners[1].subscribe("s/orders/#")
    script.world.run_for(3.0)
    script.publishers[0].publish(["s/orders/2"])
    script.world.run_for(3.0)
    assert script.topics(1) == ["s/orders/2"]


def test_a_wish_for_a_site_that_is_away_is_known_from_the_moment_it_was_made():
    """Asked for while the origin cannot be reached: what comes after is wanted, what was before is not."""
    script = Script([], [])
    script.links[0].closed = True
    script.links[0].cut()
    script.publishers[0].publish(["s/0/0"])
    script.world.run_for(20.0)
    script.listeners[1].subscribe("s/#")
    script.world.run_for(20.0)
    script.publishers[0].publish(["s/0/1"])
    script.world.run_for(1.0)
    script.links[0].closed = False
    script.world.run_for(8.0)
    assert script.topics(1) == ["s/0/1"]


def test_what_is_retained_between_the_snapshot_and_the_stream_is_not_missed():
    """S13. The snapshot is answered, the Pull with the new filter is lost for a while, and then the value changes."""
    script = Script([], [("s/1/2", "latest")])               # so that the partition is pulled already
    near, far = script.nodes
    retain(near, b"old")
    script.world.run_for(1.0)
    outlets = near.mesh.replication.outlets
    on_pull, outlets.on_pull = outlets.on_pull, lambda node, pull: None
    DurableReader(script.book, far, "c", "s/state/+", "latest")
    script.world.run_for(2.0)
    assert kept(far) == b"old"
    retain(near, b"new")
    script.world.run_for(2.0)
    outlets.on_pull = on_pull
    script.world.run_for(10.0)
    assert kept(far) == b"new"


def retain(node: SimNode, payload: bytes) -> None:
    node.do(lambda: node.router.publish([Event("s/state/0", payload, 1, retain=True)], node.publisher))


def kept(node: SimNode) -> bytes | None:
    event = node.router.retained.tree.get("s/state/0")
    return event.payload if event is not None else None


def test_a_removal_at_one_node_outdoes_an_older_value_at_another_for_who_comes_later():
    """S14. n1 has removed what n0 retained, and n0 does not know; n2 asks both for their snapshots."""
    script = Script([], [("s/#", "earliest")], [])
    retain(script.nodes[0], b"old")
    script.world.run_for(3.0)
    assert kept(script.nodes[1]) == b"old"
    retain(script.nodes[1], b"")
    script.world.run_for(3.0)
    script.nodes[1].kill()                                      # a removal is remembered over a restart
    script.nodes[1].start()
    script.world.run_for(5.0)
    assert (kept(script.nodes[0]), kept(script.nodes[1])) == (b"old", None)
    DurableReader(script.book, script.nodes[2], "c", "s/state/+", "latest")
    script.world.run_for(5.0)
    assert kept(script.nodes[2]) is None


PULLED = [("s/1/2", "latest")]          # so that there is a flow already, into which a new filter has to go


def order(node: SimNode) -> list[tuple[int, int]]:
    """Flow and origin offset of the replicas in a node's log."""
    partition = node.router.streams.partition("events", 0)
    events = partition.scan(0, lambda topic: True, max_events=1_000, max_scanned=10_000).events
    return [(event.flow, event.origin_offset) for event in events if event.origin is not None]


def publish(script: Script, *topics: str, seconds: float = 6.0) -> None:
    """A round of all topics every half second."""
    for _ in range(round(seconds * 2)):
        script.publishers[0].publish(list(topics))
        script.world.run_for(0.5)


def test_a_wish_counts_from_its_moment_while_a_site_two_hops_away_is_cut_off():
    """S12. The clocks of all three differ."""
    script = Script([], [], PULLED)
    for node, error_ms in zip(script.nodes, (7_000, -3_000, 1_000), strict=True):
        node.wall_error_ms = error_ms
    script.world.run_for(20.0)
    script.links[0].closed = True
    script.links[0].cut()
    publish(script, "s/0/0", "s/1/2")
    script.world.run_for(2.0)
    DurableReader(script.book, script.nodes[2], "c", "s/0/+", "latest")
    script.world.run_for(2.0)
    publish(script, "s/0/1", "s/1/2")
    script.nodes[2].kill()
    script.nodes[2].start()
    publish(script, "s/0/1")
    script.links[0].closed = False
    script.world.run_for(10.0)
    assert script.topics(2) == ["s/0/1"] * 24 + ["s/1/2"] * 24
    assert order(script.nodes[2]) == sorted(order(script.nodes[2]))
    assert {flow for flow, _ in order(script.nodes[2])} == {0}


def test_a_wish_whose_question_was_lost_with_a_link_that_looked_well():
    """S12. The wish comes a moment after the link has gone silent; what is in it is lost when it is given up."""
    script = Script([], PULLED)
    script.links[0].block(*script.nodes)
    script.listeners[1].subscribe("s/0/+")
    script.world.run_for(0.5)
    publish(script, "s/0/1", "s/1/2", seconds=10.0)
    script.links[0].block()
    script.world.run_for(8.0)
    assert script.topics(1) == ["s/0/1"] * 20 + ["s/1/2"] * 20
    assert order(script.nodes[1]) == sorted(order(script.nodes[1]))


def test_what_came_through_the_good_direction_without_a_new_filter_is_fetched_afterwards():
    """S12. Only what n1 says is held back, so n0 goes on with the filters that it knows."""
    script = Script([], PULLED)
    script.links[0].block(script.nodes[1])
    script.listeners[1].subscribe("s/0/+")
    script.world.run_for(0.5)
    publish(script, "s/0/1", "s/1/2", seconds=10.0)
    assert script.topics(1)
    script.links[0].block()
    script.world.run_for(8.0)
    assert script.topics(1) == ["s/0/1"] * 20 + ["s/1/2"] * 20
    assert any(flow for flow, _ in order(script.nodes[1]))
