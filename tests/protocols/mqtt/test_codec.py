"""Decoder and encoders with the bytes written out."""
from __future__ import annotations

import pytest

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt import handshake
from protocols.mqtt.codec import decode, encode, packets, reasons
from protocols.mqtt.codec.packets import Ack, Connect, Disconnect, FilterRequest, Publish, Subscribe, Unsubscribe, Will
from protocols.mqtt.settings import MqttSettings
from routing.errors import Reason
from tests.support import rawmqtt as m

SETTINGS = MqttSettings()


def read(data, version=5):
    """Decode one packet written as hex or bytes."""
    data = bytes.fromhex(data) if isinstance(data, str) else data
    assert data[1] == len(data) - 2
    if data[0] >> 4 == packets.CONNECT:
        return decode.decode_connect(data, 2, len(data), SETTINGS)
    return decode.decode_packet(data[0], data, 2, len(data), version, SETTINGS)


def code_of(data, version=5):
    with pytest.raises(ProtocolViolation) as caught:
        read(data, version)
    return caught.value.wire_code


# -- CONNECT


def test_the_smallest_connects():
    """[MQTT-3.1.3-3] [MQTT-3.1.3-4]"""
    assert read("100d 0004 4d515454 04 02 003c 0001 63") == Connect(4, True, 60, "c", None, None, None, {})
    assert read("100e 0004 4d515454 05 00 0000 00 0001 63") == Connect(5, False, 0, "c", None, None, None, {})


def test_a_connect_with_everything():
    """[MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-11] [MQTT-3.1.3-12]"""
    found = read("1028 0004 4d515454 05 f6 000a 05 11 0000000f 0001 63"
                 "05 18 00000007 0001 77 0002 ff00 0001 75 0003 00ff70")
    assert found == Connect(5, True, 10, "c", Will("w", b"\xff\0", 2, True, {0x18: 7}), "u", b"\0\xffp", {0x11: 15})


@pytest.mark.parametrize("data", [
    "100d 0004 4d515454 04 c2 003c 0001 63",            # user name and password announced, but not there
    "1010 0004 4d515454 04 02 003c 0001 63 000175",     # a user name that was not announced
    "100f 0004 4d515454 04 42 003c 0001 63 0000",       # 3.1.1: a password alone
    "100d 0004 4d515454 04 06 003c 0001 63",            # a will announced, but not there
    "100c 0004 4d515454 04 02 003c 0001",               # cut short
    "1009 0004 4d515454 04 02 00",
])
def test_connects_that_lie(data):
    """[MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT-3.1.4-1]"""
    assert code_of(data) == 0x81


def test_password_without_user_name_is_fine_in_5():
    assert read("1012 0004 4d515454 05 42 003c 00 0001 63 0002 7077").password == b"pw"


# -- PUBLISH


def test_publishes():
    """[MQTT-2.2.1-2] [MQTT-3.3.2-1]"""
    assert read("3004 0001 61 78", 4) == Publish("a", b"x", 0, False, False, 0, {})
    assert read("3d06 0001 61 0007 78", 4) == Publish("a", b"x", 2, True, True, 7, {})
    assert read("3307 0001 61 0007 00 78") == Publish("a", b"x", 1, True, False, 7, {})
    assert read("300c 0001 61 08 02 00000005 03 0000") .properties == {2: 5, 3: ""}


def test_byte_order_marks_are_text_like_any_other():
    """[MQTT-1.5.4-3]"""
    assert read(b"\x30\x06\x00\x03\xef\xbb\xbf\x00").topic == "\ufeff"


@pytest.mark.parametrize("data", [
    "3805 0001 61 00 78", "3605 0001 61 0001", "3003 0005 61", "3201 00", "3004 0001 61 05"])
def test_malformed_publishes(data):
    """[MQTT-3.3.1-2] [MQTT-3.3.1-4]"""
    assert code_of(data) == 0x81


@pytest.mark.parametrize("pair", [(b"\xff", b"v"), (b"n", b"\xff"), (b"n\0", b"v"), (b"n", b"\0")])
def test_user_properties_are_text(pair):
    """[MQTT-1.5.7-1]"""
    with pytest.raises(MalformedPacket):
        read(m.publish_packet("a", values=[(m.USER_PROPERTY, pair)]))


@pytest.mark.parametrize("name", [m.CONTENT_TYPE, m.RESPONSE_TOPIC])
def test_content_type_and_response_topic_are_text(name):
    """[MQTT-3.3.2-13] [MQTT-3.3.2-19]"""
    assert code_of(m.publish_packet("a", values=[(name, b"\xc3\x28")])) == 0x81


# -- acks and the rest


def test_acks():
    firsts = {packets.PUBACK: "40", packets.PUBREC: "50", packets.PUBREL: "62", packets.PUBCOMP: "70"}
    for kind, first in firsts.items():
        assert read(f"{first}02 1234") == Ack(kind, 0x1234, 0)
        assert read(f"{first}03 1234 00") == Ack(kind, 0x1234, 0)
        assert read(f"{first}04 1234 00 00") == Ack(kind, 0x1234, 0)
        assert code_of(f"{first}03 1234 55") == 0x82
        assert code_of(f"{first}03 1234 00", 4) == 0x81
        assert code_of(f"{first}01 12") == 0x81
    assert read("4009 0001 87 05 1f 0002 6e6f").code == 0x87


@pytest.mark.parametrize(("first", "good", "bad"), [
    (0x40, 0x10, 0x92), (0x50, 0x97, 0x18), (0x62, 0x92, 0x80), (0x70, 0x92, 0x10)])
def test_codes_of_acks(first, good, bad):
    """[MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]"""
    assert read(bytes((first, 3, 0, 1, good))).code == good
    assert code_of(bytes((first, 3, 0, 1, bad))) == 0x82


@pytest.mark.parametrize("first", [0x41, 0x51, 0x60, 0x71, 0x80, 0x83, 0xA0, 0xC1, 0xE1, 0xF1])
def test_flags_that_are_reserved(first):
    """[MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]"""
    assert code_of(bytes((first, 0))) == 0x81


def test_subscribe_and_unsubscribe():
    """[MQTT-3.8.3-1] [MQTT-3.10.3-1]"""
    assert read("820d 0001 00 0001 61 2e 0003 622f63 00") == Subscribe(
        1, (FilterRequest("a", 2, True, True, 2), FilterRequest("b/c", 0)), None)
    assert read("820a 0001 03 0b ac02 0001 61 01").subscription_id == 300
    assert read("8206 0001 0001 61 01", 4) == Subscribe(1, (FilterRequest("a", 1),), None)
    assert code_of("8206 0001 0001 61 04", 4) == 0x81
    assert read("a208 0005 00 0003 612f23") == Unsubscribe(5, ("a/#",))
    assert code_of("a207 0005 00 0002 6123") == 0x81
    assert code_of("8209 0001 02 0b00 0001 61 01") == 0x82
    assert code_of("8207 0001 00 0001 ff 01") == 0x81
    assert code_of("a206 0001 00 0001 ff") == 0x81


def test_disconnects():
    """[MQTT-3.14.2-1]"""
    assert read("e000") == Disconnect(0, {})
    assert read("e001 04") == Disconnect(4, {})
    assert read("e007 00 05 11 00000009").properties == {0x11: 9}
    assert code_of("e001 8e") == 0x82
    assert code_of("e001 00", 4) == 0x81


def test_auth():
    """[MQTT-3.15.2-1]"""
    assert read("f000").code == 0
    assert read("f006 18 04 15 0001 78").code == 0x18
    assert code_of("f001 01") == 0x82


def test_limits_on_counts():
    small = MqttSettings(user_properties_max=3, filters_per_packet_max=3)
    data = m.publish_packet("a", values=[(m.USER_PROPERTY, ("n", "v"))] * 4)
    with pytest.raises(ProtocolViolation) as caught:
        decode.decode_packet(data[0], data, 2, len(data), 5, small)
    assert caught.value.wire_code == 0x97
    data = m.subscribe_packet(1, [("a", 0)] * 4)
    with pytest.raises(ProtocolViolation) as caught:
        decode.decode_packet(data[0], data, 2, len(data), 5, small)
    assert caught.value.wire_code == 0x97


# -- encoders


def test_what_the_server_says():
    """[MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-2.2.2-1] [MQTT-2.2.1-5] [MQTT-2.2.1-6] [MQTT-3.2.2-1] [MQTT-3.2.2-6]"""
    assert encode.connack_v3(True, 0) == b"\x20\x02\x01\x00"
    assert encode.connack_v3(True, 5) == b"\x20\x02\x00\x05"
    assert encode.connack_v5(True, 0, {}) == b"\x20\x03\x01\x00\x00"
    assert encode.connack_v5(True, 0x87, {}) == b"\x20\x03\x00\x87\x00"
    assert encode.ack(packets.PUBACK, 7) == b"\x40\x02\x00\x07"
    assert encode.ack(packets.PUBREL, 7) == b"\x62\x02\x00\x07"
    assert encode.ack(packets.PUBREL, 7, 0x92) == b"\x62\x03\x00\x07\x92"
    assert encode.ack(packets.PUBREC, 7, 0x87, {0x1F: "no"}) == b"\x50\x09\x00\x07\x87\x05\x1f\x00\x02no"
    assert encode.ack(packets.PUBREC, 7, 0x87, {0x1F: "no"}, version=4) == b"\x50\x02\x00\x07"
    assert encode.acks(packets.PUBCOMP, encode.raw([1, 2])) == b"\x70\x02\x00\x01\x70\x02\x00\x02"
    assert encode.suback(9, [0, 0x8F], 5) == b"\x90\x05\x00\x09\x00\x00\x8f"
    assert encode.suback(9, [0, 0x80], 4) == b"\x90\x04\x00\x09\x00\x80"
    assert encode.unsuback(9, [0, 0x11], 5) == b"\xb0\x05\x00\x09\x00\x00\x11"
    assert encode.unsuback(9, [0], 4) == b"\xb0\x02\x00\x09"
    assert encode.disconnect(0) == b"\xe0\x00"
    assert encode.disconnect(0x8B) == b"\xe0\x01\x8b"
    assert encode.publish_head(0x0B, b"a/b", 130) == b"\x3b\x87\x01\x00\x03a/b"


def test_reason_strings_are_bounded():
    assert len(encode.disconnect(0x82, "x" * 70_000)) < 300


def test_every_refusal_has_a_code_that_its_packet_may_carry():
    """[MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.9.3-2] [MQTT-3.8.4-7]"""
    connack = {0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
               0x9B, 0x9C, 0x9D, 0x9F}
    for reason in Reason:
        assert reasons.puback_code(reason) in reasons.PUBACK_CODES
        assert reasons.suback_code(reason) in reasons.SUBACK_CODES
        code = reasons.CODE_OF_REASON[reason]
        assert handshake.refusal(5, code, "", None)[3] in connack
        assert reasons.connack_code(code) == code or code == 0x8B or code == 0x8F
        assert handshake.refusal(4, code, "", None) in [b""] + [bytes((0x20, 2, 0, back)) for back in range(1, 6)]


def test_a_refusing_connack_is_cut_to_the_clients_maximum():
    """[MQTT-3.2.2-19] [MQTT-3.2.2-20]"""
    assert len(handshake.refusal(5, 0x87, "x" * 100, 1000)) > 100
    assert handshake.refusal(5, 0x87, "x" * 100, 50) == b"\x20\x03\x00\x87\x00"
    assert handshake.refusal(0, 0x87, "", None) == b""
