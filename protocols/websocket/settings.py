"""Settings of the WebSockets on the HTTP listener. mesh/configuration/config.py decodes TOML into them."""
from __future__ import annotations

import msgspec


class WebSocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds have a unit in their name; docs/configuration.md lists them. Those after close_timeout_s are of /v1/ws."""

    allowed_origins: tuple[str, ...] = ()           # beside the own host: "https://app.example"; "*": all
    message_bytes_max: int = 2 * 1024 * 1024        # one message; a 1 MiB packet with room; above it 1009
    close_timeout_s: float = 2.0                    # how long we wait for the peer's answer to our Close

    clients_max: int = 10_000                       # connections; beyond it 503, as with SSE readers
    login_timeout_s: float = 10.0                   # to the first message, where users are configured; design: 10 s
    login_bytes_max: int = 64 * 1024                # a message before that; the pre-authentication cap of the design
    subscriptions_max: int = 64                     # of one connection
    publishes_max: int = 1_000                      # under way on one connection; beyond it is not read
    requests_max: int = 100                         # of one connection that wait for an answer
    request_timeout_max_s: float = 300.0            # a longer timeout_ms is cut to this
    unacked_max: int = 1_000                        # deliveries of one durable subscription
    consumers_max: int = 10_000                     # durable consumers of the node, from which on none is made here
    send_buffer_bytes: int = 32 * 1024              # in our process: a slow client holds less than 64 KiB in all
    ping_interval_s: float = 20.0                   # pings to the client; proxies cut what is silent for a minute
    silence_max_s: float = 60.0                     # a client that answers no ping for so long is gone
    stall_timeout_s: float = 300.0                  # a client that takes nothing for so long is disconnected
