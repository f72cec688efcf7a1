"""What passes to a node, and from it, is what every link on the way lets pass, not only the first one.

plant ─ hub ─ shop: the hub says what may leave for the plant, and what may come from it. A plant that was broken into
says that it wants everything, and has everything.
"""
from __future__ import annotations

import random

import pytest

from mesh.topology.paths.meeting import common_filter, meeting
from routing.topic import filter_matches
from tests.mesh.topology.net import Net

LEVELS = ["a", "b", "+", "$x"]
TOPICS = [["a"], ["b"], ["$x"], *[[one, other] for one in ("a", "b", "$x") for other in ("a", "b", "$x")],
          *[[one, other, third] for one in ("a", "b", "$x") for other in ("a", "b") for third in ("a", "b")]]


def any_filter(rng: random.Random) -> str:
    levels = [rng.choice(LEVELS) for _ in range(rng.randrange(0, 4))]
    return "/".join([*levels, "#"] if not levels or rng.random() < 0.4 else levels)


@pytest.mark.parametrize("seed", range(20))
def test_what_two_filters_have_in_common_is_what_both_match(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        one, other = any_filter(rng), any_filter(rng)
        common = common_filter(one, other)
        for topic in map("/".join, TOPICS):
            both = filter_matches(one, topic) and filter_matches(other, topic)
            assert (common is not None and filter_matches(common, topic)) is both, (one, other, common, topic)
        ones, others = (tuple(any_filter(rng) for _ in range(3)) for _ in range(2))
        met = meeting(ones, others)
        for topic in map("/".join, TOPICS):
            both = all(any(filter_matches(pattern, topic) for pattern in side) for side in (ones, others))
            assert any(filter_matches(pattern, topic) for pattern in met) is both, (ones, others, met, topic)


def star(*, exports: tuple[str, ...] = ("#",), imports: tuple[str, ...] = ("#",)) -> Net:
    net = Net()
    for name in ("plant", "hub", "shop", "far"):
        net.add(name)
    up = net.nodes["hub"].neighbour_up

    def with_borders(end):
        if end.node == "plant":
            end.exports, end.imports = exports, imports
        return up(end)

    net.nodes["hub"].neighbour_up = with_borders
    net.link("plant", "hub"), net.link("hub", "shop"), net.link("shop", "far")
    net.nodes["plant"].set_interest(("#",))                 # whatever it may have
    net.run(5)
    return net


@pytest.mark.parametrize("at", ["hub", "shop", "far"])
def test_a_site_that_asks_for_everything_gets_what_it_may_from_everybody(at: str) -> None:
    """Once only the hub held to it: what the shop had passed by the hub unseen."""
    net = star(exports=("orders/graz/#", "alarms/+"))
    edge = net.nodes[at].edge("plant")
    assert edge is not None and sorted(edge.exports) == ["alarms/+", "orders/graz/#"]
    assert edge.node == {"hub": "plant", "shop": "hub", "far": "shop"}[at]      # the rest is that of the link here


@pytest.mark.parametrize("at", ["hub", "shop", "far"])
def test_what_may_not_come_from_a_site_comes_from_it_to_nobody(at: str) -> None:
    edge = star(imports=("sensors/graz/#",)).nodes[at].edge("plant")
    assert edge is not None and edge.imports == ("sensors/graz/#",) and edge.exports == ("#",)


def test_other_nodes_and_ways_are_not_narrowed() -> None:
    net = star(exports=("orders/#",))
    for one, other in (("shop", "hub"), ("far", "hub"), ("hub", "far"), ("plant", "far")):
        edge = net.nodes[one].edge(other)
        assert edge is not None and (edge.exports, edge.imports) == (("#",), ("#",))


def test_links_on_the_way_narrow_together_and_change_while_the_mesh_runs() -> None:
    net = star(exports=("a/#", "b/#"))
    wire = net.wires[2]                                     # shop ─ far: the far one lets less pass
    up = net.nodes["far"].neighbour_up

    def narrower(end):
        end.exports = ("a/x/#", "c/#")
        return up(end)

    net.nodes["far"].neighbour_up = narrower
    net.break_wire(wire), net.connect(wire)
    net.run(2)
    assert net.nodes["far"].edge("plant").exports == ("a/x/#",)
    net.break_wire(net.wires[0])
    net.run(1)
    assert net.nodes["far"].edge("plant") is None
    net.connect(net.wires[0])
    net.run(2)
    assert net.nodes["far"].edge("plant").exports == ("a/x/#",)
