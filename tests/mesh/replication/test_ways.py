"""What may pass by a way: while none is known nobody can say, another one lets pass other things, or nothing."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from mesh.replication.borders import NOTHING, bounds_of, exports_of
from routing.topic import check_filter
from tests.mesh.replication.harness import World, check


def way(*, exports=("#",), imports=("#",)):
    return SimpleNamespace(exports=exports, imports=imports, prefix="")


def pair():
    world = World(1)
    return world, world.add("graz"), world.add("cloud")


@pytest.mark.parametrize("away_s", [0.1, 20.0], ids=["with a new filter", "of a flow that was let go"])
def test_a_question_that_comes_when_no_way_back_is_known_is_not_answered_with_nothing(away_s):
    """Seed 791 of the simulation: links change, and the origin hears of it after the question. It looked at its log by
    the filters of no link and said of what it found there that nothing of it was wanted."""
    world, graz, cloud = pair()
    cloud.subscribe("a/#")
    world.run(1)
    graz.publish("a/1")
    world.run(1)
    world.cut("graz", "cloud")
    graz.publish(*["a/2"] * 20)
    graz.edges["cloud"] = None
    world.run(away_s)
    if away_s < 1:
        cloud.subscribe("#")
    world.mend("graz", "cloud")
    world.run(0.3)
    graz.publish("a/3")
    world.run(0.1)
    del graz.edges["cloud"]
    world.run(5)
    assert check(world, cloud, graz, ["a/#"]) == 22


def test_what_was_taken_for_one_way_does_not_leave_by_another():
    """The link is full; meanwhile a way comes up that lets less pass. Nor is it passed over when that one goes."""
    world, graz, cloud = pair()
    cloud.subscribe("#")
    world.run(1)
    send, graz.replication.outlets._sending.send = graz.replication.outlets._sending.send, lambda *message: False
    graz.publish("a/1", "b/1")
    world.run(0.05)
    graz.edges["cloud"] = way(exports=("a/#",))
    graz.replication.outlets._sending.send = send
    world.run(3)
    assert [event.topic for event in cloud.replicas()] == ["a/1"]


@pytest.mark.parametrize("side", ["export", "import"])
def test_a_link_without_filters_lets_nothing_pass(side):
    """So it is written, or it is what two links on the way have in common. Once everything passed."""
    world, graz, cloud = pair()
    if side == "export":
        graz.edges["cloud"] = way(exports=())
    else:
        cloud.edges["graz"] = way(imports=())
    reader = cloud.subscribe("#")
    world.run(1)
    graz.publish("a/1", "b/1")
    graz.publish("a/2", retain=True)
    world.run(3)
    assert not cloud.replicas() and not reader.direct
    assert cloud.router.retained.tree.get("a/2") is None
    assert not graz.replication.outlets.refusals, "it is asked in a way that is understood"


def test_borders_as_bounds():
    assert bounds_of(("a/#", "#")) == () and bounds_of(("a/#",)) == ("a/#",)
    assert bounds_of(()) == NOTHING == exports_of(None)
    check_filter(*NOTHING)                              # it stands in messages
