"""AMQP 0-9-1 as the node knows it: its settings, and how its server is made."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.amqp091.connections.handshake import KNOWN
from protocols.amqp091.settings import AmqpSettings
from protocols.authentication.sasl import unknown_mechanisms
from protocols.server import Parts, ProtocolServer, ProtocolSpec

FRAME_MIN_BYTES = 4096          # AMQP 0-9-1 §4.2.3
NUMBER_MAX = 65_535


def check(settings: AmqpSettings) -> Iterator[str]:
    for name in ("channels_max", "heartbeat_s"):
        if getattr(settings, name) > NUMBER_MAX:
            yield f"amqp.{name}: expected at most {NUMBER_MAX}, which is what fits in the protocol's field"
    if settings.channels_max < 1:
        yield "amqp.channels_max: expected at least 1"
    for name in ("frame_bytes_max", "pre_auth_bytes_max"):
        if getattr(settings, name) < FRAME_MIN_BYTES:
            yield f"amqp.{name}: expected at least {FRAME_MIN_BYTES}, the smallest frame of the protocol"
    yield from unknown_mechanisms("amqp", settings.mechanisms, KNOWN)
    if not settings.vhosts:
        yield "amqp.vhosts: expected at least one name"
    if settings.write_buffer_low_bytes > settings.write_buffer_high_bytes:
        yield "amqp.write_buffer_low_bytes: expected at most amqp.write_buffer_high_bytes"


def make(parts: Parts, settings: AmqpSettings) -> ProtocolServer:
    from protocols.amqp091.protocol import AmqpProtocol

    return AmqpProtocol(parts, settings)


AMQP = ProtocolSpec(
    "amqp", "AMQP 0-9-1", settings=AmqpSettings, make=make, check=check, port=5672, schemes=("amqp", "amqps"))
