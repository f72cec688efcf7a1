"""Two live nodes with one name are noticed and the later one has to go; a node that starts again is none of that."""
from __future__ import annotations

import pytest

from mesh.topology.nodestate import NodeInfo
from tests.mesh.topology.net import FakeNeighbour, Net, Wire


def test_a_neighbour_with_our_name_is_refused() -> None:
    net = Net()
    node = net.add("a")
    net.nodes["a!2"] = net.make("a!2", NodeInfo("a", "other-site", "e2", "boot-2"), lambda: 0)[0]
    assert not net.connect(Wire("a", "a!2", 1, 0.001, "x"))
    assert net.refusals == ["duplicate node name: this node is called a too"]
    assert "more than one node is called a" in node.problems()[0] and "other-site" in node.problems()[0]
    net.run(120)
    assert node.problems() == []


def test_a_node_that_dials_itself_is_told_so() -> None:
    net = Net()
    node = net.add("a")
    refusal = node.neighbour_up(FakeNeighbour(net, "a", "a", Wire("a", "a", 1, 0.001, "x")))
    assert refusal is not None and refusal.text == "this node has dialled itself"


@pytest.mark.parametrize("hops", [1, 3])
def test_of_two_nodes_with_one_name_the_later_one_loses_its_links(hops: int) -> None:
    """twin ─ n0 ─ … ─ nk ─ twin: nobody sees both ends."""
    net = Net()
    names = net.line(hops + 1)
    net.add("twin", site="first")
    net.link("twin", names[0])
    net.run(10)
    first = net.nodes["twin"].me.boot
    net.add("twin!2", site="second")
    wire = net.link("twin!2", names[-1])
    net.run(5)
    assert any(one == names[-1] and other == "twin" for one, other, _ in net.lies)
    assert wire.down
    assert not net.connect(wire)                                # and it may not come again
    assert "duplicate node name" in net.refusals[-1]
    assert any("more than one node is called twin" in text for text in net.nodes[names[0]].problems())
    net.run(10)
    assert all(net.nodes[name].nodes["twin"].boot == first for name in names)
    assert net.nodes["twin"].problems(), "the first one knows, too"


def test_a_duplicate_stays_out_as_long_as_the_first_one_lives_and_comes_in_once_it_is_gone() -> None:
    net = Net()
    net.line(2)
    net.add("twin"), net.link("twin", "n0")
    net.run(10)
    net.add("twin!2")
    wire = net.link("twin!2", "n1")
    for _ in range(20):
        net.run(10)
        assert wire.down and not net.connect(wire)
    net.kill("twin")
    net.run(40)
    assert net.connect(wire)
    net.run(10)
    assert not wire.down and net.nodes["n0"].nodes["twin"].boot == net.nodes["twin!2"].me.boot
    assert not net.nodes["n0"].problems()


def test_the_storm_of_two_nodes_with_one_name_ends() -> None:
    net = Net()
    net.line(2)
    net.add("twin"), net.link("twin", "n0")
    net.run(10)
    net.add("twin!2"), net.link("twin!2", "n1")
    net.run(5)
    before = net.frames
    net.run(30)
    assert net.frames - before < 200


@pytest.mark.parametrize("clock_off_ms", [0, -3_600_000, 3_600_000])
def test_a_node_that_restarts_often_is_no_duplicate(clock_off_ms: int) -> None:
    net = Net()
    net.line(3)
    net.run(5)
    for _ in range(8):
        net.kill("n2")
        net.run(0.5)
        net.add("n2", clock_off_ms=clock_off_ms)
        assert net.connect(net.wires[1])
        net.run(2)
    assert net.agree() and not net.lies and not net.refusals
    assert not [text for name in net.nodes for text in net.nodes[name].problems()]


def test_a_forged_state_of_a_living_node_is_outdone_at_once() -> None:
    """A neighbour claims something in n0's name: n0 hears of it and says it anew, with a higher number."""
    from mesh.link.frames import Gossip
    from mesh.topology.nodestate import NodeRecord, Whole, encode

    net = Net()
    net.line(3)
    net.nodes["n0"].set_interest(("mine",))
    net.run(5)
    boot = net.nodes["n0"].me.boot
    for claimed in (boot, "boot-forged"):
        forged = NodeRecord("n0", claimed, 2**45, "x", "x", "x", 1, 1, 0, interest=("stolen/#",))
        net.wires[1].ends["n2"].send(Gossip([encode(Whole(0, encode(forged)))]), 1)
        net.run(1)
        for other in ("n1", "n2"):
            assert net.nodes[other].nodes["n0"].boot == boot
            assert net.nodes[other].wants("stolen/x") == ()
            assert net.nodes[other].wants("mine") == ("n0",)
