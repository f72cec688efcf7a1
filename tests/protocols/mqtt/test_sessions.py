"""Sessions: take-over, expiry, restart, wills."""
from __future__ import annotations

import pytest

from protocols.mqtt.settings import MqttSettings
from routing.rights.policy import ALLOW_ALL, Action, Rule
from routing.settings import Limits
from tests.protocols.mqtt.harness import (
    CONNACK,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    Users,
    Will,
    connect_packet,
    publish_packet,
)
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def back(broker, client_id="r", version=5, **options):
    """Connect again to a persistent session. Returns the client and the PUBLISHes that came with the CONNACK."""
    client = broker.client(version=version)
    options = options or (PERSISTENT if version == 5 else {"clean": False})
    connack = client.connect(client_id, **options)
    assert (connack.code, connack.session_present) == (0, True)
    return client, [one for one in client.rest + client.take() if one.kind == PUBLISH]


def left_in_state(broker) -> list[str]:
    """What is stored of sessions and consumers; streams note there, too, what they are."""
    return [key for key, _ in broker.router.state.items("") if key != "consumer-ends" and not key.startswith("stream/")]


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_gets_what_it_missed_in_order(broker, version):
    """[MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT-4.5.0-1]"""
    reader = broker.client("r", version, **(PERSISTENT if version == 5 else {"clean": False}))
    assert reader.connack.session_present is False                      # [MQTT-3.1.2-6]
    reader.subscribe(("a/#", 2), ("live", 0))
    reader.lose()
    writer = broker.client("w", version)
    for number in range(50):
        writer.publish("a/b", b"%d" % number, qos=1 + number % 2)
    writer.publish("live", b"lost")
    reader, found = back(broker, version=version)
    assert [one.payload for one in found] == [b"%d" % number for number in range(50)]
    assert [one.qos for one in found] == [1 + number % 2 for number in range(50)]
    assert not any(one.dup for one in found)
    writer.publish("live", b"seen")
    assert reader.payloads() == [b"seen"]


@pytest.mark.parametrize("version", [4, 5])
def test_a_session_survives_kill_9(broker, version):
    reader = broker.client("r", version, **(PERSISTENT if version == 5 else {"clean": False}))
    values = [(m.SUBSCRIPTION_ID, 6)] if version == 5 else ()
    reader.subscribe(("a/#", 1), ("live", 0), values=values)
    writer = broker.client("w")
    writer.publish("a/1", b"got", qos=1)
    assert reader.payloads(ack=True) == [b"got"]
    broker.tick(1.0)                                                    # the position is stored
    writer.publish("a/1", b"unacked", qos=1)
    assert reader.payloads() == [b"unacked"]
    writer.publish("a/2", b"never sent", qos=1)
    reborn = broker.crash()
    reader, found = back(reborn, version=version)
    assert [one.payload for one in found] == [b"unacked", b"never sent"]
    assert found[0].dup
    if version == 5:
        assert found[0].all(m.SUBSCRIPTION_ID) == [6]
    writer = reborn.client("w")
    writer.publish("live", b"seen")
    assert reader.payloads() == [b"seen"]
    reborn.store.close()


@pytest.mark.parametrize("goes", ["unsubscribed", "replaced"])
@pytest.mark.parametrize("lost_before", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_in_flight_when_its_subscription_went_is_sent_again_after_kill_9(broker, qos, lost_before, goes):
    """[MQTT-3.10.4-3] [MQTT-3.8.4-4] [MQTT-4.4.0-1]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("a/#", 2), ("b", 1))
    writer = broker.client("w")
    for payload in (b"1", b"2"):
        writer.publish("a/1", payload, qos=qos)
    writer.take()
    sent = [(one.payload, one.packet_id) for one in reader.take() if one.kind == m.PUBLISH]
    assert [payload for payload, _ in sent] == [b"1", b"2"]
    if goes == "replaced":
        reader.subscribe(("a/#", 0))
    else:
        reader.feed(m.unsubscribe_packet(9, ["a/#"], version=5))
        reader.one(m.UNSUBACK)
    if lost_before:
        reader.lose()
        broker.run()
    broker.tick(0.01)
    reborn = broker.crash()
    again, found = back(reborn)
    assert [(one.payload, one.packet_id, one.dup, one.qos) for one in found if one.kind == m.PUBLISH] == [
        (payload, packet_id, True, qos) for payload, packet_id in sent]
    for _, packet_id in sent:
        again.ack(m.PUBACK if qos == 1 else m.PUBREC, packet_id)
    reborn.tick(1.0)
    again.lose()
    found = back(reborn)[1]
    assert not [one for one in found if one.kind == m.PUBLISH], "answered once, it is over"
    reborn.store.close()


def test_clean_start_ends_the_old_session(broker):
    """[MQTT-3.1.4-4] [MQTT-3.1.2-4] [MQTT-3.2.2-2]"""
    broker.client("r", **PERSISTENT).subscribe("a")
    broker.server.sessions["r"].connection.eof()
    broker.client("w").publish("a", b"x", qos=1)
    fresh = broker.client("r", clean=True, values=PERSISTENT["values"])
    assert fresh.connack.session_present is False
    assert fresh.payloads() == []
    assert broker.router.consumers == {}
    reborn = broker.crash()
    assert len(reborn.server.sessions["r"].subscriptions) == 0
    reborn.store.close()


def test_a_session_without_expiry_ends_with_its_connection(broker):
    """[MQTT-4.1.0-2]"""
    client = broker.client("c")
    client.subscribe("a", ("b", 0), "$share/g/c")
    assert len(broker.router.consumers) == 2
    client.lose()
    assert broker.server.sessions == {}
    assert broker.router.consumers == {}
    assert broker.router.trie.count == 0
    assert list(broker.router.state.items("mqtt/")) == []


@pytest.mark.parametrize("crash", [False, True])
def test_a_session_expires(broker, crash):
    """[MQTT-4.1.0-2]"""
    broker.client("c", clean=False, values=[(m.SESSION_EXPIRY, 100)]).subscribe("a")
    broker.server.sessions["c"].connection.eof()
    broker.run()
    broker.tick(60.0)
    if crash:
        broker = broker.crash(later_s=30.0)
        broker.tick(0.0)
    else:
        broker.tick(30.0)
    assert "c" in broker.server.sessions
    broker.tick(11.0)
    assert broker.server.sessions == {}
    assert broker.router.consumers == {}
    assert left_in_state(broker) == []
    assert broker.server.broker.sessions_expired == 1
    if crash:
        broker.store.close()


def test_a_session_does_not_expire_while_its_client_is_connected(broker):
    """[MQTT-4.1.0-1]"""
    client = broker.client("c", clean=False, values=[(m.SESSION_EXPIRY, 5)])
    client.lose()
    client, _ = back(broker, "c", clean=False, values=[(m.SESSION_EXPIRY, 5)])
    broker.tick(100.0)
    assert "c" in broker.server.sessions and not client.closed


def test_reconnecting_often_leaves_no_timers_behind(broker):
    for _ in range(50):
        broker.client("c", **PERSISTENT).lose()
        broker.tick(1.0)
    broker.tick(20.0)
    assert len(broker.server.deadlines) == 1


def test_expiry_is_bounded_and_the_client_is_told(make_broker):
    broker = make_broker(mqtt=MqttSettings(session_expiry_max_s=100, session_expiry_v3_s=50))
    assert broker.client("a", values=[(m.SESSION_EXPIRY, 99)]).connack.get(m.SESSION_EXPIRY) is None
    assert broker.client("b", values=[(m.SESSION_EXPIRY, 0xFFFFFFFF)]).connack.get(m.SESSION_EXPIRY) == 100
    broker.client("c", 4, clean=False)
    assert broker.server.sessions["c"].expiry_s == 50


def test_disconnect_may_change_the_expiry(broker):
    broker.client("c", **PERSISTENT).disconnect(0, [(m.SESSION_EXPIRY, 0)])
    assert broker.server.sessions == {}
    assert left_in_state(broker) == []
    other = broker.client("d")
    other.feed(m.packet(0xE0, b"\x00" + m.properties([(m.SESSION_EXPIRY, 5)])))
    assert other.one(DISCONNECT).code == 0x82
    assert broker.server.sessions == {}


def test_sessions_are_bounded(make_broker):
    broker = make_broker(mqtt=MqttSettings(sessions_max=2))
    broker.client("a")
    broker.client("b", **PERSISTENT).lose()
    assert broker.client().connect("c").code == 0x97
    assert broker.client(version=4).connect("c").code == 3
    assert broker.client("b", **PERSISTENT).connack.session_present


def test_take_over_keeps_the_session_and_its_place(broker):
    """[MQTT-3.1.3-2] [MQTT-3.1.4-3]"""
    first = broker.client("r", **PERSISTENT)
    first.subscribe("a")
    writer = broker.client("w")
    writer.publish("a", b"1", qos=1)
    sent = first.one(PUBLISH)
    second, found = back(broker)
    assert first.one(DISCONNECT).code == 0x8E
    assert [(one.payload, one.packet_id, one.dup) for one in found] == [(b"1", sent.packet_id, True)]
    first.handler.eof()
    writer.publish("a", b"2", qos=1)
    assert second.payloads() == [b"2"]


def test_unacked_deliveries_come_again_in_order_with_their_ids(broker):
    """[MQTT-4.3.2-3] [MQTT-4.4.0-1] [MQTT-3.3.1-1]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe("a")
    writer = broker.client("w")
    for number in range(10):
        writer.publish("a", b"%d" % number, qos=1, packet_id=number + 1)
    sent = {one.payload: one.packet_id for one in reader.take()}
    for payload in (b"3", b"0", b"7"):
        reader.ack(PUBACK, sent[payload])
    for _ in range(3):
        reader.lose()
        reader, found = back(broker)
        assert [one.payload for one in found] == [b"1", b"2", b"4", b"5", b"6", b"8", b"9"]
        assert all(one.dup and sent[one.payload] == one.packet_id for one in found)
    for one in found:
        reader.ack(PUBACK, one.packet_id)
    writer.publish("a", b"new", qos=1, packet_id=1)
    found = reader.one(PUBLISH)
    assert (found.payload, found.dup) == (b"new", False)


def test_the_client_id_belongs_to_its_user_and_rights_are_those_of_now(make_broker):
    broker = make_broker()
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe("a", ("b", 0))
    reader.lose()
    broker.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.SUBSCRIBE,), to=("*",), topics=("b",))])
    reader, _ = back(broker)
    writer = broker.client("w")
    for topic in ("a", "b"):
        writer.publish(topic, topic.encode(), qos=1)
    assert reader.payloads() == [b"a"]


def test_a_deleted_consumer_disconnects_its_client(broker):
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe("a")
    broker.router.delete_consumer("mqtt/r")
    assert reader.one(DISCONNECT).code == 0x98
    reader, _ = back(broker)
    broker.client("w").publish("a", b"x", qos=1)
    assert reader.payloads() == [b"x"]


def test_a_consumer_that_was_deleted_while_its_client_was_away(broker):
    broker.client("r", **PERSISTENT).subscribe("a")
    broker.server.sessions["r"].connection.eof()
    broker.router.delete_consumer("mqtt/r")
    reader, _ = back(broker)
    broker.client("w").publish("a", b"x", qos=1)
    assert reader.payloads() == [b"x"]


def test_a_client_id_cannot_be_mistaken_for_a_group(broker):
    member = broker.client("m")
    member.subscribe("$share/g/a")
    other = broker.client("$share/g/a")
    assert other.subscribe("b").codes == [1]
    broker.client("w").publish("a", b"x", qos=1)
    assert (member.payloads(), other.payloads()) == ([b"x"], [])


# -- wills


def watch(broker):
    watcher = broker.client("watch")
    watcher.subscribe(("will", 2))
    return watcher


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_published_when_the_connection_fails(broker, version, qos):
    """[MQTT-3.1.2-7] [MQTT-3.1.2-8]"""
    watcher = watch(broker)
    broker.client("c", version, will=Will("will", b"gone", qos)).lose()
    found = watcher.one(PUBLISH)
    assert (found.payload, found.qos, found.retain) == (b"gone", qos, False)    # [MQTT-3.1.2-14]
    broker.client("c", version).lose()                                  # the will is gone with its session
    assert watcher.payloads() == []


def test_no_will_after_disconnect_but_with_0x04(broker):
    """[MQTT-3.1.2-10] [MQTT-3.14.4-3]"""
    watcher = watch(broker)
    broker.client("c", will=Will("will", b"1")).disconnect()
    broker.client("d", 4, will=Will("will", b"2")).disconnect()
    assert watcher.payloads() == []
    broker.client("e", will=Will("will", b"3")).disconnect(0x04)
    assert watcher.payloads() == [b"3"]


def test_a_retained_will(broker):
    """[MQTT-3.1.2-15]"""
    broker.client("c", will=Will("will", b"gone", 1, True)).lose()
    late = broker.client("l")
    late.subscribe("will")
    assert late.one(PUBLISH).retain


def test_will_properties_in_order(broker):
    """[MQTT-3.1.3-10]"""
    watcher = watch(broker)
    values = [
        (m.CONTENT_TYPE, "t"), (m.MESSAGE_EXPIRY, 60), (m.USER_PROPERTY, ("b", "1")), (m.USER_PROPERTY, ("a", "2"))]
    broker.client("c", will=Will("will", b"gone", properties=values)).lose()
    found = watcher.one(PUBLISH)
    assert sorted(found.values, key=str) == sorted(values, key=str)
    assert found.user_properties == [("b", "1"), ("a", "2")]


DELAYED = Will("will", b"gone", 1, properties=[(m.WILL_DELAY, 30)])


@pytest.mark.parametrize("crash", [False, True])
def test_will_delay(broker, crash):
    broker.client("c", will=DELAYED, **PERSISTENT).lose()
    broker.tick(20.0)
    if crash:
        broker = broker.crash()
    watcher = watch(broker)
    broker.tick(9.0)
    assert watcher.payloads() == []
    broker.tick(1.5)
    assert watcher.payloads() == [b"gone"]
    if crash:
        again = broker.crash()
        watcher = watch(again)
        again.tick(100.0)
        assert watcher.payloads() == []
        again.store.close()
        broker.store.close()


def test_the_will_of_a_session_that_was_connected_at_a_crash(broker):
    broker.client("c", will=DELAYED, **PERSISTENT)
    reborn = broker.crash()
    watcher = watch(reborn)
    reborn.tick(29.0)
    assert watcher.payloads() == []
    reborn.tick(2.0)
    assert watcher.payloads() == [b"gone"]
    reborn.store.close()


def test_a_delayed_will_is_dropped_when_the_client_is_back_in_time(broker):
    """[MQTT-3.1.3-9]"""
    watcher = watch(broker)
    broker.client("c", will=DELAYED, **PERSISTENT).lose()
    broker.tick(20.0)
    back(broker, "c")
    broker.tick(100.0)
    assert watcher.payloads() == []


def test_a_delayed_will_goes_out_when_the_session_ends(broker):
    """[MQTT-3.1.2-8]"""
    watcher = watch(broker)
    broker.client("c", will=DELAYED, clean=False, values=[(m.SESSION_EXPIRY, 5)]).lose()
    broker.tick(6.0)
    assert watcher.payloads(ack=True) == [b"gone"]
    broker.client("c", will=DELAYED, **PERSISTENT).lose()
    broker.client("c", clean=True)
    assert watcher.payloads() == [b"gone"]


@pytest.mark.parametrize(("delay_s", "clean", "sent"), [(0, False, True), (30, False, False), (30, True, True)])
def test_will_at_take_over(broker, delay_s, clean, sent):
    watcher = watch(broker)
    broker.client("c", will=Will("will", b"gone", 1, properties=[(m.WILL_DELAY, delay_s)]), **PERSISTENT)
    broker.client("c", clean=clean, values=PERSISTENT["values"])
    assert watcher.payloads() == [b"gone"] * sent
    broker.tick(100.0)
    assert watcher.payloads() == []


def test_a_will_that_is_not_allowed_is_counted(make_broker):
    """What is not allowed any more when the will is due."""
    broker = make_broker()
    client = broker.client("c", will=Will("no", b"gone"))
    broker.router.apply_rules([ALLOW_ALL, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("no",))])
    client.lose()
    assert broker.server.counters.dropped["will refused"] == 1


@pytest.mark.parametrize(("will", "code", "v3_code"), [
    (Will("no", b"gone"), 0x87, 5), (Will("yes", b"x" * 101), 0x95, None),
    (Will("yes", b"x", properties=[(m.USER_PROPERTY, ("n", "v"))] * 3), 0x97, None)])
def test_a_will_that_could_not_be_published_is_refused_at_connect(make_broker, will, code, v3_code):
    """It is the router that says no, by the same rules as for a PUBLISH."""
    broker = make_broker(rules=(ALLOW_ALL, Rule(deny=(Action.PUBLISH,), to=("*",), topics=("no",))),
                         limits=Limits(payload_bytes_max=100, headers_max=2))
    client = broker.client(version=5)
    assert client.connect("c", will=will).code == code
    assert client.closed and not broker.server.sessions
    if not will.properties:
        client = broker.client(version=4)
        client.feed(connect_packet("c", will=will, version=4))
        assert client.closed
        assert [one.code for one in client.take()] == ([v3_code] if v3_code else [])


@pytest.mark.parametrize("pieces", [1, 3, 70_000])
def test_a_connect_larger_than_strangers_may_send_is_refused_with_a_code(broker, pieces):
    data = connect_packet("c", will=Will("w", b"x" * 65_535))
    client = broker.client(version=5)
    for start in range(0, len(data), max(len(data) // pieces, 1)):
        if not client.closed:
            client.feed(data[start:start + max(len(data) // pieces, 1)])
    assert client.closed
    assert client.one(CONNACK).code == 0x95


# -- the handshake


def test_what_a_connack_says(make_broker):
    """[MQTT-3.1.4-5] [MQTT-3.2.0-2]"""
    broker = make_broker(mqtt=MqttSettings(keep_alive_max_s=60, receive_maximum=5, packet_bytes_max=5_000))
    client = broker.client("", keep_alive_s=100)
    assert client.connack.values == [
        (m.RECEIVE_MAXIMUM, 5), (m.MAXIMUM_PACKET_SIZE, 5_000), (m.TOPIC_ALIAS_MAXIMUM, 64),
        (m.ASSIGNED_CLIENT_ID, "auto-1"), (m.SERVER_KEEP_ALIVE, 60)]        # [MQTT-3.1.3-6] [MQTT-3.1.3-7]
    assert "auto-1" in broker.server.sessions
    assert broker.client("x", keep_alive_s=0).connack.get(m.SERVER_KEEP_ALIVE) == 60
    assert broker.client("y", keep_alive_s=59).connack.get(m.SERVER_KEEP_ALIVE) is None
    assert broker.client("z", 4).connack.body == b"\0\0"


def test_packets_before_the_connack_wait_for_it(make_broker):
    """[MQTT-3.2.0-1]"""
    users = Users()
    users.waiting = []
    broker = make_broker(users=users)
    client = broker.client()
    second = publish_packet("a", b"2", qos=1, packet_id=2)
    client.feed(connect_packet("c") + publish_packet("a", b"1", qos=1, packet_id=1) + second[:3])
    client.feed(second[3:] + publish_packet("a", b"3", qos=1, packet_id=3))
    client.feed(b"\xc0")
    assert client.take() == []
    users.waiting.pop()()
    client.feed(b"\x00")
    found = client.take()
    assert found[0].kind == m.CONNACK
    assert [one.packet_id for one in found if one.kind == PUBACK] == [1, 2, 3]
    assert [one.kind for one in found].count(m.PINGRESP) == 1


def test_login_that_takes_longer_than_the_connect_timeout(make_broker):
    users = Users()
    users.waiting = []
    broker = make_broker(users=users)
    client = broker.client()
    client.feed(connect_packet("c"))
    broker.tick(11.0)
    assert client.closed
    users.waiting.pop()()
    assert client.take() == []
    assert broker.server.sessions == {}


def test_mqtt_3_1_is_refused_with_code_1(broker):
    """[MQTT-3.1.2-2]"""
    client = broker.client(version=4)
    client.feed(connect_packet("c", version=3, protocol=b"MQIsdp"))
    assert client.closed
    assert client.one(CONNACK).code == 1


def test_shutdown_says_goodbye(broker):
    watcher, client, old = broker.client("w"), broker.client("c", **PERSISTENT), broker.client("o", 4)
    watcher.subscribe("a")
    broker.server.shutdown()
    broker.run()
    for one in (watcher, client):
        assert one.one(DISCONNECT).code == 0x8B
        assert one.closed
    assert old.closed and old.take() == []
    assert broker.client().connect("x").code == 0x88
    assert set(broker.server.sessions) == {"c"}


def test_kick(broker):
    client = broker.client("c", **PERSISTENT)
    assert broker.server.kick("c") and not broker.server.kick("c") and not broker.server.kick("nobody")
    assert client.one(DISCONNECT).code == 0x98
    assert "c" in broker.server.sessions


def test_snapshot_of_the_clients(broker):
    client = broker.client("c", username="ana", keep_alive_s=30, **PERSISTENT)
    client.subscribe("a", "b")
    broker.client("w").publish("a", b"x", qos=1)
    found = {entry["client_id"]: entry for entry in broker.server.clients_snapshot()}["c"]
    assert (found["user"], found["protocol_version"], found["subscriptions"], found["in_flight"], found["queued"]) == (
        "ana", "5.0", 2, 1, 1)
    client.lose()
    (found,) = [entry for entry in broker.server.clients_snapshot() if entry["client_id"] == "c"]
    assert (found["connected"], found["in_flight"], found["queued"]) == (False, 1, 1)


def test_a_session_that_expired_while_the_node_was_down_is_gone_at_once(broker):
    """Before the first tick, too. [MQTT-3.1.2-23]"""
    client = broker.client("c", clean=False, values=[(m.SESSION_EXPIRY, 60)])
    client.subscribe("a")
    client.lose()
    reborn = broker.crash(later_s=61)
    assert not reborn.client("c", clean=False, values=[(m.SESSION_EXPIRY, 60)]).connack.session_present
    assert not reborn.server.sessions["c"].subscriptions.by_pattern
    reborn.store.close()


def test_the_time_of_a_session_does_not_begin_anew_with_every_restart(broker):
    client = broker.client("c", clean=False, values=[(m.SESSION_EXPIRY, 60)])
    client.subscribe("a")
    second = broker.crash()
    second.run()
    third = second.crash(later_s=61)
    assert not third.client("c", clean=False, values=[(m.SESSION_EXPIRY, 60)]).connack.session_present
    third.store.close()
