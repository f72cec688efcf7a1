"""Slow sockets, windows and size limits: what is held back, what is dropped, what is counted."""
from __future__ import annotations

import pytest

from protocols.mqtt.settings import MqttSettings
from routing.settings import Limits
from tests.protocols.mqtt.harness import PUBACK, PUBLISH, publish_packet
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def flood(broker, count, size, qos, topic="a"):
    writer = broker.client("writer")
    for start in range(0, count, 50):
        writer.feed(b"".join(publish_packet(topic, b"%06d" % n + b"x" * size, qos=qos, packet_id=n % 60_000 + 1)
                             for n in range(start, min(start + 50, count))))
        writer.channel.sent.clear()


def test_a_slow_qos0_subscriber_loses_events_and_they_are_counted(broker):
    slow, fast = broker.client("slow"), broker.client("fast")
    slow.subscribe(("a", 0))
    fast.subscribe(("a", 0))
    slow.channel.stuck = True
    flood(broker, 2_000, 1_000, 0)
    assert len(fast.payloads()) == 2_000
    limit = MqttSettings().write_buffer_drop_bytes
    assert slow.channel.buffered < limit + 100_000
    lost = broker.server.counters.dropped["slow subscriber"]
    assert lost > 500
    assert broker.router.drops["mqtt", "slow subscriber"] == lost
    assert len(slow.payloads()) == 2_000 - lost
    slow.channel.unstick()
    flood(broker, 10, 10, 0)
    assert len(slow.payloads()) == 10


def test_a_slow_guaranteed_subscriber_gets_no_more_credit_and_loses_nothing(broker):
    slow, fast = broker.client("slow"), broker.client("fast")
    slow.subscribe("a")
    fast.subscribe("a")
    slow.channel.stuck = True
    flood(broker, 900, 1_000, 1)
    assert len(fast.payloads(ack=True)) == 900
    high = MqttSettings().write_buffer_high_bytes
    assert high < slow.channel.buffered < high + 100_000
    assert slow.handler.outbound.credit == 0
    got = slow.payloads(ack=True)
    assert len(got) < 400
    slow.channel.unstick()
    while more := slow.payloads(ack=True):
        got += more
    assert [int(payload[:6]) for payload in got] == list(range(900))
    assert slow.handler.outbound.credit == MqttSettings().in_flight_max


def test_a_subscriber_that_is_slow_before_it_subscribes(broker):
    slow = broker.client("slow")
    slow.channel.stuck = True
    slow.channel.write(b"\x30\x80\x80\x14\x00\x01a\x00" + b"x" * (327_680 - 4))
    slow.feed(m.subscribe_packet(1, [("a", 1)]))
    flood(broker, 10, 10, 1)
    assert slow.handler.outbound.credit == 0
    slow.channel.unstick()
    assert len(slow.payloads()[1:]) == 10


def test_a_slow_subscriber_gets_a_large_retained_set_bit_by_bit(broker):
    for number in range(100):
        flood_one = broker.client("writer")
        flood_one.publish(f"kept/{number}", b"x" * 20_000, qos=1, retain=True)
    slow = broker.client("slow")
    slow.channel.stuck = True
    slow.subscribe(("kept/#", 0))
    assert slow.channel.buffered < 700_000
    got = []
    for _ in range(20):
        got += [one.topic for one in slow.take() if one.kind == PUBLISH]
        slow.channel.unstick()
        slow.channel.stuck = True
        broker.tick(0.1)
    slow.channel.unstick()
    got += [one.topic for one in slow.take()]
    assert len(set(got)) == 100


def test_a_channel_that_tells_nothing_of_its_buffer_is_asked_by_the_tick(broker):
    writer = broker.client("writer")
    for number in range(40):
        writer.publish(f"kept/{number}", b"x" * 20_000, qos=1, retain=True)
    slow = broker.client("slow")
    slow.channel.high = 10**9                       # never calls pause_writing()
    slow.channel.stuck = True
    slow.subscribe(("kept/#", 0))
    assert broker.server.broker.stalled
    slow.channel.unstick()
    broker.tick(0.1)
    assert len([one for one in slow.take() if one.kind == PUBLISH]) == 40
    assert not broker.server.broker.stalled


@pytest.mark.parametrize("version", [4, 5])
def test_the_window_is_never_exceeded(make_broker, version):
    """[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]"""
    broker = make_broker(mqtt=MqttSettings(in_flight_max=20))
    reader = broker.client("r", version, **({"values": [(m.RECEIVE_MAXIMUM, 7)]} if version == 5 else {}))
    window = 7 if version == 5 else 20
    reader.subscribe("a")
    flood(broker, 100, 10, 1)
    first = reader.take()
    assert len(first) == window
    reader.ack(PUBACK, first[3].packet_id)
    assert len(reader.take()) == 1
    assert reader.ping()[-1].kind == m.PINGRESP                     # [MQTT-4.9.0-3] [MQTT-3.3.4-10]
    assert reader.subscribe(("b", 0)).codes == [0]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_packet_over_the_clients_maximum_is_dropped_as_if_it_were_sent(broker, qos):
    """[MQTT-3.1.2-24] [MQTT-3.1.2-25]"""
    reader = broker.client("r", values=[(m.MAXIMUM_PACKET_SIZE, 100), (m.SESSION_EXPIRY, 100)])
    reader.subscribe(("a", qos))
    writer = broker.client("w")
    writer.publish("a", b"x" * 100, qos=qos)
    exact = 100 - 2 - 3 - 1 - (2 if qos else 0)
    writer.publish("a", b"y" * exact, qos=qos)
    (found,) = reader.take()
    assert (found.size, found.payload[:1]) == (100, b"y")
    assert broker.server.counters.dropped["packet too large for the client"] == 1
    if qos == 1:
        reader.ack(PUBACK, found.packet_id)
        assert broker.server.sessions["r"].consumer.lag().events == 0


def test_a_goodbye_fits_the_clients_maximum(broker):
    """[MQTT-3.14.2-2] [MQTT-3.14.2-4] [MQTT-3.14.2-3] [MQTT-3.2.2-19]"""
    client = broker.client("c", values=[(m.MAXIMUM_PACKET_SIZE, 30)])
    client.feed(b"\xd0\x00")
    found = client.take()[-1]
    assert (found.code, found.values, found.size) == (0x82, [], 3)


def test_the_tail_cache_is_not_the_queue_of_a_stalled_subscriber(broker):
    stalled = broker.client("s", values=[(m.RECEIVE_MAXIMUM, 1)])
    stalled.subscribe("a")
    flood(broker, 3_000, 200, 1)
    assert len(stalled.take()) == 1
    consumer = broker.server.sessions["s"].consumer
    assert sum(cursor.held() for cursor in consumer.cursors.values()) <= 100
    assert consumer.lag().events == 3_000


def test_an_idle_connection_is_small(broker):
    import tracemalloc
    broker.client("warm", keep_alive_s=60)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    clients = [broker.client(f"client-{number}", keep_alive_s=60) for number in range(200)]
    for client in clients:
        client.take()
        client.connack = client.rest = None
        client.channel.sent = bytearray()
    size = (tracemalloc.get_traced_memory()[0] - before) / 200
    tracemalloc.stop()
    assert size < 5_000, size           # the test's own objects are in it


def test_a_client_that_we_do_not_listen_to_is_not_silent(make_broker):
    broker = make_broker(limits=Limits(pending_commit_bytes=10_000))
    client = broker.client("c", keep_alive_s=10)
    client.feed(publish_packet("a", b"x" * 6_000, qos=1, packet_id=1), run=False)
    broker.now_s += 60.0
    broker.server.tick(broker.now_s)                # nothing has come from the disk yet
    assert client.channel.paused and not client.closed
    broker.tick(1.0)
    assert client.one(PUBACK).code == 0


def test_a_flood_of_bad_connections_is_no_flood_of_log_lines(broker, caplog):
    caplog.set_level("INFO")
    for _ in range(200):
        broker.client().feed(b"GET / HTTP/1.1\r\n\r\n")
    assert 0 < len(caplog.records) <= 20
    assert broker.server.broker.log_limit.suppressed >= 180
    assert broker.server.counters.refused[0x82] == 200
