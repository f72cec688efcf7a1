"""Bytes -> MQTT control packets: MQTT 3.1.1 and 5.0, chapters 2 and 3. Sans-IO.

Called by connection.py only, with a whole packet: data[position:end] is what follows the fixed header.

    | type:4 flags:4 | remaining length: 1..4 bytes | variable header | payload |

Bad input raises MalformedPacket or ProtocolViolation with the reason code of MQTT 5, never IndexError or
UnicodeDecodeError. MQTT 3.1.1 has no codes: its connections are just closed.
"""
from __future__ import annotations

from typing import NoReturn

from protocols.errors import MalformedPacket, ProtocolViolation
from protocols.mqtt.codec import packets, properties, reasons
from protocols.mqtt.codec.filters import parse_share
from protocols.mqtt.codec.packets import (
    VERSION_3_1,
    VERSION_3_1_1,
    VERSION_5,
    Ack,
    Auth,
    Connect,
    Disconnect,
    FilterRequest,
    Packet,
    PingRequest,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
)
from protocols.mqtt.codec.properties import PropertyDict, decode_binary, decode_properties, decode_text
from protocols.mqtt.settings import MqttSettings
from routing.errors import TopicError, TopicLimitError
from routing.topic import check_filter

# Flags of byte 1 that each type must have; PUBLISH has its own meaning for them [MQTT-2.1.3-1]
_FLAGS = {
    packets.CONNECT: 0, packets.PUBACK: 0, packets.PUBREC: 0, packets.PUBREL: 2, packets.PUBCOMP: 0,
    packets.SUBSCRIBE: 2, packets.UNSUBSCRIBE: 2, packets.PINGREQ: 0, packets.DISCONNECT: 0, packets.AUTH: 0,
}                               # [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]


def _malformed(text: str) -> NoReturn:
    raise MalformedPacket(reasons.MALFORMED_PACKET, text)


def _violation(text: str) -> NoReturn:
    raise ProtocolViolation(reasons.PROTOCOL_ERROR, text)


def decode_packet(first: int, data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Packet:
    """Decode any packet but CONNECT. first: byte 1 of the packet."""
    kind = first >> 4
    if kind == packets.PUBLISH:
        return decode_publish(first & 15, data, position, end, version, limits)
    expected = _FLAGS.get(kind)
    if expected is None:
        if kind == 0:
            _malformed("packet type 0 is reserved")
        _violation(f"a client does not send {packets.NAMES[kind].upper()}")
    if kind == packets.AUTH and version != VERSION_5:
        _malformed("packet type 15 is reserved in MQTT 3.1.1")
    if first & 15 != expected:
        _malformed(f"wrong flags in {packets.NAMES[kind].upper()}")
    if packets.PUBACK <= kind <= packets.PUBCOMP:
        return decode_ack(kind, data, position, end, version, limits)
    if kind == packets.SUBSCRIBE:
        return decode_subscribe(data, position, end, version, limits)
    if kind == packets.UNSUBSCRIBE:
        return decode_unsubscribe(data, position, end, version, limits)
    if kind == packets.PINGREQ:
        if position != end:
            _malformed("PINGREQ has no body")
        return PingRequest()
    if kind == packets.DISCONNECT:
        return decode_disconnect(data, position, end, version, limits)
    if kind == packets.AUTH:
        return decode_auth(data, position, end, limits)
    _violation("a second CONNECT")                                                      # [MQTT-3.1.0-2]


def protocol_version(data: bytes, position: int, end: int) -> int:
    """Version of a CONNECT: 4 or 5; any other level byte as it stands, which the caller refuses.

    MQTT 3.1 ("MQIsdp", level 3) is refused too: its client ids, its SUBACK and what it says of wildcards are others.
    Raises MalformedPacket when the protocol name is another one [MQTT-3.1.2-1].
    """
    name, position = decode_binary(data, position, end)
    if position >= end or name not in (b"MQTT", b"MQIsdp"):
        _malformed("protocol name is not MQTT")
    if name == b"MQIsdp":
        return VERSION_3_1 if data[position] == VERSION_3_1 else 0
    return data[position]


def decode_connect(data: bytes, position: int, end: int, limits: MqttSettings) -> Connect:
    """Decode a CONNECT of version 4 or 5.                                                   Source: MQTT 5 §3.1"""
    _, position = decode_binary(data, position, end)
    if position + 4 > end:
        _malformed("CONNECT is cut short")
    version = VERSION_5 if data[position] == VERSION_5 else VERSION_3_1_1
    flags = data[position + 1]
    keep_alive_s = data[position + 2] << 8 | data[position + 3]
    position += 4
    _check_connect_flags(flags, version)
    found: PropertyDict = {}
    if version == VERSION_5:
        found, position = decode_properties(data, position, end, properties.FOR_CONNECT, limits.user_properties_max)
        if properties.AUTHENTICATION_DATA in found and properties.AUTHENTICATION_METHOD not in found:
            _violation("authentication data without a method")
    client_id, position = _client_id(data, position, end)                       # [MQTT-3.1.3-1] [MQTT-3.1.3-3]
    will = None
    if flags & 0x04:                                                                    # [MQTT-3.1.2-9]
        will, position = _decode_will(flags, data, position, end, version, limits)
    username = password = None
    if flags & 0x80:                                                                    # [MQTT-3.1.2-17]
        username, position = decode_text(data, position, end)                           # [MQTT-3.1.3-12]
    if flags & 0x40:                                                                    # [MQTT-3.1.2-19]
        password, position = decode_binary(data, position, end)
    if position != end:                                                 # [MQTT-3.1.2-16] [MQTT-3.1.2-18]
        _malformed("bytes after the end of CONNECT")
    return Connect(version, bool(flags & 0x02), keep_alive_s, client_id, will, username, password, found)


def _check_connect_flags(flags: int, version: int) -> None:
    if flags & 0x01:                                                                    # [MQTT-3.1.2-3]
        _malformed("the reserved connect flag is set")
    if flags & 0x04:
        if flags & 0x18 == 0x18:                                                        # [MQTT-3.1.2-12]
            _malformed("will QoS 3")
    elif flags & 0x38:                                                  # [MQTT-3.1.2-11] [MQTT-3.1.2-13]
        _malformed("will QoS or will retain without a will")
    if version == VERSION_3_1_1 and flags & 0xC0 == 0x40:                       # MQTT 3.1.1 [MQTT-3.1.2-22]
        _malformed("a password without a user name")


def _client_id(data: bytes, position: int, end: int) -> tuple[str, int]:
    """The client id. NUL, control and non-characters are a client id that is not valid, not bytes that are not.

    Sources: [MQTT-3.1.3-4] [MQTT-3.1.3-5] [MQTT-3.1.3-8]. Any other UTF-8 text up to 65,535 bytes will do.
    """
    raw, after = decode_binary(data, position, end)
    try:
        client_id = raw.decode()
    except UnicodeDecodeError:
        _malformed("the client id is not valid UTF-8")
    if not client_id.isascii() or not client_id.isprintable():
        for char in client_id:
            point = ord(char)
            if point < 0x20 or 0x7F <= point < 0xA0 or point & 0xFFFE == 0xFFFE or 0xFDD0 <= point < 0xFDF0:
                raise ProtocolViolation(reasons.CLIENT_ID_NOT_VALID, "the client id has a forbidden character")
    return client_id, after


def _decode_will(
    flags: int, data: bytes, position: int, end: int, version: int, limits: MqttSettings,
) -> tuple[Will, int]:
    found: PropertyDict = {}
    if version == VERSION_5:
        found, position = decode_properties(data, position, end, properties.FOR_WILL, limits.user_properties_max)
    topic, position = decode_text(data, position, end)                                  # [MQTT-3.1.3-11]
    payload, position = decode_binary(data, position, end)
    return Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20), found), position


def decode_publish(flags: int, data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Publish:
    """Decode a PUBLISH.                                                                     Source: MQTT 5 §3.3

    flags: low 4 bits of byte 1 (DUP, QoS, RETAIN). The topic's grammar is checked by the caller.
    """
    qos = flags >> 1 & 3
    if qos == 3:                                                                        # [MQTT-3.3.1-4]
        _malformed("QoS 3")
    if flags & 0x08 and qos == 0:                                                       # [MQTT-3.3.1-2]
        _malformed("DUP with QoS 0")
    topic, position = decode_text(data, position, end)                                  # [MQTT-3.3.2-1]
    packet_id = 0
    if qos:                                                                             # [MQTT-2.2.1-2]
        packet_id, position = _packet_id(data, position, end)
    found: PropertyDict = {}
    if version == VERSION_5:
        found, position = decode_properties(data, position, end, properties.FOR_PUBLISH, limits.user_properties_max)
    return Publish(topic, data[position:end], qos, bool(flags & 1), bool(flags & 8), packet_id, found)


def _packet_id(data: bytes, position: int, end: int) -> tuple[int, int]:
    if position + 2 > end:
        _malformed("packet is cut short")
    packet_id = data[position] << 8 | data[position + 1]
    if packet_id == 0:                                                                  # [MQTT-2.2.1-3]
        _violation("packet id 0")
    return packet_id, position + 2


def decode_ack(kind: int, data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Ack:
    """Decode a PUBACK, PUBREC, PUBREL or PUBCOMP.                                   Source: MQTT 5 §3.4 to §3.7"""
    packet_id, position = _packet_id(data, position, end)
    if position == end:
        return Ack(kind, packet_id, reasons.SUCCESS)
    if version != VERSION_5:
        _malformed("bytes after the packet id")
    code = data[position]
    allowed = reasons.PUBACK_CODES if kind <= packets.PUBREC else reasons.PUBREL_CODES
    if code not in allowed:         # [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        _violation(f"reason code 0x{code:02x} in {packets.NAMES[kind].upper()}")
    position += 1
    if position < end:
        _, position = decode_properties(data, position, end, properties.FOR_ACK, limits.user_properties_max)
        if position != end:
            _malformed("bytes after the properties")
    return Ack(kind, packet_id, code)


def decode_subscribe(data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Subscribe:
    """Decode a SUBSCRIBE.                                                                    Source: MQTT 5 §3.8"""
    packet_id, position = _packet_id(data, position, end)
    subscription_id = None
    if version == VERSION_5:
        found, position = decode_properties(data, position, end, properties.FOR_SUBSCRIBE, limits.user_properties_max)
        identifier = found.get(properties.SUBSCRIPTION_ID)
        subscription_id = identifier if isinstance(identifier, int) else None
    filters: list[FilterRequest] = []
    while position < end:
        pattern, position = _filter(data, position, end)                                # [MQTT-3.8.3-1]
        if position >= end:
            _malformed("a topic filter without options")
        filters.append(_filter_request(pattern, data[position], version))
        position += 1
    if not filters:                                                                     # [MQTT-3.8.3-2]
        _violation("SUBSCRIBE without a topic filter")
    if len(filters) > limits.filters_per_packet_max:
        raise ProtocolViolation(reasons.QUOTA_EXCEEDED, f"more than {limits.filters_per_packet_max} filters")
    return Subscribe(packet_id, tuple(filters), subscription_id)


def _filter(data: bytes, position: int, end: int) -> tuple[str, int]:
    """A topic filter. One that breaks the grammar is a malformed packet; one with more levels than are taken here is
    for the SUBACK to refuse.

    Sources: [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    """
    pattern, position = decode_text(data, position, end)
    try:
        check_filter(pattern)
        parse_share(pattern)
    except TopicLimitError:
        pass
    except TopicError as error:
        _malformed(str(error))
    return pattern, position


def _filter_request(pattern: str, options: int, version: int) -> FilterRequest:
    qos = options & 3
    if qos == 3:
        _violation("subscription with QoS 3")
    if options & (0xC0 if version == VERSION_5 else 0xFC):                              # [MQTT-3.8.3-5]
        _malformed("reserved bits in the subscription options")
    handling = options >> 4 & 3
    if handling == 3:
        _violation("retain handling 3")
    no_local = bool(options & 4)
    if no_local and pattern.startswith("$share/"):                                      # [MQTT-3.8.3-4]
        _violation("no local on a shared subscription")
    return FilterRequest(pattern, qos, no_local, bool(options & 8), handling)


def decode_unsubscribe(data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Unsubscribe:
    """Decode an UNSUBSCRIBE.                                                               Source: MQTT 5 §3.10"""
    packet_id, position = _packet_id(data, position, end)
    if version == VERSION_5:
        _, position = decode_properties(data, position, end, properties.FOR_UNSUBSCRIBE, limits.user_properties_max)
    patterns: list[str] = []
    while position < end:
        pattern, position = _filter(data, position, end)                                # [MQTT-3.10.3-1]
        patterns.append(pattern)
    if not patterns:                                                                    # [MQTT-3.10.3-2]
        _violation("UNSUBSCRIBE without a topic filter")
    if len(patterns) > limits.filters_per_packet_max:
        raise ProtocolViolation(reasons.QUOTA_EXCEEDED, f"more than {limits.filters_per_packet_max} filters")
    return Unsubscribe(packet_id, tuple(patterns))


def decode_disconnect(data: bytes, position: int, end: int, version: int, limits: MqttSettings) -> Disconnect:
    """Decode a DISCONNECT.                                                                 Source: MQTT 5 §3.14"""
    if position == end:
        return Disconnect(reasons.SUCCESS, {})
    if version != VERSION_5:
        _malformed("DISCONNECT has no body in MQTT 3.1.1")
    code = data[position]
    if code not in reasons.CLIENT_DISCONNECT_CODES:                                     # [MQTT-3.14.2-1]
        _violation(f"reason code 0x{code:02x} in DISCONNECT")
    found: PropertyDict = {}
    position += 1
    if position < end:
        found, position = decode_properties(data, position, end, properties.FOR_DISCONNECT, limits.user_properties_max)
        if position != end:
            _malformed("bytes after the properties")
    return Disconnect(code, found)


def decode_auth(data: bytes, position: int, end: int, limits: MqttSettings) -> Auth:
    """Decode an AUTH.                                                                      Source: MQTT 5 §3.15"""
    if position == end:
        return Auth(reasons.SUCCESS, {})
    code = data[position]
    if code not in (reasons.SUCCESS, reasons.CONTINUE_AUTHENTICATION, reasons.RE_AUTHENTICATE):     # [MQTT-3.15.2-1]
        _violation(f"reason code 0x{code:02x} in AUTH")
    found: PropertyDict = {}
    position += 1
    if position < end:
        found, position = decode_properties(data, position, end, properties.FOR_AUTH, limits.user_properties_max)
        if position != end:
            _malformed("bytes after the properties")
    return Auth(code, found)
