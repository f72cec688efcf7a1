"""Two live nodes with one name are noticed and the later one has to go; a node that starts again is none of that."""
from __future__ import annotations

import pytest

from mesh.link.protocol.frames import Gossip, Relay
from mesh.topology.linkstate.nodestate import LinkInfo, NodeInfo
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
def test_of_two_nodes_with_one_name_the_first_stays_and_no_link_is_cut_by_what_is_said(hops: int) -> None:
    """twin ─ n0 ─ … ─ nk ─ twin: nobody sees both ends, so neither has proven that the other is none."""
    net = Net()
    names = net.line(hops + 1)
    net.add("twin", site="first")
    net.link("twin", names[0])
    net.run(10)
    first = net.nodes["twin"].me.boot
    net.add("twin!2", site="second")
    wire = net.link("twin!2", names[-1])
    net.run(30)
    assert not net.lies and not wire.down
    assert net.nodes[names[-1]].nodes["twin"].boot == net.nodes["twin!2"].me.boot, "by its own link"
    assert all(net.nodes[name].nodes["twin"].boot == first for name in names[:-1])
    assert any("more than one node is called twin" in text for node in net.nodes.values() for text in node.problems())
    frames = net.frames
    net.run(30)
    assert net.frames - frames < 300 * (hops + 2), "and they do not outdo each other for ever"


def test_a_second_one_counts_once_the_first_is_gone() -> None:
    net = Net()
    net.line(3)
    net.add("twin"), net.link("twin", "n0")
    net.run(10)
    net.add("twin!2"), net.link("twin!2", "n2")
    net.run(20)
    net.kill("twin")
    net.run(100)
    second = net.nodes["twin!2"].me.boot
    assert all(net.nodes[name].nodes["twin"].boot == second for name in ("n0", "n1", "n2"))
    assert not net.nodes["n0"].problems()


def forged(name: str, number: int, boot: str = "forged", **fields) -> bytes:
    from mesh.topology.linkstate.nodestate import NodeRecord, Whole, encode

    return encode(Whole(0, encode(NodeRecord(name, boot, number, "x", "x", "x", 1, 1, 0, **fields))))


@pytest.mark.parametrize("same_boot", [False, True])
def test_a_neighbour_that_speaks_as_another_one_moves_nothing(same_boot: bool) -> None:
    """plant ─ hub ─ rogue: the hub cut the plant for 30 s, since the rogue's plant had started earlier."""
    net = Net()
    for name in ("plant", "hub", "rogue"):
        net.add(name)
    wire = net.link("plant", "hub")
    net.link("hub", "rogue")
    net.nodes["plant"].set_interest(("mine",))
    net.run(5)
    boot = net.nodes["plant"].me.boot
    for number in range(20):
        said = boot if same_boot else f"forged-{number % 3}"
        net.wires[1].ends["rogue"].send(Gossip([forged(
            "plant", 1_800_000_200_000 + 1_000 * number, said, interest=("stolen/#",),
            links=(LinkInfo("rogue"), LinkInfo("hub")))]), 1)
        net.run(0.2)
        assert not wire.down and not net.lies
        assert net.nodes["hub"].nodes["plant"].boot == boot and net.nodes["hub"].nodes["plant"].next_hop == "plant"
        assert net.nodes["hub"].wants("stolen/x") == () and net.nodes["hub"].wants("mine") == ("plant",)
    assert net.nodes["hub"].counts["hearsay"] >= 20


def test_words_in_the_name_of_a_neighbour_do_not_come_by_another_link() -> None:
    """A ring, so the rogue could pass on what the plant says; it is not the way that the plant takes."""
    net = Net()
    for name in ("plant", "hub", "rogue"):
        net.add(name)
    net.link("plant", "hub"), net.link("hub", "rogue"), net.link("rogue", "plant")
    net.run(5)
    net.wires[1].ends["rogue"].send(Relay("hub", "plant", 9, 2, b"forged"), 2)
    net.nodes["plant"].send("hub", b"real", 2)
    net.run(0.1)
    assert net.messages == [("hub", "plant", b"real")]
    assert net.nodes["hub"].counts["forged"] == 1


def test_what_was_said_in_a_name_before_its_node_came_is_nothing_once_it_has_come() -> None:
    net = Net()
    for name in ("plant", "hub", "rogue"):
        net.add(name)
    net.link("hub", "rogue")
    net.run(5)
    net.wires[0].ends["rogue"].send(Gossip([forged("plant", 1_900_000_000_000, interest=("stolen/#",),
                                                    links=(LinkInfo("rogue"),))]), 1)
    net.run(1)
    assert "plant" in net.nodes["hub"]._states.nodes
    net.nodes["plant"].set_interest(("mine",))
    net.link("plant", "hub")
    net.run(1)
    assert net.nodes["hub"].wants("mine") == ("plant",) and net.nodes["hub"].wants("stolen/x") == ()
    assert net.nodes["rogue"].nodes["plant"].boot == net.nodes["plant"].me.boot, "it got ahead of what was said"


def test_numbers_that_nobody_could_outdo_are_not_believed() -> None:
    net = Net()
    net.line(3)
    net.nodes["n0"].set_interest(("mine",))
    net.run(5)
    net.wires[1].ends["n2"].send(Gossip([forged("n0", 2**50)]), 1)
    net.run(1)
    net.nodes["n0"].set_interest(("mine", "also/mine"))
    net.run(1)
    assert net.nodes["n2"].wants("also/mine") == ("n0",)
    assert net.nodes["n1"].counts["absurd numbers"] == 1 and not net.lies


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
    net = Net()
    net.line(3)
    net.nodes["n0"].set_interest(("mine",))
    net.run(5)
    boot = net.nodes["n0"].me.boot
    for claimed in (boot, "boot-forged"):
        net.wires[1].ends["n2"].send(Gossip([forged("n0", 2**41, claimed, interest=("stolen/#",))]), 1)
        net.run(1)
        for other in ("n1", "n2"):
            assert net.nodes[other].nodes["n0"].boot == boot
            assert net.nodes[other].wants("stolen/x") == ()
            assert net.nodes[other].wants("mine") == ("n0",)
