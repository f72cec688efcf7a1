"""Share groups when a member unsubscribes, and when nobody is left."""
from __future__ import annotations

import pytest

from tests.protocols.mqtt.harness import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}
SHARE = "$share/g/a/#"


def holder_and_other(broker, qos=1, **options):
    """Two members; the first holds one event in flight. Returns both and its PUBLISH."""
    holder = broker.client("x", **options)
    holder.subscribe((SHARE, qos))
    broker.client("w").publish("a/1", b"1", qos=qos)
    found = holder.one(PUBLISH)
    other = broker.client("y", **options)
    other.subscribe((SHARE, qos))
    return holder, other, found


def returned(broker, client_id):
    """A client that comes back, with what it is sent at once."""
    client = broker.client()
    client.connect(client_id, **PERSISTENT)
    client.stash = client.rest
    return client


def test_qos1_in_flight_at_a_member_that_unsubscribed_survives_a_crash(broker):
    holder, _, _ = holder_and_other(broker, **PERSISTENT)
    holder.unsubscribe(SHARE)
    for _ in range(3):
        broker.tick(1)
    reborn = broker.crash(1)
    holder, other = returned(reborn, "x"), returned(reborn, "y")
    found = other.one(PUBLISH)
    assert (found.payload, found.dup) == (b"1", True)
    assert holder.payloads() == []
    reborn.store.close()


@pytest.mark.parametrize("options", [{}, PERSISTENT])
def test_qos1_in_flight_at_a_member_that_unsubscribed_and_went_is_given_to_another(broker, options):
    holder, other, _ = holder_and_other(broker, **options)
    holder.unsubscribe(SHARE)
    assert other.payloads() == []
    holder.lose()
    found = other.one(PUBLISH)
    assert (found.payload, found.dup) == (b"1", True)


def test_a_member_that_unsubscribed_may_still_answer(broker):
    """[MQTT-3.10.4-3]"""
    holder, other, found = holder_and_other(broker, **PERSISTENT)
    holder.unsubscribe(SHARE)
    holder.ack(PUBACK, found.packet_id)
    (group,) = broker.router.consumers.values()
    assert group.lag().events == 0
    assert len(group.members) == 1
    holder.lose()
    assert other.payloads() == []


def test_a_member_that_unsubscribed_gets_nothing_new(broker):
    """[MQTT-3.10.4-2]"""
    holder, other, found = holder_and_other(broker)
    holder.unsubscribe(SHARE)
    writer = broker.client("w2")
    for number in range(5):
        writer.publish("a/2", b"%d" % number, qos=1)
    assert holder.payloads() == []
    assert other.payloads(ack=True) == [b"0", b"1", b"2", b"3", b"4"]
    holder.ack(PUBACK, found.packet_id)
    assert holder.payloads() == []


def test_a_member_may_subscribe_again_before_it_has_answered(broker):
    holder, _, found = holder_and_other(broker)
    holder.unsubscribe(SHARE)
    holder.subscribe(SHARE)
    holder.ack(PUBACK, found.packet_id)
    (group,) = broker.router.consumers.values()
    assert len(group.members) == 2
    assert holder.handler.outbound.credit == holder.handler.outbound.window
    broker.client("w2").publish("a/2", b"2", qos=1)
    broker.client("w3").publish("a/2", b"3", qos=1)
    assert len(holder.payloads()) == 1


@pytest.mark.parametrize("options", [{}, PERSISTENT])
def test_qos2_in_flight_is_finished_by_the_member_that_unsubscribed(broker, options):
    """[MQTT-4.8.2-5]"""
    holder, other, found = holder_and_other(broker, 2, **options)
    holder.unsubscribe(SHARE)
    assert other.payloads() == []
    holder.ack(PUBREC, found.packet_id)
    assert holder.one(PUBREL).packet_id == found.packet_id
    holder.ack(PUBCOMP, found.packet_id)
    holder.lose()
    assert other.payloads() == []


def test_the_last_member_keeps_what_is_in_flight_when_the_group_ends(broker):
    """Nobody else could get it: it belongs to the session, also after a crash."""
    holder = broker.client("x", **PERSISTENT)
    holder.subscribe(SHARE)
    broker.client("w").publish("a/1", b"1", qos=1)
    sent = holder.one(PUBLISH)
    holder.unsubscribe(SHARE)
    assert not broker.router.consumers
    reborn = broker.crash(1)
    holder = returned(reborn, "x")
    found = holder.one(PUBLISH)
    assert (found.payload, found.qos, found.dup, found.packet_id) == (b"1", 1, True, sent.packet_id)
    holder.ack(PUBACK, found.packet_id)
    holder.lose()
    reborn.tick(2)
    reborn.tick(2)
    again = reborn.crash(1)
    assert returned(again, "x").payloads() == []
    again.store.close()


def test_a_group_that_no_restored_session_has_joined_goes_at_the_start(broker):
    lasting, passing = broker.client("x", **PERSISTENT), broker.client("y")
    lasting.subscribe(SHARE, "$share/h/a/#")
    passing.subscribe(SHARE)
    lasting.unsubscribe(SHARE)
    broker.tick(1)
    assert len(broker.router.consumers) == 2
    reborn = broker.crash()
    assert list(reborn.router.consumers) == ["mqtt-share/h/a/#"]
    again = reborn.crash()
    assert list(again.router.consumers) == ["mqtt-share/h/a/#"]
    again.store.close()


def test_groups_stay_when_a_stored_session_cannot_be_read(broker):
    broker.client("x", **PERSISTENT).subscribe(SHARE)
    broker.router.state.put("mqtt/session/x", b"\xc1")
    broker.run()
    reborn = broker.crash()
    assert list(reborn.router.consumers) == ["mqtt-share/g/a/#"]
    reborn.store.close()
