"""MQTT as the node knows it: its settings, and how its server is made."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.mqtt.settings import MqttSettings
from protocols.server import Parts, ProtocolServer, ProtocolSpec

WIRE_NUMBERS = ("receive_maximum", "topic_alias_max", "topic_alias_out_max", "keep_alive_default_s", "keep_alive_max_s")


def check(settings: MqttSettings) -> Iterator[str]:
    for name in WIRE_NUMBERS:
        if getattr(settings, name) > 65_535:
            yield f"mqtt.{name}: expected at most 65535, which is what fits in the protocol's field"
    if settings.receive_maximum < 1:
        yield "mqtt.receive_maximum: expected at least 1"
    if settings.write_buffer_low_bytes > settings.write_buffer_high_bytes:
        yield "mqtt.write_buffer_low_bytes: expected at most mqtt.write_buffer_high_bytes"


def make(parts: Parts, settings: MqttSettings) -> ProtocolServer:
    from protocols.mqtt.protocol import MqttProtocol

    return MqttProtocol(parts, settings)


MQTT = ProtocolSpec(
    "mqtt", "MQTT", settings=MqttSettings, make=make, check=check, port=1883, schemes=("mqtt", "mqtts"))
