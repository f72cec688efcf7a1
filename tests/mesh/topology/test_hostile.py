"""A neighbour that floods, bombs or sends nonsense: bounded, counted, cut off; the others do not notice."""
from __future__ import annotations

import itertools
import random
import time

import pytest

from mesh.link.protocol.frames import Gossip
from mesh.topology.linkstate.nodestate import (
    Alive,
    Digest,
    DigestLine,
    LinkInfo,
    NodeChange,
    NodeRecord,
    Wanted,
    Whole,
    encode,
)
from mesh.topology.linkstate.nodestate import Change as ChangeEntry
from mesh.topology.settings import MeshSettings
from tests.mesh.topology.net import Net

pytestmark = pytest.mark.measured


def record(name, sequence=1, boot="b", **fields) -> bytes:
    return encode(Whole(0, encode(NodeRecord(name, boot, sequence, "s", "e", "1", 1, 1, 0, **fields))))


@pytest.fixture
def net() -> Net:
    """good ─ victim ─ liar"""
    net = Net()
    for name in ("good", "victim", "liar"):
        net.add(name)
    net.link("good", "victim"), net.link("victim", "liar")
    net.run(10)
    return net


def send(net: Net, *states: bytes) -> None:
    end = net.wires[1].ends.get("liar")
    if end is not None:
        end.send(Gossip(list(states)), 1)
        net.run(0.002)


def cut_off(net: Net) -> bool:
    return ("victim", "liar") in [(one, other) for one, other, _ in net.lies]


def test_nonsense_is_skipped_counted_and_after_some_of_it_the_link_ends(net: Net) -> None:
    rng = random.Random(1)
    before = net.nodes["victim"].snapshot()["state_bytes"]
    for _ in range(5):
        send(net, rng.randbytes(50))
    assert not cut_off(net)
    for _ in range(30):
        send(net, rng.randbytes(50), b"", record("x", interest=("a/#/b",)))
    assert cut_off(net)
    assert net.nodes["victim"].counts["bad gossip"] > 16
    assert net.nodes["victim"].snapshot()["state_bytes"] < 2 * before
    net.run(2)
    assert "good" in net.nodes["victim"].nodes and "x" not in net.nodes["good"]._states.nodes


def test_endless_gossip_ends_the_link_and_costs_little(net: Net) -> None:
    numbers = itertools.count(1_000)
    start_s, sent = time.process_time(), 0
    while not cut_off(net) and sent < 400_000_000:
        states = [record("x", next(numbers), interest=("y" * 1_000,) * 20) for _ in range(100)]
        send(net, *states)
        sent += sum(map(len, states))
    assert cut_off(net)
    assert sent < 60 * net.settings.gossip_rate_bytes
    assert time.process_time() - start_s < 30
    assert "good" in net.nodes["victim"].nodes


def test_invented_nodes_are_as_many_as_there_is_room_for(net: Net) -> None:
    for start in range(0, 3_000, 100):
        send(net, *(record(f"x{number}", 5) for number in range(start, start + 100)))
    assert len(net.nodes["victim"]._states.nodes) <= net.settings.nodes_max
    net.add("late"), net.link("late", "good")
    net.run(10)
    assert net.nodes["victim"].nodes["late"].hops == 2          # what can be reached takes the place of what cannot


def test_invented_links_make_nothing_reachable_that_does_not_say_so_itself(net: Net) -> None:
    send(net, record("ghost", links=(LinkInfo("good"), LinkInfo("victim"))))
    net.run(1)
    assert "ghost" not in net.nodes["victim"].nodes             # neither good nor victim knows of such a link


def test_changes_without_end_from_one_node_are_not_passed_on(net: Net) -> None:
    """4,000 changes in a second, small enough for the rate: what goes on to others is bounded per node."""
    send(net, record("x", 1, links=(LinkInfo("liar"),)))
    frames = net.frames
    for number in range(1, 4_000):
        change = NodeChange("x", "b", number, number + 1, added=(f"t/{number % 7}",))
        send(net, encode(ChangeEntry(0, encode(change))))
    assert net.frames - frames - 4_000 < 3_000
    assert net.nodes["victim"].counts["gossip excess"] > 0


def test_a_filter_bomb_does_not_slow_matching_down() -> None:
    net = Net(settings=MeshSettings(state_bytes_max=64 * 1024))
    for name in ("victim", "liar"):
        net.add(name)
    net.link("victim", "liar")
    net.run(5)
    rng = random.Random(1)
    bomb = tuple("/".join(rng.choice("+x") for _ in range(60)) for _ in range(250))
    net.nodes["liar"].set_interest(bomb)
    net.run(1)
    assert net.nodes["victim"].nodes["liar"].interest
    start_s = time.process_time()
    for number in range(20):
        net.nodes["victim"].wants("/".join(["x"] * 59 + [str(number)]))
    assert (time.process_time() - start_s) / 20 < 0.05


def test_digests_and_requests_without_end_are_answered_within_the_rate(net: Net) -> None:
    lines = tuple(DigestLine(f"x{number}", "b", 1, 1) for number in range(512))
    for _ in range(500):
        send(net, encode(Digest(lines)), encode(Wanted(("good", "victim") * 50)))
    peer = next(peer for peer in net.nodes["victim"]._peers.values() if peer.neighbour.node == "liar")
    assert len(peer.has) < 2_000
    assert net.bytes < 30_000_000


def test_signs_of_life_of_a_node_that_nobody_knows_are_asked_about_now_and_then(net: Net) -> None:
    frames = net.frames
    for number in range(1_000):
        send(net, encode(Alive(0, "unknown", "b", 1, number + 1)))
    assert net.frames - frames < 1_000 + 20
