"""A share group that has moved and ends elsewhere goes back to a session that is away and shares it. MQTT 5 §4.8.2"""
from __future__ import annotations

import pytest

from tests.model.driver import ModelWorld
from tests.protocols.mqtt.harness import PUBACK, PUBLISH, Client
from tests.support import rawmqtt as m

KEPT = {"clean": False, "values": [(m.SESSION_EXPIRY, 10_000)]}
SHARE = "$share/g/t/#"
GROUP = "mqtt-share/g/t/#"


@pytest.fixture
def three():
    world = ModelWorld(1)
    nodes = [world.add_model_node(name) for name in ("graz", "lyon", "cloud")]
    world.run(0.2)
    return world, *nodes


def client(node, name, **options):
    made = Client(node)
    assert made.connect(name, **options).code == 0
    made.stash = made.rest
    return made


def got(world, reader, seconds=1.0):
    found = []
    for _ in range(round(seconds / 0.05)):
        world.run(0.05)
        for one in reader.take():
            if one.kind == PUBLISH:
                found.append(one.payload)
                reader.ack(PUBACK, one.packet_id)
    return found


def moved(world, graz, lyon, users=(None, None)):
    """A session is away at graz, and its group is at lyon, where somebody reads it."""
    away = client(graz, "away", username=users[0], **KEPT)
    away.subscribe((SHARE, 1))
    world.run(0.2)
    away.lose()
    world.run(0.2)
    reader = client(lyon, "reader", username=users[1], **KEPT)
    reader.subscribe((SHARE, 1))
    world.run(1.0)
    assert (GROUP in graz.router.consumers, GROUP in lyon.router.consumers) == (False, True)
    return reader


def written(world, node, *payloads):
    writer = client(node, f"w-{node.name}")
    for payload in payloads:
        writer.publish("t/1", payload, qos=1)
        world.run(0.1)


def test_a_group_that_ends_elsewhere_goes_back_to_a_session_that_is_away(three):
    world, graz, lyon, cloud = three
    reader = moved(world, graz, lyon)
    written(world, cloud, b"0")
    assert got(world, reader) == [b"0"]
    reader.unsubscribe(SHARE)
    for node in (graz, lyon, cloud):
        written(world, node, node.name.encode())
    world.run(1.0)
    assert GROUP in graz.router.consumers and GROUP not in lyon.router.consumers
    back = client(graz, "away", **KEPT)
    assert sorted(got(world, back)) == [b"cloud", b"graz", b"lyon"]


def test_what_waits_there_comes_back_with_it(three):
    world, graz, lyon, cloud = three
    reader = moved(world, graz, lyon)
    reader.lose()                                       # it is away, too: the group stays
    written(world, cloud, b"1", b"2")
    world.run(1.0)
    assert GROUP in lyon.router.consumers
    reader = client(lyon, "reader", clean=True)         # and now its session ends
    world.run(1.0)
    assert GROUP in graz.router.consumers
    assert got(world, client(graz, "away", **KEPT)) == [b"1", b"2"]


@pytest.mark.parametrize("restart", ["neither", "home", "both"])
def test_a_home_that_cannot_be_reached_is_waited_for(three, restart):
    world, graz, lyon, cloud = three
    reader = moved(world, graz, lyon)
    world.cut("graz", "lyon")
    world.cut("graz", "cloud")
    world.run(0.1)
    reader.unsubscribe(SHARE)
    written(world, cloud, b"while cut off")
    for node in {"neither": (), "home": (graz,), "both": (graz, lyon)}[restart]:
        node.kill()
        world.run(0.1)
        node.start()
    world.run(30.0)
    assert GROUP in lyon.router.consumers
    world.mend("graz", "lyon")
    world.mend("graz", "cloud")
    world.run(15.0)
    assert GROUP in graz.router.consumers and GROUP not in lyon.router.consumers
    assert got(world, client(graz, "away", **KEPT)) == [b"while cut off"]


def test_nobody_waits_for_ever_and_a_home_that_has_no_session_says_so(three):
    world, graz, lyon, cloud = three
    reader = moved(world, graz, lyon)
    client(graz, "away", clean=True)                    # the session ends while its group is elsewhere
    reader.unsubscribe(SHARE)
    world.run(1.0)
    assert all(GROUP not in node.router.consumers for node in (graz, lyon, cloud))
    assert not list(lyon.router.state.items("held/")) and not lyon.router.registry.holders.elsewhere

    reader = moved(world, graz, lyon)
    graz.kill()
    reader.unsubscribe(SHARE)
    world.run(20.0)
    assert GROUP in lyon.router.consumers
    holders = lyon.router.registry.holders
    steady_ms = holders._steady_ms
    holders._steady_ms = lambda: steady_ms() + 8 * 86_400_000
    world.run(20.0)
    assert GROUP not in lyon.router.consumers


def test_who_comes_before_it_has_gone_back_has_it(three):
    world, graz, lyon, cloud = three
    reader = moved(world, graz, lyon)
    world.cut("graz", "lyon")
    reader.unsubscribe(SHARE)
    written(world, cloud, b"1")
    reader.subscribe((SHARE, 1))
    assert got(world, reader) == [b"1"]
    world.mend("graz", "lyon")
    world.run(30.0)
    assert GROUP in lyon.router.consumers
    assert not lyon.router.registry.holders.elsewhere[GROUP].ended_ms


def test_a_member_of_another_user_gets_it_back_too(three):
    """It moves only to the same user; where it was before it may go back to whoever shared it there."""
    world, graz, lyon, cloud = three
    first = client(graz, "first", username="ana", **KEPT)
    first.subscribe((SHARE, 1))
    away = client(graz, "away", username="bob", **KEPT)
    away.subscribe((SHARE, 1))
    world.run(0.2)
    away.lose()
    first.lose()
    reader = client(lyon, "reader", username="ana", **KEPT)
    reader.subscribe((SHARE, 1))
    world.run(1.0)
    assert GROUP in lyon.router.consumers and GROUP not in graz.router.consumers
    client(graz, "first", username="ana", clean=True)
    reader.unsubscribe(SHARE)
    written(world, cloud, b"for bob")
    world.run(1.0)
    assert GROUP in graz.router.consumers
    assert got(world, client(graz, "away", username="bob", **KEPT)) == [b"for bob"]
