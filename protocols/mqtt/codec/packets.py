"""The control packets that a client sends, decoded. Values only; decode.py makes them, connection.py reads them."""
from __future__ import annotations

import msgspec

from protocols.mqtt.codec.properties import PropertyDict

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = 1, 2, 3, 4, 5, 6, 7, 8
SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 9, 10, 11, 12, 13, 14, 15

NAMES = ("reserved", "connect", "connack", "publish", "puback", "pubrec", "pubrel", "pubcomp", "subscribe", "suback",
         "unsubscribe", "unsuback", "pingreq", "pingresp", "disconnect", "auth")

VERSION_3_1 = 3             # known, and refused
VERSION_3_1_1 = 4
VERSION_5 = 5


class Will(msgspec.Struct, frozen=True):
    """The will message as it stands in CONNECT. properties is empty in 3.1.1."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: PropertyDict


class Connect(msgspec.Struct, frozen=True):
    version: int
    clean_start: bool
    keep_alive_s: int
    client_id: str                  # "" when the server is to choose
    will: Will | None
    username: str | None
    password: bytes | None
    properties: PropertyDict


class Publish(msgspec.Struct, frozen=True):
    """topic is "" when a topic alias stands for it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    packet_id: int                  # 0 when qos is 0
    properties: PropertyDict


class Ack(msgspec.Struct, frozen=True):
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: int
    packet_id: int
    code: int


class FilterRequest(msgspec.Struct, frozen=True):
    """One topic filter of a SUBSCRIBE."""

    pattern: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0        # 0 send retained events, 1 only if the subscription is new, 2 never


class Subscribe(msgspec.Struct, frozen=True):
    packet_id: int
    filters: tuple[FilterRequest, ...]
    subscription_id: int | None


class Unsubscribe(msgspec.Struct, frozen=True):
    packet_id: int
    patterns: tuple[str, ...]


class PingRequest(msgspec.Struct, frozen=True):
    pass


class Disconnect(msgspec.Struct, frozen=True):
    code: int
    properties: PropertyDict


class Auth(msgspec.Struct, frozen=True):
    code: int
    properties: PropertyDict


Packet = Connect | Publish | Ack | Subscribe | Unsubscribe | PingRequest | Disconnect | Auth
