"""MQTT 5 clause by clause, seen from outside: PUBLISH and its acknowledgements, QoS, flow control, aliases, retain."""
from __future__ import annotations

import struct
import time

import pytest

from tests.support import rawmqtt as m
from tests.support.rawmqtt import packet, publish_packet

deviates = pytest.mark.mosquitto_deviates


def refused_with(client: m.RawMqtt, data: bytes, *codes: int) -> None:
    """Send bytes: the server answers DISCONNECT with one of the codes and closes."""
    client.send(data)
    said = client.expect_close()
    assert said is not None and said.code in codes, said


# --- QoS -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_qos_is_the_lower_of_published_and_granted(broker, unique, topic, published, granted):
    """[MQTT-3.8.4-8] §3.8.4, for every pair."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        assert subscriber.subscribe((topic, granted)).codes == [granted]
        if published:
            publisher.publish_acked(topic, b"x", qos=published)
        else:
            publisher.publish(topic, b"x")
        found = subscriber.message()
        assert (found.payload, found.qos, found.dup, found.retain) == (b"x", min(published, granted), False, False)
        assert (found.packet_id != 0) == (found.qos > 0)


def test_qos1_is_answered_by_puback(broker, unique, topic):
    """[MQTT-4.3.2-4] PUBACK carries the packet id of the PUBLISH; 0x10 may say that nobody listens."""
    with broker.connect(unique()) as client:
        client.publish(topic, b"x", qos=1, packet_id=4711)
        answer = client.expect(m.PUBACK)
        assert answer.packet_id == 4711 and answer.code in (0x00, 0x10)


def test_qos2_is_answered_by_pubrec_and_pubcomp(broker, unique, topic):
    """[MQTT-4.3.3-8] [MQTT-4.3.3-11] PUBREC and PUBCOMP carry the packet id."""
    with broker.connect(unique()) as client:
        client.publish(topic, b"x", qos=2, packet_id=65535)
        assert client.expect(m.PUBREC).packet_id == 65535
        client.ack(m.PUBREL, 65535)
        answer = client.expect(m.PUBCOMP)
        assert (answer.packet_id, answer.code) == (65535, 0)


def test_a_repeated_qos2_publish_is_delivered_once(broker, unique, topic):
    """[MQTT-4.3.3-9] [MQTT-4.3.3-10] Before PUBREL the same packet id is the same message: PUBREC again, no copy."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        publisher.publish(topic, b"once", qos=2, packet_id=9)
        publisher.expect(m.PUBREC, packet_id=9)
        publisher.publish(topic, b"once", qos=2, packet_id=9, dup=True)
        publisher.expect(m.PUBREC, packet_id=9)
        publisher.ack(m.PUBREL, 9)
        publisher.expect(m.PUBCOMP, packet_id=9)
        publisher.publish_acked(topic, b"sentinel", qos=2)
        assert [found.payload for found in subscriber.messages_until(b"sentinel")] == [b"once"]


def test_a_packet_id_is_new_again_after_pubcomp(broker, unique, topic):
    """[MQTT-4.3.3-12] After PUBCOMP a PUBLISH with this id is a new message."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        for payload in (b"first", b"second"):
            publisher.publish(topic, payload, qos=2, packet_id=5)
            publisher.expect(m.PUBREC)
            publisher.ack(m.PUBREL, 5)
            publisher.expect(m.PUBCOMP)
        assert [found.payload for found in subscriber.messages(2)] == [b"first", b"second"]


def test_a_repeated_qos1_packet_id_after_puback_is_a_new_message(broker, unique, topic):
    """[MQTT-4.3.2-5] After PUBACK a PUBLISH with the same id is new, whatever its DUP flag says."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        for payload in (b"first", b"second"):
            publisher.publish(topic, payload, qos=1, packet_id=5)
            publisher.expect(m.PUBACK)
        assert [found.payload for found in subscriber.messages(2)] == [b"first", b"second"]


def test_dup_of_the_publisher_is_not_passed_on(broker, unique, topic):
    """[MQTT-3.3.1-3] The DUP flag of an outgoing PUBLISH is the server's own."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish(topic, b"x", qos=1, dup=True)
        assert subscriber.message().dup is False


def test_a_qos2_exchange_survives_a_reconnect_of_the_publisher(broker, unique, topic):
    """[MQTT-4.4.0-1] [MQTT-4.3.3-10] PUBREC received, connection lost: PUBLISH sent again is no second message."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("sub")) as subscriber:
        subscriber.subscribe((topic, 2))
        with broker.connect(unique("pub"), values=keep) as publisher:
            publisher.publish(topic, b"once", qos=2, packet_id=77)
            publisher.expect(m.PUBREC)
        with broker.connect(unique("pub"), clean=False, values=keep) as publisher:
            assert publisher.connack.session_present
            publisher.publish(topic, b"once", qos=2, packet_id=77, dup=True)
            assert publisher.expect(m.PUBREC, packet_id=77).code < 0x80
            publisher.ack(m.PUBREL, 77)
            assert publisher.expect(m.PUBCOMP, packet_id=77).code == 0
            publisher.publish_acked(topic, b"sentinel", qos=2)
        assert [found.payload for found in subscriber.messages_until(b"sentinel")] == [b"once"]


def test_pubrel_may_be_sent_on_the_next_connection(broker, unique, topic):
    """[MQTT-4.4.0-1] PUBREL for a message of the connection before completes it."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("sub")) as subscriber:
        subscriber.subscribe((topic, 2))
        with broker.connect(unique("pub"), values=keep) as publisher:
            publisher.publish(topic, b"once", qos=2, packet_id=3)
            publisher.expect(m.PUBREC)
        with broker.connect(unique("pub"), clean=False, values=keep) as publisher:
            publisher.ack(m.PUBREL, 3)
            assert publisher.expect(m.PUBCOMP, packet_id=3).code == 0
        assert subscriber.message().payload == b"once"


def test_pubrel_of_an_unknown_id_is_answered(broker, unique):
    """§3.6.2.1, §3.7.2.1: PUBCOMP 0x92 (packet identifier not found) or success; never silence."""
    with broker.connect(unique()) as client:
        client.ack(m.PUBREL, 1234)
        answer = client.expect(m.PUBCOMP)
        assert answer.packet_id == 1234 and answer.code in (0x00, 0x92)


@deviates("sends PUBREL with success, or closes")
def test_pubrec_of_an_unknown_id_is_answered_by_pubrel_0x92(broker, unique):
    """§3.5.2.1, §3.6.2.1: the id is not known: PUBREL with 0x92."""
    with broker.connect(unique()) as client:
        client.ack(m.PUBREC, 1234)
        answer = client.expect(m.PUBREL)
        assert (answer.packet_id, answer.code) == (1234, 0x92)


def test_acks_of_unknown_ids_do_no_harm(broker, unique, topic):
    """§4.3: a stray PUBACK or PUBCOMP is ignored or refused; the session's messages are not touched."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)]) as client:
        client.subscribe((topic, 1))
        client.ack(m.PUBACK, 500)
        client.ack(m.PUBCOMP, 501)
        try:
            client.ping()
        except (m.ConnectionClosed, OSError):
            pass
    with broker.connect(unique(), clean=False) as client, broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"x")
        assert client.message().payload == b"x"


def test_a_negative_puback_ends_the_delivery(broker, unique, topic):
    """§4.3.2, §3.4.2.1: PUBACK with 0x80 or above is an acknowledgement too; the message is not sent again."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("pub")) as publisher:
        with broker.connect(unique("sub"), values=keep) as subscriber:
            subscriber.subscribe((topic, 1))
            publisher.publish_acked(topic, b"unwanted")
            subscriber.ack(m.PUBACK, subscriber.message(ack=False).packet_id, 0x83)
            subscriber.ping()
            subscriber.disconnect()
        publisher.publish_acked(topic, b"sentinel")
        with broker.connect(unique("sub"), clean=False, values=keep) as subscriber:
            assert subscriber.messages_until(b"sentinel") == []


def test_a_negative_pubrec_ends_the_delivery(broker, unique, topic):
    """[MQTT-4.3.3-4] PUBREC with 0x80 or above: no PUBREL, and the packet id is free again."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        publisher.publish_acked(topic, b"unwanted", qos=2)
        subscriber.ack(m.PUBREC, subscriber.message(ack=False).packet_id, 0x83)
        publisher.publish_acked(topic, b"sentinel", qos=2)
        assert subscriber.messages_until(b"sentinel") == []
        assert not [found for found in subscriber.pending if found.kind == m.PUBREL]


# --- redelivery and order ------------------------------------------------------------------------------------------
def test_unacked_messages_come_again_in_order_with_dup(broker, unique, topic):
    """[MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1] On reconnect: same packet ids, same order, DUP 1."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("pub")) as publisher:
        with broker.connect(unique("sub"), values=keep) as subscriber:
            subscriber.subscribe((topic, 2))
            for number in range(6):
                publisher.publish_acked(topic, b"%d" % number, qos=1 + number % 2)
            first = subscriber.messages(6, ack=False)
            assert [found.payload for found in first] == [b"%d" % number for number in range(6)]
            assert len({found.packet_id for found in first}) == 6
        with broker.connect(unique("sub"), clean=False, values=keep) as subscriber:
            again = [subscriber.message() for _ in range(6)]
            assert [found.payload for found in again] == [found.payload for found in first]
            assert [found.packet_id for found in again] == [found.packet_id for found in first]
            assert [found.qos for found in again] == [found.qos for found in first]
            assert all(found.dup for found in again)


def test_acked_messages_do_not_come_again(broker, unique, topic):
    """[MQTT-4.4.0-1] Only what is unacknowledged is sent again."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("pub")) as publisher:
        with broker.connect(unique("sub"), values=keep) as subscriber:
            subscriber.subscribe((topic, 1))
            for number in range(4):
                publisher.publish_acked(topic, b"%d" % number)
            for found in subscriber.messages(4, ack=False):
                if found.payload in (b"0", b"2"):
                    subscriber.ack(m.PUBACK, found.packet_id)
            subscriber.ping()
        with broker.connect(unique("sub"), clean=False, values=keep) as subscriber:
            assert [found.payload for found in subscriber.messages(2)] == [b"1", b"3"]
            publisher.publish_acked(topic, b"sentinel")
            assert subscriber.messages_until(b"sentinel") == []


def test_pubrel_is_sent_again_after_a_reconnect(broker, unique, topic):
    """[MQTT-4.4.0-1] [MQTT-4.3.3-6] PUBREC was sent, PUBCOMP was not: PUBREL comes again, the PUBLISH does not."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("pub")) as publisher:
        with broker.connect(unique("sub"), values=keep) as subscriber:
            subscriber.subscribe((topic, 2))
            publisher.publish_acked(topic, b"x", qos=2)
            found = subscriber.message(ack=False)
            subscriber.ack(m.PUBREC, found.packet_id)
            subscriber.expect(m.PUBREL, packet_id=found.packet_id)
        with broker.connect(unique("sub"), clean=False, values=keep) as subscriber:
            subscriber.expect(m.PUBREL, packet_id=found.packet_id)
            subscriber.ack(m.PUBCOMP, found.packet_id)
            publisher.publish_acked(topic, b"sentinel", qos=2)
            assert subscriber.messages_until(b"sentinel") == []


def test_nothing_is_sent_again_within_a_connection(broker, unique, topic):
    """[MQTT-4.4.0-1] Servers must not resend at any other time than on reconnect."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"x")
        first = subscriber.message(ack=False)
        with pytest.raises(m.NotReceived):
            subscriber.next(deadline_s=2.0)
        subscriber.ack(m.PUBACK, first.packet_id)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_one_topic_keep_their_order(broker, unique, topic, qos):
    """[MQTT-4.6.0-5] [MQTT-4.6.0-6] A thousand from one publisher, as fast as it can within receive maximum."""
    count = 1000
    with broker.connect(unique("sub"), values=[(m.RECEIVE_MAXIMUM, 100)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        window = min(int(publisher.connack.get(m.RECEIVE_MAXIMUM, 65535)), 100)
        subscriber.subscribe((topic, qos))
        sent = acked = got = 0
        while acked < count:
            burst = min(window, count - sent)
            first = sent
            publisher.send(b"".join(publish_packet(topic, b"%d" % (first + index), qos=qos, packet_id=first + index + 1)
                                    for index in range(burst)))
            sent += burst
            if qos == 1:
                answers = [publisher.expect(m.PUBACK).packet_id for _ in range(burst)]
            elif qos == 2:
                answers = [publisher.expect(m.PUBREC).packet_id for _ in range(burst)]
                for answer in answers:
                    publisher.ack(m.PUBREL, answer)
                answers = [publisher.expect(m.PUBCOMP).packet_id for _ in range(burst)]
            if qos:
                assert answers == list(range(first + 1, first + burst + 1))     # [MQTT-4.6.0-2…4]
            acked = sent
            for found in subscriber.messages(burst):
                assert found.payload == b"%d" % got
                got += 1


# --- receive maximum -----------------------------------------------------------------------------------------------
@deviates("sends two messages for the first acknowledgement")
def test_the_server_keeps_to_the_clients_receive_maximum(broker, unique, topic):
    """[MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] Never more than 2 unacknowledged; each ack lets one more through."""
    with broker.connect(unique("sub"), values=[(m.RECEIVE_MAXIMUM, 2)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        for number in range(6):
            publisher.publish_acked(topic, b"%d" % number)
        seen = [subscriber.message(ack=False) for _ in range(2)]
        while len(seen) < 6:
            with pytest.raises(m.NotReceived):
                subscriber.next(deadline_s=0.3)
            subscriber.ack(m.PUBACK, seen[len(seen) - 2].packet_id)
            seen.append(subscriber.message(ack=False))
        assert [found.payload for found in seen] == [b"%d" % number for number in range(6)]


@deviates("sends the next message after PUBREC")
def test_a_qos2_delivery_uses_the_receive_maximum_until_pubcomp(broker, unique, topic):
    """§4.9: the quota grows again with PUBCOMP, not with PUBREC."""
    with broker.connect(unique("sub"), values=[(m.RECEIVE_MAXIMUM, 2)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        for number in range(6):
            publisher.publish_acked(topic, b"%d" % number, qos=2)
        seen = [subscriber.message(ack=False) for _ in range(2)]
        while len(seen) < 6:
            oldest = seen[len(seen) - 2].packet_id
            subscriber.ack(m.PUBREC, oldest)
            assert subscriber.next().kind == m.PUBREL
            with pytest.raises(m.NotReceived):
                subscriber.next(deadline_s=0.3)
            subscriber.ack(m.PUBCOMP, oldest)
            seen.append(subscriber.message(ack=False))
        assert [found.payload for found in seen] == [b"%d" % number for number in range(6)]


def test_qos0_behind_a_used_up_receive_maximum_is_not_lost(broker, unique, topic):
    """[MQTT-4.9.0-2] With the quota at 0 QoS 0 may go on or may be suspended too; after the ack it must come."""
    with broker.connect(unique("sub"), values=[(m.RECEIVE_MAXIMUM, 1)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"one")
        first = subscriber.message(ack=False)
        assert first.payload == b"one"
        publisher.publish(topic, b"zero")
        publisher.ping()
        subscriber.ack(m.PUBACK, first.packet_id)
        assert subscriber.message().payload == b"zero"


def test_pings_and_subscriptions_work_while_the_quota_is_used_up(broker, unique, topic):
    """[MQTT-4.9.0-3] Other packets are not held back either."""
    with broker.connect(unique("sub"), values=[(m.RECEIVE_MAXIMUM, 1)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"one")
        publisher.publish_acked(topic, b"two")
        subscriber.message(ack=False)
        subscriber.ping()
        assert subscriber.subscribe((topic + "/b", 1)).codes == [1]


@deviates("lets more through")
def test_more_than_the_servers_receive_maximum_is_refused(broker, unique, topic):
    """[MQTT-3.3.4-7] [MQTT-3.3.4-8] DISCONNECT 0x93; what was within the limit stands."""
    with broker.connect(unique()) as client:
        limit = int(client.connack.get(m.RECEIVE_MAXIMUM, 65535))
        refused_with(client, b"".join(publish_packet(topic, b"x", qos=2, packet_id=number)
                                      for number in range(1, limit + 2)), 0x93)


def test_the_receive_maximum_is_per_exchange_not_per_connection(broker, unique, topic):
    """§4.9: every PUBACK and PUBCOMP raises the quota again."""
    with broker.connect(unique()) as client:
        limit = min(int(client.connack.get(m.RECEIVE_MAXIMUM, 65535)), 100)
        for _ in range(3):
            for number in range(1, limit + 1):
                client.publish(topic, b"x", qos=2, packet_id=number)
            for number in range(1, limit + 1):
                client.expect(m.PUBREC, packet_id=number)
                client.ack(m.PUBREL, number)
            for number in range(1, limit + 1):
                client.expect(m.PUBCOMP, packet_id=number)
        client.ping()


# --- topic alias ---------------------------------------------------------------------------------------------------
def alias_limit(client: m.RawMqtt) -> int:
    limit = int(client.connack.get(m.TOPIC_ALIAS_MAXIMUM, 0))
    if not limit:
        pytest.skip("the broker takes no topic alias")
    return limit


def test_a_topic_alias_stands_for_its_topic(broker, unique, topic):
    """[MQTT-3.3.2-8] [MQTT-3.3.2-12] §3.3.2.3.4: set, used with an empty topic, and set anew."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        limit = alias_limit(publisher)
        subscriber.subscribe((topic + "/#", 1))
        for alias in {1, limit}:
            publisher.publish(topic + "/x", b"1", qos=1, values=[(m.TOPIC_ALIAS, alias)])
            publisher.publish("", b"2", qos=1, values=[(m.TOPIC_ALIAS, alias)])
            publisher.publish(topic + "/y", b"3", qos=1, values=[(m.TOPIC_ALIAS, alias)])
            publisher.publish("", b"4", qos=1, values=[(m.TOPIC_ALIAS, alias)])
            found = subscriber.messages(4)
            assert [one.topic.removeprefix(topic) for one in found] == ["/x", "/x", "/y", "/y"]
            assert all(one.get(m.TOPIC_ALIAS) is None for one in found)      # [MQTT-3.1.2-27] we allow none


def test_a_topic_alias_does_not_outlive_its_connection(broker, unique, topic):
    """[MQTT-3.3.2-7] An alias of the connection before is unknown: protocol error."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique(), values=keep) as client:
        alias_limit(client)
        client.publish(topic, b"x", values=[(m.TOPIC_ALIAS, 1)])
        client.ping()
    with broker.connect(unique(), clean=False, values=keep) as client:
        refused_with(client, publish_packet("", b"x", values=[(m.TOPIC_ALIAS, 1)]), 0x82, 0x94)


@deviates("says 0x81")
def test_a_topic_alias_of_0_is_refused(broker, unique, topic):
    """[MQTT-3.3.2-8] DISCONNECT 0x94."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(topic, b"x", values=[(m.TOPIC_ALIAS, 0)]), 0x94)


def test_a_topic_alias_above_the_maximum_is_refused(broker, unique, topic):
    """[MQTT-3.3.2-9] DISCONNECT 0x94."""
    with broker.connect(unique()) as client:
        limit = int(client.connack.get(m.TOPIC_ALIAS_MAXIMUM, 0))
        refused_with(client, publish_packet(topic, b"x", values=[(m.TOPIC_ALIAS, limit + 1)]), 0x94)


def test_an_empty_topic_without_an_alias_is_a_protocol_error(broker, unique):
    """§3.3.2.1: DISCONNECT 0x82 (or malformed, 0x81; or 0x90)."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet("", b"x"), 0x81, 0x82, 0x90)


def test_the_server_uses_only_aliases_that_the_client_allows(broker, unique, topic):
    """[MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-10] Aliases 1 to 2 at most; every message says its topic."""
    with broker.connect(unique("sub"), values=[(m.TOPIC_ALIAS_MAXIMUM, 2)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic + "/#", 1))
        wanted = [f"{topic}/{number % 4}" for number in range(16)]
        for name in wanted:
            publisher.publish_acked(name, name.encode())
        known: dict[object, str] = {}
        for name in wanted:
            found = subscriber.message()
            alias = found.get(m.TOPIC_ALIAS)
            assert alias in (None, 1, 2)
            if found.topic:
                known[alias] = found.topic
            else:
                assert alias is not None
            assert (found.topic or known[alias]) == name == found.payload.decode()


# --- maximum packet size -------------------------------------------------------------------------------------------
def test_the_server_does_not_send_more_than_the_clients_maximum_packet_size(broker, unique, topic):
    """[MQTT-3.1.2-24] [MQTT-3.1.2-25] A packet that is too large is dropped as if delivered; the rest goes on."""
    keep = [(m.SESSION_EXPIRY, 60), (m.MAXIMUM_PACKET_SIZE, 128)]
    with broker.connect(unique("sub"), values=keep) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        for payload in (b"a", b"b" * 500, b"c", b"d" * 100_000, b"e"):
            publisher.publish_acked(topic, payload)
        publisher.publish(topic, b"f" * 500)
        publisher.publish(topic, b"g")
        found = subscriber.messages(4)
        assert [one.payload for one in found] == [b"a", b"c", b"e", b"g"]
        assert all(one.size <= 128 for one in found)


@deviates("is off by the header")
def test_the_maximum_packet_size_counts_the_whole_packet(broker, unique, topic):
    """§3.1.2.11.4: header included; a packet of exactly the maximum is sent."""
    probe = len(publish_packet(topic, b"", qos=1, packet_id=1))
    limit = probe + 50
    with broker.connect(unique("sub"), values=[(m.MAXIMUM_PACKET_SIZE, limit)]) as subscriber, \
            broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"x" * 51)
        publisher.publish_acked(topic, b"y" * 50)
        found = subscriber.message()
        assert (found.payload, found.size) == (b"y" * 50, limit)


# --- message expiry ------------------------------------------------------------------------------------------------
def a_second_passes(client: m.RawMqtt, topic: str) -> None:
    """Wait until a retained message with an expiry of 2 s is gone: more than 1 s has passed by the server's clock."""
    client.publish_acked(topic, b"clock", retain=True, values=[(m.MESSAGE_EXPIRY, 2)])
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline, "the retained message with expiry 2 s never went away"
        client.subscribe((topic, 0))
        client.ping()
        client.unsubscribe(topic)
        client.publish_acked(topic + "/echo", b"")      # a round trip through the broker
        found = [one for one in client.pending if one.kind == m.PUBLISH]
        client.pending = [one for one in client.pending if one.kind != m.PUBLISH]
        if not found:
            return
        with pytest.raises(m.NotReceived):
            client.read(time.monotonic() + 0.1)


def test_an_expired_message_is_not_delivered_and_the_interval_counts_down(broker, unique, topic):
    """[MQTT-3.3.2-5] [MQTT-3.3.2-6] While the session was offline one message expired, the other's interval shrank."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique("sub"), values=keep) as subscriber:
        subscriber.subscribe((topic, 1))
        subscriber.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"short", values=[(m.MESSAGE_EXPIRY, 1)])
        publisher.publish_acked(topic, b"long", values=[(m.MESSAGE_EXPIRY, 100)])
        publisher.publish_acked(topic, b"for ever")
        a_second_passes(publisher, unique("clock"))
    with broker.connect(unique("sub"), clean=False) as subscriber:
        found = subscriber.messages(2)
        assert [one.payload for one in found] == [b"long", b"for ever"]
        assert 60 <= found[0].get(m.MESSAGE_EXPIRY) <= 99
        assert found[1].get(m.MESSAGE_EXPIRY) is None


def test_an_immediate_delivery_keeps_the_interval(broker, unique, topic):
    """[MQTT-3.3.2-6] Received value minus the time waited, here about nothing."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, b"x", values=[(m.MESSAGE_EXPIRY, 100)])
        assert 90 <= subscriber.message().get(m.MESSAGE_EXPIRY) <= 100


def test_a_retained_message_expires(broker, unique, topic):
    """[MQTT-3.3.2-5] and its interval counts down while it is retained [MQTT-3.3.2-6]."""
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"kept", retain=True, values=[(m.MESSAGE_EXPIRY, 100)])
        a_second_passes(publisher, unique("clock"))         # proves the expiry of another one
        with broker.connect(unique("sub")) as subscriber:
            subscriber.subscribe((topic, 1))
            assert 60 <= subscriber.message().get(m.MESSAGE_EXPIRY) <= 99
        publisher.publish_acked(topic, b"", retain=True)


# --- properties that pass through ----------------------------------------------------------------------------------
PASSED = [(m.PAYLOAD_FORMAT, 1), (m.CONTENT_TYPE, "application/json; ü"), (m.RESPONSE_TOPIC, "answer/to/me"),
          (m.CORRELATION, bytes(range(256)))]
USER = [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("key", "ünïcode"), ("a", "3")]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_reach_the_subscriber_unaltered(broker, unique, topic, qos):
    """[MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]: all of them."""
    values = PASSED + [(m.USER_PROPERTY, pair) for pair in USER]
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 2))
        if qos:
            publisher.publish_acked(topic, b"{}", qos=qos, values=values)
        else:
            publisher.publish(topic, b"{}", values=values)
        found = subscriber.message()
        for name, value in PASSED:
            assert found.get(name) == value
        assert found.user_properties == USER            # order and repeats kept


def test_properties_are_kept_for_an_offline_session_and_a_retained_message(broker, unique, topic):
    """[MQTT-3.3.2-4 … 20] also when the message waited."""
    values = PASSED + [(m.USER_PROPERTY, pair) for pair in USER]
    with broker.connect(unique("sub"), values=[(m.SESSION_EXPIRY, 60)]) as subscriber:
        subscriber.subscribe((topic, 1))
        subscriber.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"{}", values=values, retain=True)
        with broker.connect(unique("sub"), clean=False) as offline, broker.connect(unique("late")) as late:
            late.subscribe((topic, 1))
            for found in (offline.message(), late.message()):
                assert found.user_properties == USER
                for name, value in PASSED:
                    assert found.get(name) == value
        publisher.publish_acked(topic, b"", retain=True)


TAKES = deviates("takes it, or closes without DISCONNECT")


@pytest.mark.parametrize("values", [
    pytest.param([(m.RESPONSE_TOPIC, "a/+/b")], marks=TAKES, id="response topic +"),
    pytest.param([(m.RESPONSE_TOPIC, "#")], marks=TAKES, id="response topic #"),
    pytest.param([(m.SUBSCRIPTION_ID, 1)], marks=TAKES, id="subscription id"),
    pytest.param([(m.CONTENT_TYPE, "a"), (m.CONTENT_TYPE, "b")], marks=TAKES, id="content type twice"),
    pytest.param([(m.MESSAGE_EXPIRY, 1), (m.MESSAGE_EXPIRY, 2)], marks=TAKES, id="expiry twice"),
    pytest.param([(m.PAYLOAD_FORMAT, 2)], marks=TAKES, id="payload format 2"),
    pytest.param([(m.SESSION_EXPIRY, 1)], id="session expiry"),
    pytest.param([(m.RECEIVE_MAXIMUM, 1)], id="receive maximum"),
    pytest.param([(0x7E, b"")], id="unknown"),
])
def test_wrong_publish_properties_are_refused(broker, unique, topic, values):
    """[MQTT-3.3.2-14] [MQTT-3.3.4-6] §2.2.2.2 §3.3.2.3: DISCONNECT 0x81 or 0x82 (0x90 for a response topic)."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(topic, b"x", qos=1, packet_id=1, values=values), 0x81, 0x82, 0x90)


# --- wrong PUBLISH packets -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [b"a/+", b"#", b"a/#/b", b"+"])
def test_a_publish_to_a_wildcard_is_refused(broker, unique, name):
    """[MQTT-3.3.2-2] 0x81, 0x82 or 0x90."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(name, b"x"), 0x81, 0x82, 0x90)


@pytest.mark.parametrize("name", [b"a\x00b", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80",
                                  b"\xc0\x80"],
                         ids=["NUL", "ff", "cut", "surrogate", "five bytes", "overlong NUL"])
def test_a_topic_that_is_not_utf8_is_refused(broker, unique, name):
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.3.2-1] Malformed, 0x81 (or 0x90)."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(name, b"x"), 0x81, 0x82, 0x90)


def test_qos_3_is_malformed(broker, unique, topic):
    """[MQTT-3.3.1-4] DISCONNECT 0x81."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(topic, b"x", qos=3, packet_id=1), 0x81, 0x9B)


@deviates("takes it")
def test_dup_with_qos_0_is_malformed(broker, unique, topic):
    """[MQTT-3.3.1-2] DUP is 0 for QoS 0."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(topic, b"x", dup=True), 0x81, 0x82)


@pytest.mark.parametrize("qos", [1, 2])
def test_packet_id_0_is_refused(broker, unique, topic, qos):
    """[MQTT-2.2.1-3] A packet id is never 0."""
    with broker.connect(unique()) as client:
        refused_with(client, publish_packet(topic, b"x", qos=qos, packet_id=0), 0x81, 0x82)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\x05abc", b"\x00\x01a", b"\x00\x01a\x05\x01"],
                         ids=["empty", "half a length", "short topic", "no properties", "short properties"])
def test_a_publish_that_ends_early_is_malformed(broker, unique, body):
    """[MQTT-4.13.1-1] DISCONNECT 0x81."""
    with broker.connect(unique()) as client:
        refused_with(client, packet(0x30, body), 0x81, 0x82)


@deviates("ignores most of them, or closes without DISCONNECT")
@pytest.mark.parametrize("first", [0x41, 0x51, 0x60, 0x71, 0xC1], ids=["PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
                                                                      "PINGREQ"])
def test_wrong_reserved_flags_are_malformed(broker, unique, first):
    """[MQTT-2.1.3-1] [MQTT-3.6.1-1] DISCONNECT 0x81."""
    with broker.connect(unique()) as client:
        refused_with(client, packet(first, b"" if first == 0xC1 else b"\x00\x01"), 0x81, 0x82)


def test_a_zero_length_payload_is_a_message(broker, unique, topic):
    """§3.3.3: valid, also with a topic of one slash."""
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic + "/", 1))
        publisher.publish_acked(topic + "/", b"")
        found = subscriber.message()
        assert (found.topic, found.payload) == (topic + "/", b"")


def test_a_large_message_passes(broker, unique, topic):
    """§3.3.3 / §1.5.5: 500 kB, a remaining length of three bytes."""
    payload = bytes(range(256)) * 2000
    with broker.connect(unique("sub")) as subscriber, broker.connect(unique("pub")) as publisher:
        subscriber.subscribe((topic, 1))
        publisher.publish_acked(topic, payload)
        assert subscriber.message().payload == payload


# --- retained ------------------------------------------------------------------------------------------------------
def test_a_retained_message_is_stored_replaced_and_cleared(broker, unique, topic):
    """[MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] One per topic; an empty payload removes it."""
    def retained() -> list[bytes]:
        with broker.connect(unique("look")) as look:
            look.subscribe((topic, 1))
            look.publish_acked(topic, b"sentinel")
            found = look.messages_until(b"sentinel")
            assert all(one.retain for one in found)
            return [one.payload for one in found]

    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"not retained")
        assert retained() == []
        publisher.publish_acked(topic, b"1", retain=True)
        publisher.publish_acked(topic, b"2", retain=True)
        assert retained() == [b"2"]
        publisher.publish_acked(topic, b"not retained")
        assert retained() == [b"2"]
        publisher.publish_acked(topic, b"", retain=True)
        assert retained() == []


def test_retained_messages_match_wildcards(broker, unique):
    """[MQTT-3.3.1-9] Every matching topic's message comes, with its own topic and QoS."""
    base = unique("base")
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        for name in ("a/b", "a/c", "a", "x/b"):
            publisher.publish_acked(f"{base}/{name}", name.encode(), retain=True, qos=2)
        subscriber.subscribe((f"{base}/a/#", 1))
        found = subscriber.messages(3)
        assert {one.topic for one in found} == {f"{base}/a", f"{base}/a/b", f"{base}/a/c"}
        assert all(one.retain and one.qos == 1 for one in found)
        subscriber.unsubscribe(f"{base}/a/#")
        subscriber.subscribe((f"{base}/+/b", 0))
        assert {one.topic for one in subscriber.messages(2)} == {f"{base}/a/b", f"{base}/x/b"}
        for name in ("a/b", "a/c", "a", "x/b"):
            publisher.publish_acked(f"{base}/{name}", b"", retain=True)


def retained_for(subscriber: m.RawMqtt, publisher: m.RawMqtt, topic: str, options: int) -> list[bytes]:
    """Subscribe with these options; the payloads that come before a sentinel."""
    subscriber.subscribe((topic, options))
    publisher.publish_acked(topic, b"sentinel")
    return [one.payload for one in subscriber.messages_until(b"sentinel")]


def test_retain_handling(broker, unique, topic):
    """[MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] 0: always, 1: only for a new subscription, 2: never."""
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        publisher.publish_acked(topic, b"kept", retain=True)
        assert retained_for(subscriber, publisher, topic, 1 | m.RETAIN_NEVER) == []
        assert retained_for(subscriber, publisher, topic, 1 | m.RETAIN_IF_NEW) == []
        assert retained_for(subscriber, publisher, topic, 1) == [b"kept"]
        assert retained_for(subscriber, publisher, topic, 1) == [b"kept"]
        subscriber.unsubscribe(topic)
        assert retained_for(subscriber, publisher, topic, 1 | m.RETAIN_IF_NEW) == [b"kept"]
        assert retained_for(subscriber, publisher, topic, 1 | m.RETAIN_IF_NEW) == []
        publisher.publish_acked(topic, b"", retain=True)


def test_the_retain_flag_of_a_forwarded_message(broker, unique, topic):
    """[MQTT-3.3.1-12] [MQTT-3.3.1-13] Retain As Published 0: flag 0. 1: as published."""
    with broker.connect(unique("plain")) as plain, broker.connect(unique("rap")) as kept, \
            broker.connect(unique("pub")) as publisher:
        plain.subscribe((topic, 1))
        kept.subscribe((topic, 1 | m.RETAIN_AS_PUBLISHED))
        publisher.publish_acked(topic, b"1", retain=True)
        publisher.publish_acked(topic, b"2", retain=False)
        publisher.publish(topic, b"3", retain=True)
        assert [one.retain for one in plain.messages(3)] == [False, False, False]
        assert [one.retain for one in kept.messages(3)] == [True, False, True]
        publisher.publish_acked(topic, b"", retain=True)


def test_a_qos0_retained_message_is_kept(broker, unique, topic):
    """[MQTT-3.3.1-5] for QoS 0 too (it may be dropped later, but not at once)."""
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        publisher.publish(topic, b"kept", retain=True)
        publisher.ping()
        subscriber.subscribe((topic, 2))
        found = subscriber.message()
        assert (found.payload, found.qos, found.retain) == (b"kept", 0, True)
        publisher.publish_acked(topic, b"", retain=True)


def test_the_clearing_message_reaches_current_subscribers(broker, unique, topic):
    """§3.3.1.3: a zero-length retained PUBLISH is forwarded as usual."""
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        publisher.publish_acked(topic, b"kept", retain=True)
        subscriber.subscribe((topic, 1))
        assert subscriber.message().retain is True
        publisher.publish_acked(topic, b"", retain=True)
        found = subscriber.message()
        assert (found.payload, found.retain) == (b"", False)


def test_pubacks_may_be_written_long_or_short(broker, unique, topic):
    """§3.4.2: PUBACK of two, three or more bytes is accepted, with properties too."""
    with broker.connect(unique("pub")) as publisher, broker.connect(unique("sub")) as subscriber:
        subscriber.subscribe((topic, 1))
        tails = [b"", b"\x00", b"\x00\x00", b"\x00" + m.properties([(m.REASON_STRING, "ok"),
                                                                   (m.USER_PROPERTY, ("a", "b"))])]
        for tail in tails:
            publisher.publish_acked(topic, b"x")
            found = subscriber.message(ack=False)
            subscriber.send(packet(0x40, struct.pack("!H", found.packet_id) + tail))
        subscriber.ping()
