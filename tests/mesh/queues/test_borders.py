"""What a link does not let pass does not pass in the content of a queue either (hostile.md 67): not straight to it, not
by a binding that is made later, not in what is lent.
"""
from __future__ import annotations

import types
from functools import partial

import pytest

from mesh.queues.messages import NUMBER_MAX, Bound, Delete, Join, Lend, Offer, Purge, Unbind
from mesh.replication.bodies import BadBody, BodyEncoder
from routing.event import Event
from routing.queues.bindings import Binding
from routing.queues.options import QueueOptions
from tests.mesh.queues.harness import three
from tests.support.routing import ANA


def narrow(*nodes, filters=("a/#",)):
    for node in nodes:
        for other in nodes:
            if node is not other:
                node.edges[other.name] = types.SimpleNamespace(exports=filters, imports=filters, prefix="")


def shared(filters):
    """graz and lyon have the queue, with a link in between that lets pass what it reads; somebody reads it at lyon."""
    world, graz, lyon, _ = three()
    narrow(graz, lyon, filters=filters)
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    return world, graz, lyon, lyon.read()


def got(world, reader):
    world.run(1)
    return [delivery.event.topic for delivery in reader.deliveries]


def test_what_is_sent_straight_to_a_queue_stays_behind_a_narrow_link():
    world, graz, lyon, _ = three()
    narrow(graz, lyon)
    for node in (graz, lyon):
        node.declare("work")
    world.run(2)
    far = lyon.read()
    graz.publish("$queue/work", payload=b"secret")
    assert got(world, far) == []
    assert not lyon.queues.parts["work"].is_shared and graz.router.queues.get("work").depth().ready == 1


def test_a_link_that_names_it_lets_it_pass():
    world, graz, _, far = shared(("a/#", "$queue/#"))
    graz.publish("$queue/work", payload=b"open")
    assert got(world, far) == ["$queue/work"]


@pytest.mark.parametrize("later", ["binding", "link"])
def test_a_binding_or_a_link_that_changes_later_parts_the_queue(later):
    world, graz, lyon, far = shared(("a/#", "$queue/#") if later == "binding" else ("a/#", "b/#", "$queue/#"))
    assert graz.queues.parts["work"].is_shared
    graz.router.queues.get("work").bind(Binding("b/#"), ANA)
    graz.turn()
    if later == "link":
        world.run(1)
        narrow(graz, lyon, filters=("a/#", "$queue/#"))
        world.run(1)
    graz.publish("b/1", payload=b"secret")
    assert got(world, far) == []
    assert not graz.queues.parts["work"].is_shared and not lyon.queues.parts["work"].is_shared
    near = graz.read()
    assert got(world, near) == ["b/1"]


def test_what_is_lent_under_a_topic_that_may_not_enter_is_refused():
    world, _, lyon, far = shared(("a/#", "$queue/#"))
    for number, topic in enumerate(("b/1", "$queue/other"), 1):
        event = Event(topic, b"forged", 1, "eve")
        with pytest.raises(BadBody):
            lyon.do(partial(lyon.queues._hear, "graz", _lend(number, event)))
    assert got(world, far) == []
    event = Event("a/1", b"well", 1, "eve")
    lyon.do(lambda: lyon.queues._hear("graz", _lend(3, event)))
    assert got(world, far) == ["a/1"]


def _lend(number, event):
    return Lend("work", number, [1], BodyEncoder().numbered([event]))


def test_no_queue_is_made_here_for_who_offers_it_over_a_narrow_link():
    world, graz, lyon, _ = three()
    narrow(graz, lyon)
    graz.publish("$queue/jobs")
    graz.do(lambda: graz.queues._hear("lyon", Offer("jobs", "ana", QueueOptions(dead_letter="$queue/other"))))
    world.run(1)
    assert graz.router.queues.get("jobs") is None


ATTACKS = {
    "purge": lambda queue, bound: Purge("work"), "delete": lambda queue, bound: Delete("work"),
    "unbind": lambda queue, bound: Unbind("work", bound), "purge, asked by its own client": None,
}


@pytest.mark.parametrize("granted", [False, True])
@pytest.mark.parametrize("how", ATTACKS)
def test_a_node_of_the_mesh_takes_nothing_out_of_a_queue_here_unless_its_link_lets_it(how, granted):
    """One that was broken into is a member of every queue whose name it knows. What it may do here is what an operator
    may who asks over that link, and no more."""
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.consoles = {"graz": ("view",), "lyon": ("view", "operate") if granted else ("view",)}
        node.declare("work", "a/#")
    world.run(2)
    graz.publish("a/1")
    world.run(1)
    queue = graz.router.queues.get("work")
    assert queue.depth().ready == 1
    if ATTACKS[how] is None:
        lyon.router.queues.get("work").purge()
    else:
        lyon.queues.say("graz", ATTACKS[how](queue, Bound("a/#")))
    lyon.turn()
    world.run(1)
    graz.publish("a/2")
    world.run(1)
    left = graz.router.queues.get("work")
    ready = left.depth().ready if left is not None else 0
    assert (ready == 2) is not granted, "nothing has gone, and what is published is taken"
    assert bool(graz.queues.counts["not granted"]) is not granted
    if not granted:
        reader = graz.read()
        assert got(world, reader) == ["a/1", "a/2"]


def test_a_queue_that_another_node_has_deleted_goes_on_here_where_that_was_not_granted():
    """Each with what it keeps; what is published at the other node has no part there any more, and comes here."""
    world, graz, lyon, _ = three()
    graz.consoles = {"lyon": ()}
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    graz.publish("a/1")
    lyon.router.queues.delete("work")
    lyon.turn()
    world.run(1)
    lyon.publish("a/2")
    world.run(2)
    assert sorted(got(world, graz.read())) == ["a/1", "a/2"] and not graz.queues.parts["work"].is_shared


def test_the_highest_term_that_there_is_ends_nothing():
    """hostile.md 93: who claims it collects, and when he is gone the others go on and understand each other."""
    world, graz, lyon, cloud = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    for node in (graz, lyon):
        node.do(lambda node=node: node.queues._hear("cloud", Join("work", "ana", False, NUMBER_MAX, True)))
    cloud.kill()
    world.run(15)
    assert not graz.queues.counts["bad messages"] + lyon.queues.counts["bad messages"]
    assert [node.queues.parts["work"].spans.collects for node in (graz, lyon)] == [True, False]
