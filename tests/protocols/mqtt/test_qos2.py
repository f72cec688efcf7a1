"""QoS 2, exactly once: both ways, across reconnects and kill -9."""
from __future__ import annotations

import msgspec
import pytest

from protocols.mqtt.sessions.open_ids import OpenIds
from protocols.mqtt.sessions.session import StoredQos2
from routing.settings import StreamSettings
from tests.protocols.mqtt.harness import PUBCOMP, PUBLISH, PUBREC, PUBREL
from tests.support import rawmqtt as m

PERSISTENT = {"clean": False, "values": [(m.SESSION_EXPIRY, 1000)]}


def stored(broker, topic="a"):
    """Payloads of a topic in the log."""
    found = []
    for stream in broker.router.streams:
        for partition in stream.partitions:
            scan = partition.scan(partition.start_offset, topic.__eq__, max_events=10_000, max_scanned=10_000)
            found += [event.payload for event in scan.events]
    return found


def again(broker, client_id):
    client = broker.client()
    assert client.connect(client_id, **PERSISTENT).session_present
    client.stash = client.rest
    return client


# -- inbound


@pytest.mark.parametrize("version", [4, 5])
def test_the_whole_exchange(broker, version):
    """[MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]"""
    writer = broker.client("w", version)
    writer.publish("a", b"1", qos=2, packet_id=5)
    assert writer.one(PUBREC).packet_id == 5
    for _ in range(3):
        writer.publish("a", b"1", qos=2, packet_id=5, dup=True)
        assert writer.one(PUBREC).packet_id == 5
    for _ in range(2):
        writer.ack(PUBREL, 5)
        assert writer.one(PUBCOMP).packet_id == 5
    writer.publish("a", b"2", qos=2, packet_id=5)
    assert writer.one(PUBREC).packet_id == 5
    assert stored(broker) == [b"1", b"2"]


def test_pubrel_of_an_unknown_id(broker):
    """[MQTT-3.7.2-2] [MQTT-3.7.2-3]"""
    writer = broker.client("w")
    writer.ack(PUBREL, 9)
    assert writer.one(PUBCOMP).code == 0x92


def test_pubrel_before_pubrec_is_an_error(broker):
    writer = broker.client("w")
    writer.feed(m.publish_packet("a", b"1", qos=2, packet_id=5) + b"\x62\x02\x00\x05", run=False)
    assert writer.closed


def test_pubrec_comes_only_when_the_event_is_durable(broker):
    writer = broker.client("w")
    writer.publish("a", b"1", qos=2, run=False)
    assert not writer.channel.sent
    broker.run()
    assert writer.one(PUBREC)


@pytest.mark.parametrize("crash_after", ["publish", "pubrec", "pubrel"])
@pytest.mark.parametrize("partitions", [1, 4])
def test_a_publish_is_taken_once_whenever_the_node_dies(make_broker, crash_after, partitions):
    broker = make_broker(settings=[StreamSettings("events", ("#",), partitions)])
    writer = broker.client("w", **PERSISTENT)
    for number in range(1, 4):                              # ids that were used before
        writer.publish("a", b"old", qos=2, packet_id=number)
        writer.ack(PUBREL, number)
    writer.publish("a", b"1", qos=2, packet_id=2)
    writer.publish("b", b"other", qos=2, packet_id=7)
    if crash_after == "pubrec":
        assert writer.take()[-1].kind == PUBREC
        broker.tick(5.0)                                    # what is saved by and by has been saved
    if crash_after == "pubrel":
        writer.ack(PUBREL, 2)
        assert writer.take()[-1].kind == PUBCOMP
    reborn = broker.crash()
    writer = again(reborn, "w")
    if crash_after != "pubrel":
        writer.publish("a", b"1", qos=2, packet_id=2, dup=True)
        assert writer.one(PUBREC).packet_id == 2
    writer.ack(PUBREL, 2)
    found = writer.one(PUBCOMP)
    assert found.code == (0x92 if crash_after == "pubrel" else 0)
    assert stored(reborn) == [b"old"] * 3 + [b"1"]
    writer.publish("a", b"2", qos=2, packet_id=2)
    assert writer.one(PUBREC).code == 0
    assert stored(reborn) == [b"old"] * 3 + [b"1", b"2"]
    assert set(reborn.server.sessions["w"].open_ids) == {2, 7}
    reborn.store.close()


@pytest.mark.parametrize("partitions", [1, 4])
def test_an_id_released_after_a_restart_stays_released_at_the_next(make_broker, partitions):
    """Two kills, nothing published between them: the second restart must not find the id open again in the log."""
    broker = make_broker(settings=[StreamSettings("events", ("#",), partitions)])
    writer = broker.client("w", **PERSISTENT)
    for number in range(1, 9):
        writer.publish(f"a/{number}", b"1", qos=2, packet_id=number)
    second = broker.crash()
    writer = again(second, "w")
    for number in range(1, 9):
        writer.publish(f"a/{number}", b"1", qos=2, packet_id=number, dup=True)
        assert writer.one(PUBREC).packet_id == number
        if number > 2:
            writer.ack(PUBREL, number)
            assert writer.one(PUBCOMP).code == 0
    third = second.crash()
    assert set(third.server.sessions["w"].open_ids) == {1, 2}
    writer = again(third, "w")
    for number in range(3, 9):
        writer.publish(f"a/{number}", b"2", qos=2, packet_id=number)
        assert writer.one(PUBREC).code == 0
        assert stored(third, f"a/{number}") == [b"1", b"2"]
    writer.publish("a/1", b"1", qos=2, packet_id=1, dup=True)
    assert writer.one(PUBREC).code == 0
    assert stored(third, "a/1") == [b"1"]
    second.store.close()
    third.store.close()


def test_ids_of_a_session_that_was_replaced_stay_dead(broker):
    writer = broker.client("w", **PERSISTENT)
    writer.publish("a", b"1", qos=2, packet_id=2)
    writer = broker.client("w", clean=True, values=PERSISTENT["values"])
    reborn = broker.crash()
    writer = again(reborn, "w")
    assert len(reborn.server.sessions["w"].open_ids) == 0
    writer.publish("a", b"2", qos=2, packet_id=2)
    assert stored(reborn) == [b"1", b"2"]
    reborn.store.close()


def test_an_id_of_a_replaced_session_is_not_taken_for_a_new_publish(broker):
    """The old session's event becomes durable after the new session began, and the node dies before it notes that."""
    writer = broker.client("w", **PERSISTENT)
    writer.publish("a", b"1", qos=2, packet_id=2, run=False)
    writer.publish("a", b"2", qos=2, packet_id=3, run=False)
    broker.client("w", clean=True, values=PERSISTENT["values"])
    reborn = broker.crash()
    writer = again(reborn, "w")
    writer.publish("a", b"3", qos=2, packet_id=2)           # only now, and by chance under an id of the old session
    assert writer.one(PUBREC).code == 0
    writer.publish("a", b"4", qos=2, packet_id=3, dup=True)     # sent before the kill and never taken
    assert writer.one(PUBREC).code == 0
    assert stored(reborn) == [b"1", b"2", b"3", b"4"]
    writer.publish("a", b"3", qos=2, packet_id=2, dup=True)
    assert writer.one(PUBREC).code == 0
    third = reborn.crash()
    writer = again(third, "w")
    writer.publish("a", b"3", qos=2, packet_id=2, dup=True)
    writer.ack(PUBREL, 2)
    writer.ack(PUBREL, 3)
    assert [(one.kind, one.code) for one in writer.take()] == [(PUBREC, 0), (PUBCOMP, 0), (PUBCOMP, 0)]
    assert stored(third) == [b"1", b"2", b"3", b"4"]
    reborn.store.close()
    third.store.close()


def test_an_id_that_waits_for_another_partition_is_not_forgotten(make_broker):
    """After a take-over the new connection's events are accounted for, those of the old one are still on their way."""
    broker = make_broker(settings=[StreamSettings("events", ("#",), 2)])
    writer = broker.client("w", **PERSISTENT)
    session = broker.server.sessions["w"]
    writer.publish("a", b"1", qos=2, packet_id=2)
    writer.publish("a", b"2", qos=2, packet_id=3)
    (partition,) = (part for part in broker.router.streams.by_name["events"].partitions if part.end_offset)
    session.open_ids.discard(2)
    session.open_ids.wait(2, partition.event(0))            # as if its ticket were not complete

    def kept():
        found = OpenIds()
        found.restore(msgspec.msgpack.decode(session.stored_qos2(()), type=StoredQos2).open_ids)
        return set(found)

    assert kept() == {2, 3}
    session.seen.clear()
    assert kept() == {3}


def test_ids_of_a_session_that_ended_stay_dead(broker):
    writer = broker.client("w", **PERSISTENT)
    writer.publish("a", b"1", qos=2, packet_id=2)
    writer.disconnect(0, [(m.SESSION_EXPIRY, 0)])
    reborn = broker.crash()
    writer = reborn.client("w", **PERSISTENT)
    writer.publish("a", b"2", qos=2, packet_id=3)
    writer.take()
    third = reborn.crash()
    assert set(third.server.sessions["w"].open_ids) == {3}
    third.store.close()


def test_expiry_does_not_stop_the_exchange(broker):
    """[MQTT-4.3.3-13]"""
    writer = broker.client("w")
    writer.publish("a", b"1", qos=2, packet_id=2, values=[(m.MESSAGE_EXPIRY, 0)])
    assert writer.one(PUBREC).code == 0
    writer.ack(PUBREL, 2)
    assert writer.one(PUBCOMP).code == 0


def test_a_clean_session_leaves_nothing_behind(broker):
    writer = broker.client("w")
    writer.publish("a", b"1", qos=2, packet_id=2)
    broker.tick(5.0)
    assert list(broker.router.state.items("mqtt/")) == []
    (partition,) = broker.router.streams.by_name["events"].partitions
    assert partition.event(0).properties is None


def test_a_client_that_comes_back_before_its_publish_is_durable(broker):
    writer = broker.client("w", **PERSISTENT)
    writer.publish("a", b"1", qos=2, packet_id=2, run=False)
    second = broker.client()
    second.feed(m.connect_packet("w", **PERSISTENT), run=False)
    second.feed(m.publish_packet("a", b"1", qos=2, packet_id=2, dup=True), run=False)
    broker.run()
    assert [one.kind for one in second.take()] == [m.CONNACK, PUBREC]
    assert stored(broker) == [b"1"]


# -- outbound


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("options", [{}, PERSISTENT])
def test_the_whole_delivery(broker, version, options):
    """[MQTT-4.3.3-4] [MQTT-4.3.3-5]"""
    options = {"clean": not options} if version == 4 else options
    reader = broker.client("r", version, **options)
    reader.subscribe(("a", 2))
    broker.client("w").publish("a", b"1", qos=2)
    found = reader.one(PUBLISH)
    assert found.qos == 2
    for _ in range(2):
        reader.ack(PUBREC, found.packet_id)
        assert reader.one(PUBREL).packet_id == found.packet_id
    reader.ack(PUBCOMP, found.packet_id)
    assert reader.take() == []
    assert broker.server.sessions["r"].released == {}
    assert reader.handler.outbound.in_flight == {}
    assert reader.handler.outbound.credit == reader.handler.terms.window


def test_pubrec_of_an_unknown_id(broker):
    """[MQTT-3.6.2-2] [MQTT-3.6.2-3]"""
    reader = broker.client("r")
    reader.subscribe(("a", 2))
    reader.ack(PUBREC, 9)
    assert reader.one(PUBREL).code == 0x92


@pytest.mark.parametrize("code", [0x80, 0x97])
def test_pubrec_with_an_error_ends_the_delivery(broker, code):
    """[MQTT-4.4.0-2]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("a", 2))
    broker.client("w").publish("a", b"1", qos=2)
    reader.ack(PUBREC, reader.one(PUBLISH).packet_id, code)
    assert reader.take() == []
    reader.lose()
    assert again(broker, "r").take() == []


@pytest.mark.parametrize(("kind", "qos"), [(m.PUBACK, 2), (PUBREC, 1)])
def test_the_wrong_answer_for_a_qos(broker, kind, qos):
    reader = broker.client("r")
    reader.subscribe(("a", 2))
    broker.client("w").publish("a", b"1", qos=qos)
    reader.ack(kind, reader.one(PUBLISH).packet_id)
    assert reader.closed


def test_the_place_of_an_id_is_durable_before_the_publish_goes_out(broker):
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("a", 2))
    broker.tick(1.0)
    broker.client("w").publish("a", b"1", qos=2, run=False)
    seen_in_log = []
    while broker.queue:
        broker.queue.popleft()()
        if reader.channel.sent:
            key = "mqtt/qos2/r"
            (partition,) = (part for part in broker.store.partitions if part.stream == "$state")
            scan = partition.scan(partition.start_offset, key.__eq__, max_events=100, max_scanned=1000)
            seen_in_log = scan.events
            break
    assert seen_in_log


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("stage", ["publish", "pubrec"])
def test_a_delivery_goes_on_where_it_stopped(broker, crash, stage):
    """[MQTT-4.3.3-3] [MQTT-4.6.0-4] [MQTT-4.4.0-1] [MQTT-4.3.3-6]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("a", 2), values=[(m.SUBSCRIPTION_ID, 3)])
    writer = broker.client("w")
    for number in range(3):
        writer.publish("a", b"%d" % number, qos=2, packet_id=number + 1)
    sent = reader.take()
    if stage == "pubrec":
        reader.ack(PUBREC, sent[1].packet_id)
        assert reader.one(PUBREL)
    if crash:
        broker = broker.crash()
    else:
        reader.lose()
    reader = again(broker, "r")
    found = reader.take()
    released = [one.packet_id for one in found if one.kind == PUBREL]
    publishes = [one for one in found if one.kind == PUBLISH]
    expected = sent if stage == "publish" else [sent[0], sent[2]]
    assert released == ([] if stage == "publish" else [sent[1].packet_id])
    assert [(one.payload, one.packet_id) for one in publishes] == [(one.payload, one.packet_id) for one in expected]
    assert all(one.dup and one.qos == 2 and one.all(m.SUBSCRIPTION_ID) == [3] for one in publishes)
    for one in publishes:
        reader.ack(PUBREC, one.packet_id)
        assert reader.one(PUBREL)
    for one in sent:
        reader.ack(PUBCOMP, one.packet_id)
    assert reader.take() == []
    broker.tick(5.0)
    third = broker.crash()
    assert again(third, "r").take() == []
    third.store.close()
    if crash:
        broker.store.close()


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_sent_does_not_expire(broker, qos):
    """[MQTT-4.3.3-7]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("a", qos))
    broker.client("w").publish("a", b"1", qos=2, values=[(m.MESSAGE_EXPIRY, 5)])
    sent = reader.one(PUBLISH)
    reader.lose()
    broker.tick(10.0)
    found = again(broker, "r").one(PUBLISH)
    assert (found.packet_id, found.dup, found.get(m.MESSAGE_EXPIRY)) == (sent.packet_id, True, 1)


def test_retained_qos2_delivery_goes_on_after_a_crash(broker):
    broker.client("w").publish("a", b"kept", qos=1, retain=True)
    broker.client("w2").publish("b", b"kept2", qos=2, retain=True)
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("b", 2))
    sent = reader.one(PUBLISH)
    assert sent.qos == 2
    reborn = broker.crash()
    reader = again(reborn, "r")
    found = reader.one(PUBLISH)
    assert (found.payload, found.packet_id, found.dup) == (b"kept2", sent.packet_id, True)
    reader.ack(PUBREC, found.packet_id)
    assert reader.one(PUBREL)
    reborn.store.close()


def test_shared_qos2_delivery_goes_on_after_a_crash(broker):
    """[MQTT-4.8.2-4]"""
    reader = broker.client("r", **PERSISTENT)
    reader.subscribe(("$share/g/a", 2))
    broker.client("w").publish("a", b"1", qos=2)
    sent = reader.one(PUBLISH)
    reborn = broker.crash()
    other = reborn.client("other")
    other.subscribe(("$share/g/a", 2))
    assert other.take() == []
    reader = again(reborn, "r")
    found = reader.one(PUBLISH)
    assert (found.payload, found.packet_id, found.dup) == (b"1", sent.packet_id, True)
    reborn.store.close()


def test_many_deliveries_wrap_the_ids(broker):
    """[MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]"""
    reader = broker.client("r", values=[(m.RECEIVE_MAXIMUM, 7)])
    reader.subscribe(("a", 2))
    reader.handler.outbound.next_id = 8188
    writer = broker.client("w")
    for number in range(20):
        writer.publish("a", b"%d" % number, qos=1 + number % 2, packet_id=number + 1)
    got = []
    in_flight = set()
    while found := reader.take():
        for one in found:
            if one.kind == PUBREL:
                reader.feed(m.packet(0x70, one.packet_id.to_bytes(2, "big")))
                in_flight.discard(one.packet_id)
                continue
            assert one.packet_id not in in_flight and 0 < one.packet_id <= 8191
            in_flight.add(one.packet_id)
            assert len(in_flight) <= 7
            got.append(one.payload)
        for one in found:
            if one.kind == PUBLISH and one.qos == 1:
                in_flight.discard(one.packet_id)
                reader.ack(m.PUBACK, one.packet_id)
            elif one.kind == PUBLISH:
                reader.ack(PUBREC, one.packet_id)
    assert got == [b"%d" % number for number in range(20)]
