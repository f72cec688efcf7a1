"""AMQP 1.0 as the node knows it: its settings, and how its server is made."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.amqp.sasl import KNOWN
from protocols.amqp.settings import Amqp10Settings
from protocols.authentication.sasl import unknown_mechanisms
from protocols.server import Parts, ProtocolServer, ProtocolSpec

FRAME_MIN_BYTES = 512           # AMQP 1.0 §2.7.1
NUMBER_MAX = 65_536             # channels


def check(settings: Amqp10Settings) -> Iterator[str]:
    for name in ("frame_bytes_max", "pre_auth_bytes_max", "open_bytes_max"):
        if getattr(settings, name) < FRAME_MIN_BYTES:
            yield f"amqp10.{name}: expected at least {FRAME_MIN_BYTES}, the smallest frame that every peer may send"
    for name in ("sessions_max", "handles_max", "session_window", "link_credit", "unsettled_max", "batch_events_max"):
        if getattr(settings, name) < 1:
            yield f"amqp10.{name}: expected at least 1"
    if settings.sessions_max > NUMBER_MAX:
        yield f"amqp10.sessions_max: expected at most {NUMBER_MAX}, which is what fits in the protocol's field"
    if settings.write_buffer_low_bytes > settings.write_buffer_high_bytes:
        yield "amqp10.write_buffer_low_bytes: expected at most amqp10.write_buffer_high_bytes"
    yield from unknown_mechanisms("amqp10", settings.mechanisms, KNOWN)
    if settings.identify_as and " " not in settings.identify_as:
        yield 'amqp10.identify_as: expected a product and a version, such as "RabbitMQ 4.2"'


def make(parts: Parts, settings: Amqp10Settings) -> ProtocolServer:
    from protocols.amqp.protocol import Amqp10Protocol

    return Amqp10Protocol(parts, settings)


AMQP10 = ProtocolSpec("amqp10", "AMQP 1.0", settings=Amqp10Settings, make=make, check=check, listens=False)
