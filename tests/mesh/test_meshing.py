"""Nodes with real routers on a simulated network: direct messages, requests over hops, interest."""
from __future__ import annotations

import random

import msgspec
import pytest

from mesh.direct import BadDirect, decode_direct, encode_direct, events_of, is_direct
from mesh.meshing import Meshing
from mesh.replication.settings import ReplicateSettings, ReplicationConfig
from mesh.topology.linkstate.nodestate import NodeRecord, StreamInfo, decode_record, encode
from routing.direct.replies import Replies, has_receiver
from routing.direct.subscription import Subscription
from routing.event import Event, Properties
from routing.queues.options import QueueOptions
from routing.rights.policy import ALLOW_ALL, NEIGHBOURS, Action, Identity, Rule
from routing.settings import StreamSettings
from tests.mesh.topology.net import Net
from tests.support.routing import Desk, Reader

ORDERS = [StreamSettings("orders", ("orders/#",))]          # everything else takes the direct lane


class MeshNet(Net):
    """name → Desk and Meshing; the loops run after every step of the network."""

    def __init__(self, path, seed=1, streams=ORDERS, replicate=(), rules=(ALLOW_ALL,)):
        super().__init__(seed)
        self.path, self.streams, self.replicate, self.rules = path, streams, replicate, rules
        self.desks, self.meshings = {}, {}

    def make(self, name, info, clock_ms):
        desk = self.desks[name] = Desk(self.path / name, self.streams, self.rules)
        desk.router.clock_s = lambda: self.now_s
        desk.now_ms = clock_ms()
        meshing = self.meshings[name] = Meshing(
            info, desk.router, self.settings, ReplicationConfig(self.replicate), clock_s=lambda: self.now_s,
            clock_ms=clock_ms, rng=random.Random(self.rng.random()), call_later=self.after)
        meshing.start()
        self.turns.append(desk.run)
        return meshing.overlay, meshing.tick

    def subscribe(self, name, pattern, client="c"):
        reader = Reader(identity=Identity(user=client, protocol="test", client_id=client))
        subscription = Subscription(pattern, reader)
        assert self.desks[name].router.subscribe(subscription) is None
        return reader, subscription

    def publish(self, name, *events):
        self.desks[name].publish(*events)


@pytest.fixture
def net(tmp_path):
    """Four nodes in a line."""
    net = MeshNet(tmp_path)
    net.line(4)
    net.run(1)
    return net


def test_an_uncaptured_event_reaches_live_subscribers_over_three_hops(net):
    reader, subscription = net.subscribe("n3", "live/#")
    net.run(0.1)
    net.publish("n0", "live/1", "other/1")
    net.run(0.1)
    assert [event.topic for event in reader.direct] == ["live/1"]
    assert reader.direct[0].timestamp_ms > 0
    net.desks["n3"].router.unsubscribe(subscription)
    net.run(net.settings.interest_linger_s + 2)
    net.publish("n0", "live/2")
    assert net.meshings["n0"].direct.counts == {"sent": 1}


def test_every_field_of_an_event_survives_a_direct_message(net):
    reader, _ = net.subscribe("n1", "a")
    net.run(0.1)
    event = Event("a", b"\xff", 2, "p-1", b"key", (("n", 1), ("t", "x"), ("b", b"y"), ("f", 1.5), ("z", None)),
                  Properties(2_000_000_000_000, "text/plain", "re/ply", b"corr", 7, 9, True))
    net.publish("n0", event)
    net.run(0.1)
    got = reader.direct[0]
    assert msgspec.structs.replace(got, timestamp_ms=0) == msgspec.structs.replace(event, timestamp_ms=0)


def test_a_request_and_its_answer_take_one_round_trip_over_three_hops(net):
    """A client subscribes to its reply topic and publishes the request in the same turn, the first time ever."""
    server, _ = net.subscribe("n3", "svc/time")
    net.run(0.5)
    for index in range(20):
        topic = f"client/{index}/replies"
        client, _ = net.subscribe("n0", topic)
        net.publish("n0", Event("svc/time", b"?", 1, properties=Properties(reply_to=topic)))
        net.run_until(lambda: server.direct, 0.1)
        request = server.direct.pop()
        net.publish("n3", Event(request.properties.reply_to, b"12:00", 1))
        took_s = net.run_until(lambda client=client: client.direct, 0.1)
        assert took_s <= 0.004


def test_an_answer_to_a_reply_topic_goes_to_its_node_without_interest(net):
    answers = []
    replies = Replies(net.desks["n0"].router, "n0")
    net.run(0.1)
    assert net.meshings["n0"].interest == ()
    topic = replies.expect("ben", answers.append)
    net.publish("n3", Event(topic, b"yes", 1))
    net.run(0.1)
    assert [event.payload for event in answers] == [b"yes"]
    assert has_receiver(net.desks["n3"].router, "$reply/n0/x")
    assert not has_receiver(net.desks["n3"].router, "$reply/nobody/x")


def test_rules_are_asked_of_who_publishes_and_of_who_reads_and_never_of_the_node_between(tmp_path):
    """With users every event that came from another node was denied: it was published as a look-alike of the node."""
    rules = (Rule(allow=(Action.PUBLISH, Action.SUBSCRIBE), to=("user:ana",), topics=("live/#",)),
             Rule(allow=(Action.SUBSCRIBE,), to=("user:ben",), topics=("live/open/#",)))
    net = MeshNet(tmp_path, rules=rules)
    net.line(3)
    net.run(0.5)
    ana, _ = net.subscribe("n2", "live/#", client="ana")
    ben, _ = net.subscribe("n2", "live/open/#", client="ben")
    replies = Replies(net.desks["n0"].router, "n0")
    answers = []
    topic = replies.expect("ana", answers.append)
    net.run(0.1)
    refused = net.desks["n0"].publish("live/open/1", "live/closed/1", "other/1").refusals
    net.publish("n2", Event(topic, b"yes", 1))                      # who was asked may answer, whatever his rights
    net.run(0.1)
    assert list(refused) == [2]
    assert [event.topic for event in ana.direct] == ["live/open/1", "live/closed/1"]
    assert [event.topic for event in ben.direct] == ["live/open/1"]
    assert [event.payload for event in answers] == [b"yes"]
    assert not net.desks["n2"].router.policy.denied


def test_a_client_that_calls_itself_as_the_node_has_none_of_its_rights(tmp_path):
    net = MeshNet(tmp_path, rules=())
    net.line(1)
    router = net.desks["n0"].router
    twin = msgspec.structs.replace(NEIGHBOURS)
    assert twin == NEIGHBOURS and router.policy.decide(NEIGHBOURS, Action.PUBLISH, "live/1").allowed
    assert not router.policy.decide(twin, Action.PUBLISH, "live/1").allowed


def test_a_node_that_vanishes_is_no_receiver_any_more_and_one_that_comes_is(net):
    net.subscribe("n3", "live/#")
    net.run(0.1)
    router = net.desks["n0"].router
    assert has_receiver(router, "live/1")
    net.break_wire(net.wires[1])
    net.run(0.1)
    assert not has_receiver(router, "live/1")
    net.publish("n0", "live/1")
    assert net.meshings["n0"].direct.counts["sent"] == 0
    net.connect(net.wires[1])
    net.run(0.1)
    net.publish("n0", "live/1")
    assert net.meshings["n0"].direct.counts["sent"] == 1


def test_export_and_import_filters_and_the_prefix_of_a_link_count_for_direct_messages(tmp_path):
    net = MeshNet(tmp_path)
    net.add("edge"), net.add("cloud")
    wire = net.link("edge", "cloud")
    net.break_wire(wire)
    make = wire.ends
    real = net.nodes["cloud"].neighbour_up

    def up(end):
        end.prefix, end.imports = "sites/graz", ("live/#", "deep/#")
        return real(end)

    net.nodes["cloud"].neighbour_up = up
    real_edge = net.nodes["edge"].neighbour_up

    def edge_up(end):
        end.exports = ("live/#", "other/#")
        return real_edge(end)

    net.nodes["edge"].neighbour_up = edge_up
    net.connect(wire)
    assert make == {}
    net.run(0.5)
    reader, _ = net.subscribe("cloud", "sites/+/live/#")
    everything, _ = net.subscribe("cloud", "#")
    net.run(0.1)
    assert "live/#" in net.nodes["edge"].nodes["cloud"].interest or "#" in net.nodes["edge"].nodes["cloud"].interest
    net.publish("edge", "live/1", "deep/1", "other/1")          # deep is not exported, other is not imported
    net.run(0.1)
    assert [event.topic for event in reader.direct] == ["sites/graz/live/1"]
    assert [event.topic for event in everything.direct] == ["sites/graz/live/1"]
    assert net.meshings["cloud"].direct.counts["not imported"] == 1


def test_interest_is_the_union_of_subscriptions_and_replicate_aggregated_by_covering(tmp_path):
    net = MeshNet(tmp_path, replicate=(ReplicateSettings("orders/#"),))
    net.line(2)
    net.run(0.5)
    _, one = net.subscribe("n0", "plant/1/temp")
    net.subscribe("n0", "plant/2/temp")
    net.subscribe("n0", "plant/2/temp", client="d")
    net.subscribe("n0", "orders/eu")
    net.run(0.1)
    seen = net.nodes["n1"].nodes["n0"]
    assert set(seen.interest) == {"orders/#", "plant/1/temp", "plant/2/temp"}
    _, wide = net.subscribe("n0", "plant/#")
    net.run(0.1)
    assert set(seen.interest) == {"orders/#", "plant/#"}
    net.desks["n0"].router.unsubscribe(wide)
    net.desks["n0"].router.unsubscribe(one)
    net.run(10)
    assert set(seen.interest) == {"orders/#", "plant/#"}         # lingers
    net.run(25)
    assert set(seen.interest) == {"orders/#", "plant/2/temp"}


@pytest.mark.parametrize("body", [
    b"", b"\x93\x20", b"\x93\x20\xa1a\x91", encode_direct([Event("a/+", b"")]),
    msgspec.msgpack.encode([32, "a", [[b"", 0, 3]]]),
    msgspec.msgpack.encode([32, "a", [[b"", 0, 0, "", None, [None, None, "a/#"]]]]),
    msgspec.msgpack.encode([32, "a", [[b"", 0, 0, "", None, [None, None, None, [1]]]]]),
    msgspec.msgpack.encode([32, "a", [[b"", 0, 0, "", None, None, [["h", {"x": 1}]]]]]),
    msgspec.msgpack.encode([32, "", []]), msgspec.msgpack.encode([32, "a", [[b""]] * 10_001]),
])
def test_what_is_no_direct_message_is_dropped_and_counted(net, body):
    with pytest.raises(BadDirect):
        events_of(decode_direct(body))
    net.nodes["n1"].send("n0", body, 2)
    net.run(0.1)
    assert net.meshings["n0"].direct.counts["bad messages"] == (1 if is_direct(body) else 0)


@pytest.mark.parametrize("topic", ["$SYS/broker/x", "$reply/n2/abc"])
def test_what_another_node_may_not_say_is_dropped(net, topic):
    net.nodes["n1"].send("n0", encode_direct([Event(topic, b"x")]), 2)
    net.run(0.1)
    assert net.meshings["n0"].direct.counts == {"bad messages": 1}


def test_an_event_that_is_too_large_or_has_expired_is_not_delivered(net):
    reader, _ = net.subscribe("n0", "a")
    net.run(0.1)
    large = Event("a", bytes(net.desks["n0"].limits.payload_bytes_max + 1))
    late = Event("a", b"late", properties=Properties(expires_at_ms=1_000))
    net.nodes["n1"].send("n0", encode_direct([late, Event("a", b"fine")]), 2)
    net.nodes["n1"].send("n0", encode_direct([large]), 2)
    net.run(0.1)
    assert [event.payload for event in reader.direct] == [b"fine"]


def test_many_events_are_split_into_messages_of_bounded_size(net):
    reader, _ = net.subscribe("n1", "a")
    net.run(0.1)
    net.publish("n0", *[Event("a", bytes(100_000), 1) for _ in range(10)])
    net.run(0.1)
    assert len(reader.direct) == 10
    assert net.nodes["n1"].counts["delivered"] >= 5


def test_interest_that_changes_counts_at_once_for_topics_that_were_published_before(net):
    """Few such topics are looked at again, with many the router is told to ask anew."""
    for count in (5, 500):
        topics = [f"many/{count}/{index}" for index in range(count)]
        net.publish("n0", *topics)
        reader, subscription = net.subscribe("n3", f"many/{count}/+", client=f"c{count}")
        net.run(0.1)
        net.publish("n0", *topics)
        net.run(0.1)
        assert [event.topic for event in reader.direct] == topics
        net.desks["n3"].router.unsubscribe(subscription)


def test_a_node_with_a_queue_is_heard_like_any_other(tmp_path):
    """Its built-in stream has a name that no client may give to one; what stands there stays with the node."""
    net = MeshNet(tmp_path)
    net.line(3)
    net.run(0.5)
    net.desks["n0"].router.queues.declare("work", QueueOptions(), Identity(user="ana", protocol="test", client_id="a"))
    net.subscribe("n0", "plant/#")
    net.run(2)
    seen = net.nodes["n2"].nodes["n0"]
    assert "plant/#" in seen.interest and [stream.name for stream in seen.streams] == ["orders"]
    assert not any(overlay.counts["bad gossip"] for overlay in net.nodes.values())
    told = NodeRecord("n0", "b", 1, "s", "e", "v", 1, 1, 0, (StreamInfo("$queues", 1, ("$queue/#",)),))
    assert decode_record(encode(told)).streams[0].name == "$queues", "as nodes of before say it"
