"""SUBSCRIBE, UNSUBSCRIBE and what they bring: options, overlaps, retained events, shares, $SYS."""
from __future__ import annotations

import itertools

import pytest

from routing.rights.policy import ALLOW_ALL, Action, Rule
from tests.protocols.mqtt.harness import (
    NO_LOCAL,
    PUBACK,
    PUBLISH,
    RETAIN_AS_PUBLISHED,
    RETAIN_IF_NEW,
    RETAIN_NEVER,
    SUBACK,
    subscribe_packet,
)
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def test_codes_come_in_the_order_of_the_filters(broker):
    """[MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1]"""
    deep = "/".join("a" * 129)
    assert broker.client("c").subscribe(("a", 2), (deep, 1), ("b", 0), ("c", 1)).codes == [2, 0x8F, 0, 1]


def test_overlapping_subscriptions_deliver_once_at_the_highest_qos_with_all_ids(broker):
    """[MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]"""
    reader = broker.client("r")
    reader.subscribe(("a/#", 0), values=[(m.SUBSCRIPTION_ID, 7)])
    reader.subscribe(("a/+", 2), values=[(m.SUBSCRIPTION_ID, 300_000)])
    reader.subscribe(("a/b", 1))
    writer = broker.client("w")
    writer.publish("a/b", b"1", qos=2)
    found = reader.one(PUBLISH)
    assert found.qos == 2
    assert sorted(found.all(m.SUBSCRIPTION_ID)) == [7, 300_000]
    writer.publish("a/b/c", b"2", qos=2)
    writer.take()
    found = reader.one(PUBLISH)
    assert (found.qos, found.all(m.SUBSCRIPTION_ID)) == (0, [7])


def test_overlapping_direct_subscriptions(broker):
    reader = broker.client("r")
    reader.subscribe(("a/#", 0), values=[(m.SUBSCRIPTION_ID, 1)])
    reader.subscribe(("a/+", 0), values=[(m.SUBSCRIPTION_ID, 2)])
    broker.client("w").publish("a/b", b"1")
    assert sorted(reader.one(PUBLISH).all(m.SUBSCRIPTION_ID)) == [1, 2]


def test_many_filters_find_the_same_as_few(broker):
    reader = broker.client("r")
    reader.subscribe(*[(f"t/{number}/#", 1 + number % 2) for number in range(50)], values=[(m.SUBSCRIPTION_ID, 9)])
    reader.subscribe(("t/+/x", 0), values=[(m.SUBSCRIPTION_ID, 8)])
    broker.client("w").publish("t/7/x", b"1", qos=2)
    found = reader.one(PUBLISH)
    assert (found.qos, sorted(found.all(m.SUBSCRIPTION_ID))) == (2, [8, 9])


@pytest.mark.parametrize("qos", [0, 1])
def test_no_local(broker, qos):
    """[MQTT-3.8.3-3]"""
    client, other = broker.client("c"), broker.client("o")
    client.subscribe(("a", NO_LOCAL | qos))
    client.publish("a", b"mine", qos=qos)
    other.publish("a", b"theirs", qos=qos)
    assert client.payloads() == [b"theirs"]
    client.subscribe(("#", qos), values=[(m.SUBSCRIPTION_ID, 5)])
    client.publish("a", b"mine", qos=qos)
    found = [one for one in client.take() if one.kind == PUBLISH]
    assert [(one.payload, one.all(m.SUBSCRIPTION_ID)) for one in found] == [(b"mine", [5])]


@pytest.mark.parametrize("qos", [0, 1])
def test_retain_as_published(broker, qos):
    """[MQTT-3.3.1-12] [MQTT-3.3.1-13]"""
    plain, keeps, old = broker.client("p"), broker.client("k"), broker.client("o", 4)
    plain.subscribe(("a", qos))
    keeps.subscribe(("a", RETAIN_AS_PUBLISHED | qos))
    old.subscribe(("a", qos))
    writer = broker.client("w")
    writer.publish("a", b"1", qos=qos, retain=True)
    writer.publish("a", b"2", qos=qos)
    assert [one.retain for one in plain.take()] == [False, False]
    assert [one.retain for one in keeps.take()] == [True, False]
    assert [one.retain for one in old.take()] == [False, False]


def test_the_same_filter_again_replaces_the_subscription(broker):
    """[MQTT-3.8.4-3] [MQTT-3.8.4-4]"""
    reader, writer = broker.client("r"), broker.client("w")
    for qos in (0, 1, 2, 0, 1):
        assert reader.subscribe(("a", qos)).codes == [qos]
        writer.publish("a", b"x", qos=2)
        found = reader.one(PUBLISH)
        assert found.qos == qos
        writer.take()


def test_unsubscribe(broker):
    """[MQTT-3.10.4-6] [MQTT-3.3.2-3] [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-5] [MQTT-3.11.3-1]"""
    reader, writer = broker.client("r"), broker.client("w")
    reader.subscribe(("a/+", 0), ("b/+", 1), ("$share/g/c", 1), ("d", 0))
    assert reader.unsubscribe("a/+", "nothing", "b/+", "$share/g/c", "a/b").codes == [0, 0x11, 0, 0, 0x11]
    for topic in ("a/1", "b/1", "c", "d"):
        writer.publish(topic, topic.encode(), qos=1)
    assert reader.payloads() == [b"d"]
    old = broker.client("o", 4)
    old.subscribe("a")
    assert old.unsubscribe("a", "b").codes == []


def test_what_is_in_flight_is_completed_after_unsubscribe(broker):
    """[MQTT-3.10.4-3]"""
    reader, writer = broker.client("r", **PERSISTENT), broker.client("w")
    reader.subscribe("a")
    writer.publish("a", b"1", qos=1)
    first = reader.one(PUBLISH)
    reader.unsubscribe("a")
    reader.ack(PUBACK, first.packet_id)
    assert broker.server.sessions["r"].consumer.lag().events == 0


# -- retained


def test_retained_events_come_with_the_subscription(broker):
    """[MQTT-3.3.1-5] [MQTT-3.3.1-9]"""
    writer = broker.client("w")
    for topic, qos in (("a/1", 0), ("a/2", 1), ("b", 2)):
        writer.publish(topic, topic.encode(), qos=qos, retain=True)
    reader = broker.client("r")
    reader.subscribe(("a/+", 1), values=[(m.SUBSCRIPTION_ID, 4)])
    found = sorted(reader.take(), key=lambda one: one.topic)
    assert [(one.payload, one.qos, one.retain, one.all(m.SUBSCRIPTION_ID)) for one in found] == [
        (b"a/1", 0, True, [4]), (b"a/2", 1, True, [4])]
    reader.subscribe(("b", 2))
    found = reader.one(PUBLISH)
    assert (found.qos, found.retain) == (2, True)
    old = broker.client("o", 4)
    old.subscribe(("#", 0))
    assert sorted(old.payloads()) == [b"a/1", b"a/2", b"b"]


def test_retained_events_are_replaced_and_removed(broker):
    """[MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8]"""
    writer = broker.client("w")
    writer.publish("a", b"1", qos=1, retain=True)
    writer.publish("a", b"2", qos=1, retain=True)
    writer.publish("a", b"3", qos=1)
    reader = broker.client("r")
    reader.subscribe("a")
    assert reader.payloads(ack=True) == [b"2"]
    writer.publish("a", b"", qos=1, retain=True)
    assert reader.payloads(ack=True) == [b""]
    again = broker.client("s")
    again.subscribe("a")
    assert again.payloads() == []


def test_retain_handling(broker):
    """[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]"""
    broker.client("w").publish("a", b"kept", qos=1, retain=True)
    reader = broker.client("r")
    reader.subscribe(("a", RETAIN_NEVER | 1))
    assert reader.payloads() == []
    reader.subscribe(("a", RETAIN_IF_NEW | 1))
    assert reader.payloads() == []
    reader.subscribe(("a", 1))
    assert reader.payloads(ack=True) == [b"kept"]
    reader.unsubscribe("a")
    reader.subscribe(("a", RETAIN_IF_NEW | 1))
    assert reader.payloads(ack=True) == [b"kept"]


def test_retained_events_survive_a_restart(broker):
    broker.client("w").publish("a/b", b"kept", qos=1, retain=True)
    reborn = broker.crash()
    reader = reborn.client("r")
    reader.subscribe("a/#")
    assert reader.payloads() == [b"kept"]
    reborn.store.close()


def test_retained_and_no_local(broker):
    client = broker.client("c")
    client.publish("a", b"mine", qos=1, retain=True)
    client.take()
    client.subscribe(("a", NO_LOCAL | 1))
    assert client.payloads() == []


def test_a_retained_event_that_has_expired_is_gone(broker):
    broker.client("w").publish("a", b"x", qos=1, retain=True, values=[(m.MESSAGE_EXPIRY, 5)])
    broker.tick(3.0)
    early = broker.client("e")
    early.subscribe("a")
    assert early.one(PUBLISH).get(m.MESSAGE_EXPIRY) == 2
    broker.tick(3.0)
    late = broker.client("l")
    late.subscribe("a")
    assert late.payloads() == []


def test_unacked_retained_delivery_comes_again_on_reconnect(broker):
    broker.client("w").publish("a", b"kept", qos=1, retain=True)
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe("a")
    first = reader.one(PUBLISH)
    reader.lose()
    again = broker.client()
    again.connect("r", **PERSISTENT)
    (found,) = again.rest
    assert (found.payload, found.packet_id, found.dup, found.retain) == (b"kept", first.packet_id, True, True)
    again.ack(PUBACK, found.packet_id)
    again.lose()
    third = broker.client()
    third.connect("r", **PERSISTENT)
    assert third.rest == []


def test_a_thousand_retained_events_fit_a_window_of_ten(broker):
    writer = broker.client("w")
    for number in range(300):
        writer.publish(f"a/{number}", b"%d" % number, qos=1, retain=True)
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 10)])
    reader.subscribe("a/#")
    got = []
    while found := [one for one in reader.take() if one.kind == PUBLISH]:
        assert len(found) <= 10
        got += found
        for one in found:
            reader.ack(PUBACK, one.packet_id)
    assert len({one.payload for one in got}) == 300


# -- shares


def share(broker, count, qos=1, group="g", **options):
    members = [broker.client(f"m{number}", **options) for number in range(count)]
    for member in members:
        assert member.subscribe((f"$share/{group}/a/#", qos)).codes == [qos]
    return members


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_group_gets_each_event_once(broker, qos):
    members = share(broker, 3, qos)
    writer = broker.client("w")
    for number in range(30):
        writer.publish("a/b", b"%d" % number, qos=qos, packet_id=number + 1)
    got = [member.payloads() for member in members]
    assert sorted(itertools.chain(*got), key=int) == [b"%d" % number for number in range(30)]
    assert all(len(one) == 10 for one in got)


def test_groups_and_plain_subscriptions_do_not_touch_each_other(broker):
    (one,), (other,) = share(broker, 1), share(broker, 1, group="h")
    assert one.closed                               # the same client id
    plain = broker.client("p")
    plain.subscribe("a/b")
    both = broker.client("both")
    both.subscribe("$share/g/a/#", "a/b")
    broker.client("w").publish("a/b", b"x", qos=1)
    assert other.payloads() == plain.payloads() == [b"x"]
    assert both.payloads() == [b"x", b"x"]


def test_each_member_has_its_own_qos(broker):
    """[MQTT-4.8.2-3]"""
    low, high = broker.client("l"), broker.client("h")
    low.subscribe(("$share/g/a", 0))
    high.subscribe(("$share/g/a", 2))
    writer = broker.client("w")
    for number in range(4):
        writer.publish("a", b"x", qos=1, packet_id=number + 1)
    assert [one.qos for one in low.take()] == [0, 0]
    assert [one.qos for one in high.take()] == [1, 1]


def test_no_retained_events_for_a_share(broker):
    broker.client("w").publish("a/b", b"x", qos=1, retain=True)
    (member,) = share(broker, 1)
    assert member.payloads() == []


def test_qos1_in_flight_of_a_member_that_goes_is_given_to_another(broker):
    first, second = share(broker, 2)
    writer = broker.client("w")
    for number in range(4):
        writer.publish("a/b", b"%d" % number, qos=1, packet_id=number + 1)
    mine = first.payloads()
    theirs = second.payloads(ack=True)
    first.lose()
    found = second.take()
    assert [one.payload for one in found] == mine
    assert all(one.dup for one in found)
    assert sorted(mine + theirs) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("code", [0x00, 0x80, 0x97])
def test_a_member_that_refuses_an_event_ends_it(broker, code):
    """[MQTT-4.8.2-6]"""
    first, second = share(broker, 2)
    broker.client("w").publish("a/b", b"x", qos=1)
    (found,) = first.take() + second.take()
    for member in (first, second):
        if member.broker.server.sessions and found.packet_id in member.handler.outbound.in_flight:
            member.ack(PUBACK, found.packet_id, code)
    first.lose()
    assert second.payloads() == []


def test_qos2_in_flight_is_finished_by_the_same_member(broker):
    """[MQTT-4.8.2-4]"""
    first, second = share(broker, 2, 2, **PERSISTENT)
    writer = broker.client("w")
    for number in range(2):
        writer.publish("a/b", b"%d" % number, qos=2, packet_id=number + 1)
    mine = first.one(PUBLISH)
    first.lose()
    assert [one.payload for one in second.take()] != [mine.payload]
    again = broker.client()
    again.connect("m0", **PERSISTENT)
    (found,) = again.rest
    assert (found.payload, found.packet_id, found.dup) == (mine.payload, mine.packet_id, True)


def test_qos2_in_flight_of_a_session_that_ends_goes_to_nobody(broker):
    """[MQTT-4.8.2-5]"""
    first, second = share(broker, 2, 2)
    writer = broker.client("w")
    for number in range(2):
        writer.publish("a/b", b"%d" % number, qos=2, packet_id=number + 1)
    assert len(first.take()) == 1
    assert len(second.take()) == 1
    first.lose()
    assert second.take() == []


def test_the_receive_maximum_holds_for_all_subscriptions_together(broker):
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 5)])
    reader.subscribe("$share/g/a/#", "a/#", "$share/h/a/#")
    writer = broker.client("w")
    for number in range(20):
        writer.publish("a/b", b"%d" % number, qos=1, packet_id=number + 1)
    got = []
    while found := [one for one in reader.take() if one.kind == PUBLISH]:
        assert len(found) <= 5
        got += [one.payload for one in found]
        for one in found:
            reader.ack(PUBACK, one.packet_id)
    assert sorted(got, key=int) == sorted([b"%d" % number for number in range(20)] * 3, key=int)


def test_a_group_ends_with_its_last_session(broker):
    first, second = share(broker, 2)
    assert len(broker.router.consumers) == 1
    first.unsubscribe("$share/g/a/#")
    assert len(broker.router.consumers) == 1
    second.lose()
    assert len(broker.router.consumers) == 0


def test_a_persistent_session_keeps_its_group_while_it_is_away(broker):
    (member,) = share(broker, 1, **PERSISTENT)
    member.lose()
    broker.client("w").publish("a/b", b"x", qos=1)
    reborn = broker.crash()
    reborn.client("w").publish("a/b", b"y", qos=1)
    again = reborn.client()
    again.connect("m0", **PERSISTENT)
    assert [one.payload for one in again.rest] == [b"x", b"y"]
    reborn.store.close()


def test_unsubscribing_from_a_share_with_events_in_flight(broker):
    first, second = share(broker, 2)
    broker.client("w").publish("a/b", b"x", qos=1)
    holder, other = (first, second) if first.channel.sent else (second, first)
    found = holder.one(PUBLISH)
    holder.unsubscribe("$share/g/a/#")
    assert other.payloads() == []
    holder.ack(PUBACK, found.packet_id)
    assert not holder.closed


def test_a_share_may_not_be_joined_past_a_deny(make_broker):
    broker = make_broker(rules=(ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("user:eve",), topics=("a/secret",))))
    member = broker.client("m", username="boss")
    member.subscribe("$share/g/a/#")
    eve = broker.client("eve", username="eve")
    assert eve.subscribe("$share/g/a/#").codes == [0x87]
    broker.client("w", username="boss").publish("a/secret", b"x", qos=1)
    assert eve.payloads() == []
    assert member.payloads() == [b"x"]


# -- $SYS


def test_sys_topics(broker):
    broker.tick(0.1)
    reader = broker.client("r")
    assert reader.subscribe(("$SYS/broker/#", 1)).codes == [1]
    found = {one.topic: one.payload for one in reader.take()}
    assert found["$SYS/broker/version"].startswith(b"Meshgate")
    assert found["$SYS/broker/clients/connected"] == b"0"
    reader.subscribe(("#", 1))
    broker.tick(11.0)
    live = {one.topic: one for one in reader.take()}
    assert live["$SYS/broker/clients/connected"].payload == b"1"
    assert live["$SYS/broker/uptime"].payload == b"11 seconds"
    assert "$SYS/broker/version" not in live                    # it has not changed
    assert all(one.qos == 0 and not one.retain for one in live.values())


def test_a_wildcard_does_not_reach_sys(broker):
    """[MQTT-4.7.2-1]"""
    reader = broker.client("r")
    reader.subscribe(("#", 0), ("+/broker/version", 1))
    broker.tick(0.1)
    assert reader.take() == []


def test_suback_of_v3_has_no_properties(broker):
    """[MQTT-3.9.2-1] [MQTT-3.9.2-2]"""
    client = broker.client("c", 4)
    client.feed(subscribe_packet(9, [("a", 1)], version=4))
    assert client.one(SUBACK).body == b"\x00\x09\x01"
    assert broker.client("d").subscribe(("/".join("a" * 129), 1)).values == []
