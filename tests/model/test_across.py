"""What another node retains comes on the path of any retained event.

[MQTT-3.3.1-8] [MQTT-3.3.1-9] [MQTT-3.3.1-11] [MQTT-3.8.4-4] [MQTT-4.4.0-1]
"""
import pytest

from tests.model.driver import ModelWorld
from tests.protocols.mqtt.harness import PUBACK, PUBLISH, RETAIN_IF_NEW, RETAIN_NEVER, Client
from tests.support import rawmqtt as m

ONE = [(m.SESSION_EXPIRY, 1000), (m.RECEIVE_MAXIMUM, 1)]


@pytest.fixture
def two():
    world = ModelWorld(1)
    graz, cloud = world.add_model_node("graz"), world.add_model_node("cloud")
    writer = client(graz, "w")
    for number in range(5):
        writer.publish(f"t/{number}", b"%d" % number, qos=1, retain=True)
    world.run(0.2)
    writer.take()
    return world, writer, cloud


def client(node, name, **options):
    made = Client(node)
    assert made.connect(name, **options).code == 0
    return made


def got(world, reader, seconds=1.0):
    """What comes within a while, answered one by one."""
    found = []
    for _ in range(round(seconds / 0.05)):
        world.run(0.05)
        for one in reader.take():
            if one.kind == PUBLISH:
                found.append((one.payload, one.retain))
                if one.qos == 1:
                    reader.ack(PUBACK, one.packet_id)
                elif one.qos == 2:
                    reader.ack(m.PUBREC, one.packet_id)
            elif one.kind == m.PUBREL:
                reader.ack(m.PUBCOMP, one.packet_id)
    return found


ALL = [(b"%d" % number, True) for number in range(5)]


def test_the_first_subscriber_gets_them_as_retained_within_its_window(two):
    world, _, cloud = two
    reader = client(cloud, "r", values=ONE)
    reader.subscribe(("t/#", 1))
    world.run(0.5)
    first = reader.one(PUBLISH)
    reader.ack(PUBACK, first.packet_id)
    assert sorted([(first.payload, first.retain), *got(world, reader)]) == ALL


@pytest.mark.parametrize("pattern, options", [("t/#", RETAIN_NEVER | 1), ("$share/g/t/#", 1)])
def test_who_wants_none_gets_none(two, pattern, options):
    world, _, cloud = two
    reader = client(cloud, "r")
    reader.subscribe((pattern, options))
    assert got(world, reader) == []


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03])
def test_one_that_is_published_right_after_the_suback_comes_once(two, delay_s):
    world, writer, cloud = two
    reader = client(cloud, "r")
    reader.subscribe(("t/3", 2))
    world.run(delay_s)
    writer.publish("t/3", b"newer", qos=2, retain=True)
    found = [payload for payload, _ in got(world, reader)]
    assert found.count(b"newer") == 1 and found[-1] == b"newer"


def test_after_a_time_without_interest_nothing_stale_comes(two):
    world, writer, cloud = two
    reader = client(cloud, "r")
    reader.subscribe(("t/#", 1))
    assert sorted(got(world, reader)) == ALL
    reader.disconnect()
    world.run(40.0)
    writer.publish("t/0", b"newer", qos=1, retain=True)
    writer.publish("t/1", b"", qos=1, retain=True)
    world.run(1.0)
    late = client(cloud, "late")
    late.subscribe(("t/#", 1))
    assert sorted(got(world, late)) == sorted([(b"newer", True), *ALL[2:]])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("qos", [0, 1])
def test_only_if_new_after_never_gets_none(two, together, qos):
    """Retain Handling 1 in the place of 2, in one SUBSCRIBE or in two: what comes of another node is no reason."""
    world, _, cloud = two
    reader = client(cloud, "r")
    pairs = [("t/#", RETAIN_NEVER | 1), ("t/#", RETAIN_IF_NEW | qos)]
    for packet in [pairs] if together else [[pair] for pair in pairs]:
        reader.subscribe(*packet)
    assert got(world, reader) == []


@pytest.mark.parametrize("together", [True, False])
def test_only_if_new_keeps_the_answer_that_was_begun(two, together):
    world, _, cloud = two
    reader = client(cloud, "r")
    pairs = [("t/#", 1), ("t/#", RETAIN_IF_NEW | 1)]
    for packet in [pairs] if together else [[pair] for pair in pairs]:
        reader.subscribe(*packet)
    assert sorted(got(world, reader)) == ALL


def test_a_session_that_leaves_right_after_its_suback_gets_them_later(two):
    world, _, cloud = two
    reader = client(cloud, "r", clean=False, values=ONE)
    reader.subscribe(("t/#", 1))
    reader.lose()
    world.run(1.0)
    again = client(cloud, "r", clean=False, values=ONE)
    again.stash = again.rest
    assert sorted(got(world, again)) == ALL


def test_who_subscribed_before_the_link_came_up_gets_them_as_retained(two):
    world, _, cloud = two
    world.cut("graz", "cloud")
    world.run(0.1)
    reader = client(cloud, "r")
    reader.subscribe(("t/#", 1))
    assert got(world, reader) == []
    world.mend("graz", "cloud")
    assert sorted(got(world, reader)) == ALL
