"""MQTT 5 clause by clause, from outside: CONNECT, CONNACK, sessions, wills, keep-alive, AUTH (§3.1, §3.2, §3.15)."""
from __future__ import annotations

import struct
import time

import pytest

from tests.support import rawmqtt as m
from tests.support.rawmqtt import ConnectionClosed, RawMqtt, Will, connect_packet, packet, properties, text


def refused(broker, data: bytes, version: int = 5) -> m.Packet | None:
    """Send bytes on a new connection; the server has to close. Returns what it said before."""
    with broker.socket(version) as client:
        client.send(data)
        return client.expect_close()


def assert_refused(broker, data: bytes, *codes: int) -> None:
    """Closed, after a CONNACK or DISCONNECT with one of the codes, or in silence, which a server may (§4.13.1)."""
    said = refused(broker, data)
    assert said is None or said.code in codes, said


# --- accepting and refusing ----------------------------------------------------------------------------------------
def test_clean_start_is_answered_by_connack_without_a_session(broker, unique):
    """[MQTT-3.2.2-2] [MQTT-3.2.0-1] CONNACK is the first packet, session present 0 for a clean start."""
    with broker.connect(unique()) as client:
        assert client.connack.session_present is False
        assert client.connack.code == 0


def test_connack_states_only_legal_capabilities(broker, unique):
    """§3.2.2.3: receive maximum and maximum packet size are never 0, flags are 0 or 1, no property comes twice."""
    with broker.connect(unique()) as client:
        names = [name for name, _ in client.connack.values if name != m.USER_PROPERTY]
        assert len(names) == len(set(names))
        assert client.connack.get(m.RECEIVE_MAXIMUM, 65535) > 0
        assert client.connack.get(m.MAXIMUM_PACKET_SIZE, 1) > 0
        assert client.connack.get(m.MAXIMUM_QOS, 0) in (0, 1)
        for flag in (m.RETAIN_AVAILABLE, m.WILDCARD_AVAILABLE, m.SUBSCRIPTION_ID_AVAILABLE, m.SHARED_AVAILABLE):
            assert client.connack.get(flag, 1) in (0, 1)


@pytest.mark.meshgate_only("the specification leaves these capabilities open")
def test_every_optional_feature_is_available(broker, unique):
    """§3.2.2.3.4, .5, .11, .12, .13: QoS 2, retain, wildcards, subscription ids and shared subscriptions are there."""
    with broker.connect(unique()) as client:
        assert client.connack.get(m.MAXIMUM_QOS, 2) == 2
        for flag in (m.RETAIN_AVAILABLE, m.WILDCARD_AVAILABLE, m.SUBSCRIPTION_ID_AVAILABLE, m.SHARED_AVAILABLE):
            assert client.connack.get(flag, 1) == 1
        assert client.connack.get(m.TOPIC_ALIAS_MAXIMUM, 0) > 0


def test_an_empty_client_id_is_given_a_unique_one(broker):
    """[MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] Assigned Client Identifier, different for each."""
    with broker.connect("") as one, broker.connect("") as two:
        names = {one.connack.get(m.ASSIGNED_CLIENT_ID), two.connack.get(m.ASSIGNED_CLIENT_ID)}
        assert len(names) == 2 and all(names)


def test_an_assigned_client_id_can_be_used_to_resume(broker):
    """§3.2.2.3.7: the assigned id is the key of the session."""
    with broker.connect("", values=[(m.SESSION_EXPIRY, 60)]) as one:
        name = one.connack.get(m.ASSIGNED_CLIENT_ID)
        one.disconnect()
    with broker.connect(name, clean=False) as again:
        assert again.connack.session_present
        assert again.connack.get(m.ASSIGNED_CLIENT_ID) is None


def test_a_given_client_id_is_not_assigned_again(broker, unique):
    """§3.2.2.3.7: the property is there only when the server chose the id."""
    with broker.connect(unique()) as client:
        assert client.connack.get(m.ASSIGNED_CLIENT_ID) is None


@pytest.mark.parametrize("size", [1, 23])
def test_client_ids_of_1_to_23_letters_are_accepted(broker, unique, size):
    """[MQTT-3.1.3-5] The server must allow ids of 1 to 23 bytes of 0-9a-zA-Z."""
    name = ("Z" if size == 1 else unique().replace("-", "x").ljust(23, "Z"))[:size]
    with broker.connect(name):
        pass


def test_a_long_client_id_with_other_characters_is_accepted(broker, unique):
    """[MQTT-3.1.3-5] allows more: 200 characters, dots, spaces and non-ASCII letters."""
    with broker.connect(unique("gerät.1 ü") + "x" * 150):
        pass


def test_the_first_packet_must_be_connect(broker):
    """[MQTT-3.1.0-1] Anything else is closed, and before CONNECT the server says nothing."""
    assert refused(broker, b"\xc0\x00") is None
    assert refused(broker, m.publish_packet("a", b"x")) is None


@pytest.mark.mosquitto_deviates("closes without DISCONNECT")
def test_a_second_connect_is_a_protocol_error(broker, unique):
    """[MQTT-3.1.0-2] DISCONNECT 0x82 and close."""
    with broker.connect(unique()) as client:
        client.send(connect_packet(unique()))
        said = client.expect_close()
        assert said is not None and said.code == 0x82


def test_a_wrong_protocol_name_is_refused(broker):
    """[MQTT-3.1.2-1] Close, or CONNACK 0x84."""
    assert_refused(broker, connect_packet("x", protocol=b"hj"), 0x84)
    assert_refused(broker, connect_packet("x", protocol=b"mqtt"), 0x84)


def test_an_unknown_protocol_version_is_refused(broker):
    """[MQTT-3.1.2-2] CONNACK 0x84 (or 0x01 in the form of 3.1.1) and close."""
    with broker.socket() as client:
        client.send(connect_packet("x", version=6))
        answer = client.read_to_end()
        assert answer == b"" or (answer[0] == 0x20 and answer[2] == 0 and answer[3] in (0x01, 0x84)), answer


def test_the_reserved_connect_flag_is_refused(broker, unique):
    """[MQTT-3.1.2-3] Malformed."""
    assert_refused(broker, connect_packet(unique(), flags=0x03), 0x81)


@pytest.mark.parametrize("flags", [0x0A, 0x12, 0x22], ids=["qos 1", "qos 2", "retain"])
def test_will_qos_and_retain_need_the_will_flag(broker, unique, flags):
    """[MQTT-3.1.2-11] [MQTT-3.1.2-13] Without a will both are 0."""
    assert_refused(broker, connect_packet(unique(), flags=flags), 0x81, 0x82)


def test_will_qos_3_is_malformed(broker, unique):
    """[MQTT-3.1.2-12]."""
    assert_refused(broker, connect_packet(unique(), will=Will("w", qos=3)), 0x81)


def test_an_unclean_v5_connect_with_an_empty_client_id_is_answered(broker):
    """[MQTT-3.1.3-8] A server may refuse (0x85) or assign; it may not hang."""
    with broker.connect("", clean=False, accept=False) as client:
        assert client.connack.code in (0x00, 0x85)


@pytest.mark.parametrize("name", [b"a\x00b", b"\xc3\x28", b"\xed\xa0\x80"], ids=["NUL", "bad UTF-8", "surrogate"])
def test_a_client_id_that_is_not_a_utf8_string_is_refused(broker, name):
    """[MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4] Malformed, or 0x85."""
    assert_refused(broker, connect_packet(name), 0x81, 0x85)


@pytest.mark.parametrize("values", [
    [(m.RECEIVE_MAXIMUM, 0)],
    [(m.MAXIMUM_PACKET_SIZE, 0)],
    [(m.SESSION_EXPIRY, 1), (m.SESSION_EXPIRY, 1)],
    [(m.RECEIVE_MAXIMUM, 5), (m.RECEIVE_MAXIMUM, 5)],
    [(m.REQUEST_PROBLEM, 2)],
    [(m.REQUEST_RESPONSE, 2)],
    [(m.TOPIC_ALIAS, 1)],
    [(m.SUBSCRIPTION_ID, 1)],
    pytest.param([(m.AUTH_DATA, b"x")], marks=pytest.mark.mosquitto_deviates("accepts it")),
    [(0x7F, b"")],
], ids=["receive maximum 0", "packet size 0", "expiry twice", "receive maximum twice", "problem information 2",
        "response information 2", "topic alias", "subscription id", "auth data alone", "unknown"])
def test_wrong_connect_properties_are_refused(broker, unique, values):
    """§3.1.2.11: value 0, twice, or not of CONNECT: 0x82 (or 0x81 where malformed), and no session."""
    assert_refused(broker, connect_packet(unique(), values=values), 0x81, 0x82)


def test_a_property_length_past_the_packet_is_malformed(broker, unique):
    """[MQTT-4.13.1-1] The declared length of the properties does not fit."""
    body = text("MQTT") + b"\x05\x02\x00\x00" + b"\x7f" + text(unique())
    assert_refused(broker, packet(0x10, body), 0x81)


def test_bytes_after_the_connect_payload_are_malformed(broker, unique):
    """[MQTT-3.1.3-1] The payload has exactly the fields that the flags announce."""
    data = connect_packet(unique())
    assert_refused(broker, packet(0x10, data[2:] + b"\x00\x01x"), 0x81, 0x82)


def test_a_remaining_length_of_five_bytes_is_malformed(broker):
    """[MQTT-1.5.5-1] §1.5.5: a variable byte integer has at most four bytes."""
    assert_refused(broker, b"\x10\xff\xff\xff\xff\x01", 0x81)


# --- sessions ------------------------------------------------------------------------------------------------------
@pytest.mark.mosquitto_deviates("closes without DISCONNECT 0x8E")
def test_take_over_disconnects_the_old_connection(broker, unique):
    """[MQTT-3.1.4-3] The old connection gets DISCONNECT 0x8E and is closed."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)]) as old, \
            broker.connect(unique(), clean=False, values=[(m.SESSION_EXPIRY, 0)]) as new:
        said = old.expect_close()
        assert said is not None and said.code == 0x8E
        assert new.connack.session_present
        new.ping()


def test_a_session_survives_its_connection(broker, unique, topic):
    """[MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.2.2-3] Subscriptions and messages of QoS 1 and 2 are kept."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with broker.connect(unique(), clean=False, values=keep) as client:
        assert client.connack.session_present is False
        client.subscribe((topic, 2))
        client.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"one", qos=1)
        publisher.publish_acked(topic, b"two", qos=2)
        publisher.publish_acked(topic, b"three", qos=1)
    with broker.connect(unique(), clean=False) as client:
        assert client.connack.session_present is True
        found = client.messages(3)
        assert [(one.payload, one.qos) for one in found] == [(b"one", 1), (b"two", 2), (b"three", 1)]
        assert not any(one.dup for one in found)


def test_a_clean_start_discards_the_session(broker, unique, topic):
    """[MQTT-3.1.2-4] No subscription and no message of the old session is left."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)]) as client:
        client.subscribe((topic, 1))
        client.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish_acked(topic, b"old")
        with broker.connect(unique()) as client:
            assert client.connack.session_present is False
            publisher.publish_acked(topic, b"unsubscribed")
            client.subscribe((topic, 1))
            publisher.publish_acked(topic, b"new")
            assert client.message().payload == b"new"


def test_session_expiry_absent_ends_the_session_with_the_connection(broker, unique, topic):
    """§3.1.2.11.2: absent means 0."""
    with broker.connect(unique()) as client:
        client.subscribe((topic, 1))
        client.disconnect()
    with broker.connect(unique(), clean=False) as client:
        assert client.connack.session_present is False


def test_a_session_ends_after_its_expiry_and_its_delayed_will_goes_out(broker, unique, topic):
    """[MQTT-3.1.3-9] [MQTT-3.1.2-8] §3.1.2.5: the will is sent at the end of the session, before a longer delay."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        client = broker.connect(unique(), values=[(m.SESSION_EXPIRY, 1)],
                                will=Will(topic, b"ended", qos=1, properties=[(m.WILL_DELAY, 600)]))
        client.drop()
        assert watcher.message().payload == b"ended"
    with broker.connect(unique(), clean=False) as client:
        assert client.connack.session_present is False


def test_disconnect_may_shorten_the_session(broker, unique):
    """§3.14.2.2.2: Session Expiry Interval 0 in DISCONNECT ends it."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 600)]) as client:
        client.disconnect(0, [(m.SESSION_EXPIRY, 0)])
    with broker.connect(unique(), clean=False) as client:
        assert client.connack.session_present is False


def test_disconnect_may_lengthen_a_session_that_had_an_expiry(broker, unique):
    """§3.14.2.2.2: from 1 to 600 seconds; the session is still there."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 1)]) as client:
        client.disconnect(0, [(m.SESSION_EXPIRY, 600)])
    with broker.connect(unique(), clean=False) as client:
        assert client.connack.session_present is True


def test_disconnect_must_not_revive_a_session_of_expiry_0(broker, unique):
    """§3.14.2.2.2: non-zero after a zero in CONNECT is a protocol error, 0x82."""
    with broker.connect(unique()) as client:
        client.send(packet(0xE0, b"\x00" + properties([(m.SESSION_EXPIRY, 5)])))
        said = client.expect_close()
        assert said is not None and said.code == 0x82


def test_qos_0_is_not_required_to_wait_but_never_breaks_the_session(broker, unique, topic):
    """§4.1: messages of QoS 0 may or may not be kept for an offline session; QoS 1 behind them is."""
    with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)]) as client:
        client.subscribe((topic, 1))
        client.disconnect()
    with broker.connect(unique("pub")) as publisher:
        publisher.publish(topic, b"zero")
        publisher.publish_acked(topic, b"one")
    with broker.connect(unique(), clean=False) as client:
        assert [one.payload for one in client.messages_until(b"one")] in ([], [b"zero"])


# --- wills ---------------------------------------------------------------------------------------------------------
def test_a_will_is_sent_when_the_connection_breaks(broker, unique, topic):
    """[MQTT-3.1.2-8] with its QoS, payload and properties [MQTT-3.3.2-4 … 20]."""
    sent = [(m.PAYLOAD_FORMAT, 1), (m.CONTENT_TYPE, "text/plain"), (m.RESPONSE_TOPIC, "answer/here"),
            (m.CORRELATION, b"\x00\x01"), (m.USER_PROPERTY, ("b", "2")), (m.USER_PROPERTY, ("a", "1"))]
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 2))
        broker.connect(unique(), will=Will(topic, b"broken", qos=1, properties=sent)).drop()
        found = watcher.message()
    assert (found.payload, found.qos, found.retain) == (b"broken", 1, False)
    for name, value in sent[:4]:
        assert found.get(name) == value
    assert found.user_properties == [("b", "2"), ("a", "1")]


def test_a_will_is_sent_after_a_protocol_error(broker, unique, topic):
    """[MQTT-3.1.2-8] §3.1.2.5: the server closes because of an error, so the will goes out."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 0))
        with broker.connect(unique(), will=Will(topic, b"error")) as client:
            client.send(b"\xf3\x00")
            client.expect_close()
        assert watcher.message().payload == b"error"


def test_no_will_after_a_normal_disconnect(broker, unique, topic):
    """[MQTT-3.14.4-3] [MQTT-3.1.2-10] Reason 0x00 deletes the will."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        with broker.connect(unique(), will=Will(topic, b"no", qos=1)) as client:
            client.disconnect()
        watcher.publish_acked(topic, b"sentinel")
        assert watcher.messages_until(b"sentinel") == []


def test_a_will_on_request(broker, unique, topic):
    """§3.14.2.1 reason 0x04: disconnect with will message."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 0))
        with broker.connect(unique(), will=Will(topic, b"asked for")) as client:
            client.disconnect(0x04)
        assert watcher.message().payload == b"asked for"


def test_a_will_may_be_retained(broker, unique, topic):
    """[MQTT-3.1.2-15] Will Retain 1: a later subscriber gets it."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 0))
        broker.connect(unique(), will=Will(topic, b"kept", retain=True)).drop()
        assert watcher.message().retain is False
    with broker.connect(unique("later")) as later:
        later.subscribe((topic, 0))
        found = later.message()
        assert (found.payload, found.retain) == (b"kept", True)
        later.publish_acked(topic, b"", retain=True)


def test_a_reconnect_within_the_will_delay_cancels_the_will(broker, unique, topic):
    """[MQTT-3.1.3-9] §3.1.3.2.2: the client is back before the delay has passed; session kept."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1), (topic + "/marker", 1))
        client = broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)],
                                will=Will(topic, b"no", qos=1, properties=[(m.WILL_DELAY, 2)]))
        # Another client whose will has a longer delay is the clock: when it fires, the first would have fired.
        clock = broker.connect(unique("clock"), values=[(m.SESSION_EXPIRY, 60)],
                               will=Will(topic + "/marker", b"clock", qos=1, properties=[(m.WILL_DELAY, 3)]))
        client.drop()
        clock.drop()
        with broker.connect(unique(), clean=False, values=[(m.SESSION_EXPIRY, 60)]) as back:
            assert back.connack.session_present
            assert watcher.messages_until(b"clock") == []


def test_a_will_delay_is_waited_for(broker, unique, topic):
    """§3.1.3.2.2: not before the delay, soon after it."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        client = broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)],
                                will=Will(topic, b"late", qos=1, properties=[(m.WILL_DELAY, 2)]))
        began = time.monotonic()
        client.drop()
        assert watcher.message().payload == b"late"
        assert time.monotonic() - began >= 1.0      # a server may count in whole seconds


@pytest.mark.mosquitto_deviates("take-over drops the will")
def test_a_clean_start_ends_the_session_and_sends_the_will(broker, unique, topic):
    """§3.1.3.2.2 / [MQTT-3.1.4-3]: the old session ends by the new clean start, so its delayed will is due."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        old = broker.connect(unique(), values=[(m.SESSION_EXPIRY, 600)],
                             will=Will(topic, b"taken over", qos=1, properties=[(m.WILL_DELAY, 600)]))
        with broker.connect(unique(), clean=True):
            assert watcher.message().payload == b"taken over"
        old.drop()


@pytest.mark.mosquitto_deviates("take-over drops the will")
def test_take_over_sends_a_will_without_delay(broker, unique, topic):
    """§3.1.4: the old connection is closed by the server, not by the client's DISCONNECT: the will goes out."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        with broker.connect(unique(), values=[(m.SESSION_EXPIRY, 60)], will=Will(topic, b"will", qos=1)), \
                broker.connect(unique(), clean=False):
            assert watcher.message().payload == b"will"


# --- keep-alive ----------------------------------------------------------------------------------------------------
def test_pingreq_is_answered(broker, unique):
    """[MQTT-3.12.4-1]."""
    with broker.connect(unique(), keep_alive_s=60) as client:
        client.ping()
        client.ping()


@pytest.mark.mosquitto_deviates("closes without DISCONNECT 0x8D")
def test_silence_past_one_and_a_half_keep_alives_is_closed_and_the_will_sent(broker, unique, topic):
    """[MQTT-3.1.2-22] DISCONNECT 0x8D (§4.13.2), will sent; not before 1.5 keep-alives."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 0))
        began = time.monotonic()
        with broker.connect(unique(), keep_alive_s=1, will=Will(topic, b"silent")) as client:
            said = client.expect_close()
            assert time.monotonic() - began >= 1.4
            assert said is not None and said.code == 0x8D
        assert watcher.message().payload == b"silent"


def test_any_packet_keeps_a_connection_alive(broker, unique, topic):
    """[MQTT-3.1.2-20] A PUBLISH counts as well as a PINGREQ: for 5 seconds with keep-alive 2 nothing is closed."""
    with broker.connect(unique(), keep_alive_s=2) as client:
        began = time.monotonic()
        while time.monotonic() - began < 5.0:
            client.publish_acked(topic, b"x")
            with pytest.raises(m.NotReceived):
                client.next(deadline_s=0.2)         # the server says nothing, above all no DISCONNECT
        client.ping()


def test_a_server_keep_alive_replaces_the_wish(broker, unique):
    """[MQTT-3.1.2-21] [MQTT-3.2.2-21] If the server states one, it is positive and at most what it can keep."""
    with broker.connect(unique(), keep_alive_s=65535) as client:
        stated = client.connack.get(m.SERVER_KEEP_ALIVE)
        assert stated is None or 0 < stated <= 65535
        client.ping()


# --- response and problem information ------------------------------------------------------------------------------
def test_response_information_only_on_request(broker, unique):
    """[MQTT-3.1.2-28] With Request Response Information 0 (the default) CONNACK has none."""
    with broker.connect(unique()) as client:
        assert client.connack.get(m.RESPONSE_INFORMATION) is None
    with broker.connect(unique(), values=[(m.REQUEST_RESPONSE, 0)]) as client:
        assert client.connack.get(m.RESPONSE_INFORMATION) is None
    with broker.connect(unique(), values=[(m.REQUEST_RESPONSE, 1)]) as client:
        assert client.connack.get(m.RESPONSE_INFORMATION) != ""      # given or not, as the server likes


def test_problem_information_off_means_no_reason_string_on_acks(broker, unique):
    """[MQTT-3.1.2-29] On packets other than PUBLISH, CONNACK and DISCONNECT."""
    with broker.connect(unique(), values=[(m.REQUEST_PROBLEM, 0)]) as client:
        answers = [client.subscribe((unique("a"), 1), ("$share/g/" + unique("b"), 1)),
                   client.unsubscribe(unique("never")), client.publish_acked(unique("none"), b"x")]
        client.ack(m.PUBREL, 999)
        answers.append(client.expect(m.PUBCOMP, packet_id=999))
        for answer in answers:
            assert answer.get(m.REASON_STRING) is None and not answer.user_properties


# --- AUTH ----------------------------------------------------------------------------------------------------------
def test_an_unknown_authentication_method_is_refused(broker, unique):
    """[MQTT-4.12.0-1] CONNACK 0x8C (or 0x87)."""
    with broker.connect(unique(), values=[(m.AUTH_METHOD, "NOT-A-METHOD")], accept=False) as client:
        assert client.connack.code in (0x8C, 0x87)
        client.expect_close()


@pytest.mark.mosquitto_deviates("closes without DISCONNECT")
def test_auth_without_a_method_in_connect_is_a_protocol_error(broker, unique):
    """[MQTT-4.12.0-6] [MQTT-4.12.0-7] The client did not name a method, so it must not send AUTH: 0x82."""
    with broker.connect(unique()) as client:
        client.send(packet(0xF0, b"\x18" + properties([(m.AUTH_METHOD, "X")])))
        said = client.expect_close()
        assert said is not None and said.code in (0x82, 0x8C)


@pytest.mark.mosquitto_deviates("closes without DISCONNECT")
def test_auth_with_wrong_flags_is_malformed(broker, unique):
    """[MQTT-3.15.1-1] Reserved bits of AUTH are 0."""
    with broker.connect(unique()) as client:
        client.send(b"\xf1\x00")
        said = client.expect_close()
        assert said is not None and said.code in (0x81, 0x82)


def test_a_password_without_a_username_is_legal(broker, unique):
    """§3.1.2.9: version 5 allows it. An anonymous broker may accept or refuse credentials, but not as malformed."""
    with broker.connect(unique(), password=b"secret", accept=False) as client:
        assert client.connack.code in (0x00, 0x86, 0x87)


# --- packets in pieces ---------------------------------------------------------------------------------------------
def test_packets_may_arrive_byte_by_byte(broker, unique, topic):
    """§2: packets are a byte stream; TCP segments mean nothing."""
    with broker.socket() as client:
        for byte in connect_packet(unique()):
            client.send(bytes([byte]))
        assert client.expect(m.CONNACK).code == 0
        for byte in m.subscribe_packet(7, [(topic, 1)]) + m.publish_packet(topic, b"bytes", qos=1, packet_id=8):
            client.send(bytes([byte]))
        assert client.expect(m.SUBACK).codes == [1]
        assert client.message().payload == b"bytes"


def test_packets_may_follow_connect_at_once(broker, unique, topic):
    """§3.1.4: a client may send more packets without waiting for CONNACK; they are processed after it."""
    with broker.socket() as client:
        client.send(connect_packet(unique()) + m.subscribe_packet(1, [(topic, 1)])
                    + m.publish_packet(topic, b"early", qos=1, packet_id=2) + b"\xc0\x00")
        assert client.next().kind == m.CONNACK
        assert client.expect(m.SUBACK).codes == [1]
        assert client.expect(m.PUBACK).packet_id == 2
        assert client.message().payload == b"early"
        client.expect(m.PINGRESP)


def test_packets_after_a_refused_connect_are_not_processed(broker, unique, topic):
    """[MQTT-3.1.4-6] The server must not process data sent after a CONNECT that it rejected."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        assert_refused(broker, connect_packet(unique(), values=[(m.RECEIVE_MAXIMUM, 0)])
                       + m.publish_packet(topic, b"no", qos=1, packet_id=1), 0x82, 0x81)
        watcher.publish_acked(topic, b"sentinel")
        assert watcher.messages_until(b"sentinel") == []


def test_nothing_is_processed_after_disconnect(broker, unique, topic):
    """[MQTT-3.14.4-1] [MQTT-3.14.4-2] No packet counts after DISCONNECT."""
    with broker.connect(unique("watch")) as watcher:
        watcher.subscribe((topic, 1))
        with broker.connect(unique()) as client:
            client.send(b"\xe0\x00" + m.publish_packet(topic, b"no", qos=1, packet_id=1))
            with pytest.raises((ConnectionClosed, AssertionError)):
                client.expect(m.PUBACK, deadline_s=5)
        watcher.publish_acked(topic, b"sentinel")
        assert watcher.messages_until(b"sentinel") == []


def test_disconnect_with_wrong_flags_is_malformed(broker, unique):
    """[MQTT-3.14.1-1]."""
    with broker.connect(unique()) as client:
        client.send(b"\xe1\x00")
        said = client.expect_close()
        assert said is None or said.code == 0x81


@pytest.mark.mosquitto_deviates("ignores them, or closes without DISCONNECT")
@pytest.mark.parametrize("kind", [m.CONNACK, m.SUBACK, m.UNSUBACK, m.PINGRESP],
                         ids=["CONNACK", "SUBACK", "UNSUBACK", "PINGRESP"])
def test_packets_of_a_server_are_refused_from_a_client(broker, unique, kind):
    """§2.1.2 (table of directions): DISCONNECT 0x82 (or 0x81), close."""
    bodies = {m.CONNACK: b"\x00\x00\x00", m.SUBACK: b"\x00\x01\x00\x00", m.UNSUBACK: b"\x00\x01\x00\x00"}
    with broker.connect(unique()) as client:
        client.send(packet(kind << 4, bodies.get(kind, b"")))
        said = client.expect_close()
        assert said is not None and said.code in (0x81, 0x82)


def test_packet_type_0_is_refused(broker, unique):
    """§2.1.2: type 0 is reserved and forbidden."""
    with broker.connect(unique()) as client:
        client.send(b"\x00\x00")
        said = client.expect_close()
        assert said is not None and said.code in (0x81, 0x82)


def test_a_packet_over_the_servers_maximum_is_refused(broker, unique, topic):
    """§3.2.2.3.6: DISCONNECT 0x95."""
    with broker.connect(unique()) as client:
        limit = client.connack.get(m.MAXIMUM_PACKET_SIZE)
        if limit is None:
            pytest.skip("the broker states no maximum")
        client.send(b"\x30" + m.variable_integer(limit + 1) + struct.pack("!H", 1) + b"a" + b"\x00")
        try:
            for _ in range(0, limit, 65536):
                client.send(b"x" * 65536)
        except OSError:
            pass
        said = client.expect_close()
        assert said is None or said.code == 0x95


def test_reauthentication_is_not_needed_to_stay_connected(broker, unique):
    """§4.12: a client without a method is never asked for one."""
    with broker.connect(unique()) as client:
        client.ping()
        assert all(found.kind != m.AUTH for found in client.pending)


def test_raw_client_types_are_independent():
    """The test client shares no module with the project: it would hide a mistake of the codec."""
    assert RawMqtt.__module__ == "tests.support.rawmqtt"
    with open(m.__file__) as source:
        assert "protocols" not in source.read().split('"""', 2)[2]
