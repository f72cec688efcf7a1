"""CONNECT: what the client asks for against what it gets, and the CONNACK that says so. Sans-IO, values only."""
from __future__ import annotations

import msgspec

from protocols.errors import ProtocolViolation
from protocols.mqtt import convert
from protocols.mqtt.codec import encode, properties, reasons
from protocols.mqtt.codec.packets import VERSION_5, Connect
from protocols.mqtt.codec.properties import PropertyDict
from protocols.mqtt.settings import MqttSettings

NEVER_EXPIRES = 0xFFFFFFFF
KEEP_ALIVE_UNLIMITED_S = 65_535                 # what the wire can say, so no limit
RECEIVE_MAXIMUM_DEFAULT = 65_535                # when the client names none (§3.1.2.11.3)


class Terms(msgspec.Struct, frozen=True):
    """What holds for a connection."""

    keep_alive_s: int                           # 0: off
    expiry_s: int                               # of the session, after our maximum
    window: int                                 # QoS 1 and 2 deliveries in flight to the client
    packet_bytes_max: int | None                # that the client takes; None: no limit
    aliases_max: int                            # that we may use towards the client
    problem_information: bool                   # reason strings are welcome on acks
    response_information: bool                  # wanted
    will_delay_s: int


def negotiate(connect: Connect, settings: MqttSettings) -> Terms:
    """Terms of an acceptable CONNECT. Raises ProtocolViolation with the code for CONNACK when it is not."""
    found = connect.properties
    if properties.AUTHENTICATION_METHOD in found:       # [MQTT-4.12.0-1] none is known; [MQTT-4.12.0-4]
        raise ProtocolViolation(reasons.BAD_AUTHENTICATION_METHOD, "no authentication method is supported here")
    if connect.will is not None:
        convert.check_will(connect.will)
    if connect.version == VERSION_5:
        expiry_s = _number(found, properties.SESSION_EXPIRY, 0)
    else:
        expiry_s = 0 if connect.clean_start else settings.session_expiry_v3_s
    keep_alive_s = connect.keep_alive_s or settings.keep_alive_default_s
    limit_s = settings.keep_alive_max_s
    if connect.version == VERSION_5 and limit_s < KEEP_ALIVE_UNLIMITED_S:       # MQTT 3.1.1 cannot be told
        keep_alive_s = min(keep_alive_s or limit_s, limit_s)
    will_delay_s = _number(connect.will.properties, properties.WILL_DELAY, 0) if connect.will is not None else 0
    packet_bytes_max = found.get(properties.MAXIMUM_PACKET_SIZE)
    return Terms(
        keep_alive_s=keep_alive_s,                                                      # [MQTT-3.2.2-22]
        expiry_s=min(expiry_s, settings.session_expiry_max_s),
        window=min(_number(found, properties.RECEIVE_MAXIMUM, RECEIVE_MAXIMUM_DEFAULT),     # [MQTT-3.3.4-9]
                   settings.in_flight_max, encode.PACKET_ID_OUT_MAX // 2),
        packet_bytes_max=packet_bytes_max if isinstance(packet_bytes_max, int) else None,
        aliases_max=min(_number(found, properties.TOPIC_ALIAS_MAXIMUM, 0), settings.topic_alias_out_max),
        problem_information=_number(found, properties.REQUEST_PROBLEM_INFO, 1) == 1,    # [MQTT-3.1.2-29]
        response_information=_number(found, properties.REQUEST_RESPONSE_INFO, 0) == 1,
        will_delay_s=min(will_delay_s, settings.will_delay_max_s),
    )


def _number(found: PropertyDict, identifier: int, default: int) -> int:
    value = found.get(identifier)
    return value if isinstance(value, int) else default


def connack(connect: Connect, terms: Terms, client_id: str, session_present: bool, settings: MqttSettings) -> bytes:
    """The CONNACK that accepts [MQTT-3.1.4-5]. client_id: ours when the client sent none [MQTT-3.1.3-7]."""
    if connect.version != VERSION_5:
        return encode.connack_v3(session_present, reasons.V3_ACCEPTED)
    found: PropertyDict = {
        properties.RECEIVE_MAXIMUM: settings.receive_maximum,
        properties.MAXIMUM_PACKET_SIZE: settings.packet_bytes_max,
        properties.TOPIC_ALIAS_MAXIMUM: settings.topic_alias_max,
    }
    asked_s = _number(connect.properties, properties.SESSION_EXPIRY, 0)
    if terms.expiry_s != asked_s:
        found[properties.SESSION_EXPIRY] = terms.expiry_s
    if not connect.client_id:                                                           # [MQTT-3.2.2-16]
        found[properties.ASSIGNED_CLIENT_ID] = client_id
    if terms.keep_alive_s != connect.keep_alive_s:
        found[properties.SERVER_KEEP_ALIVE] = terms.keep_alive_s                        # [MQTT-3.2.2-21]
    if terms.response_information:                                                      # [MQTT-3.1.2-28]
        found[properties.RESPONSE_INFO] = f"{settings.response_prefix}/{client_id}"
    packet = encode.connack_v5(session_present, reasons.SUCCESS, found)
    for optional in (properties.RESPONSE_INFO, properties.TOPIC_ALIAS_MAXIMUM):     # without the latter: no aliases
        if terms.packet_bytes_max is not None and len(packet) > terms.packet_bytes_max:
            found.pop(optional, None)
            packet = encode.connack_v5(session_present, reasons.SUCCESS, found)
    return packet


def refusal(version: int, code: int, text: str, packet_bytes_max: int | None) -> bytes:
    """The CONNACK that refuses, or b"" when there is no word for it [MQTT-3.2.2-8].

    version: as far as it is known. An unknown one is answered in the form of 3.1.1, which every later client has had to
    understand so far [MQTT-3.1.2-2].
    """
    if version == 0:
        return b""
    if version != VERSION_5:
        v3_code = reasons.v3_connack_code(code)
        return encode.connack_v3(False, v3_code) if v3_code is not None else b""
    code = reasons.connack_code(code)
    packet = encode.connack_v5(False, code, encode.reason_property(text) if text else {})
    if packet_bytes_max is not None and len(packet) > packet_bytes_max:     # [MQTT-3.2.2-19] [MQTT-3.2.2-20]
        packet = encode.connack_v5(False, code, {})
    return packet
