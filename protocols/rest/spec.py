"""The HTTP listener as the node knows it: its settings, and how its server is made."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.rest.cors_settings import check_cors
from protocols.rest.ratelimit import check_rate_limits
from protocols.rest.settings import RestSettings
from protocols.server import Parts, ProtocolServer, ProtocolSpec


def check(settings: RestSettings) -> Iterator[str]:
    yield from check_cors(settings.cors)
    yield from check_rate_limits(settings.rate_limits)


def make(parts: Parts, settings: RestSettings) -> ProtocolServer:
    from protocols.rest.protocol import RestProtocol

    return RestProtocol(parts, settings)


HTTP = ProtocolSpec(
    "http", "REST, SSE, MQTT over WebSocket", settings=RestSettings, make=make, check=check, port=8080,
    schemes=("http", "https"))
