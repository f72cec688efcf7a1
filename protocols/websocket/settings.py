"""Settings of MQTT over WebSocket on the HTTP listener. mesh/config.py decodes TOML into them."""
from __future__ import annotations

import msgspec


class WebSocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds have a unit in their name; docs/configuration.md lists them."""

    allowed_origins: tuple[str, ...] = ()           # beside the own host: "https://app.example"; "*": all
    message_bytes_max: int = 2 * 1024 * 1024        # one message; a 1 MiB packet with room; above it 1009
    close_timeout_s: float = 2.0                    # how long we wait for the peer's answer to our Close
