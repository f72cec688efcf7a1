"""Settings and limits of the HTTP listener. mesh/config.py decodes TOML into them; docs/configuration.md lists them."""
from __future__ import annotations

import msgspec


class RestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every bound has a unit in its name and a precedent or reason beside it."""

    body_bytes_max: int = 1024 * 1024           # design: request body 1 MiB; above it 413
    bodies_bytes_max: int = 256 * 1024 * 1024   # of all requests that are being read; beyond it 503
    head_line_bytes_max: int = 8190             # request line and each field line; Apache and aiohttp: 8190
    head_fields_max: int = 128                  # fields of one request; Apache: 100
    head_bytes_max: int = 64 * 1024             # whole head; the pre-authentication cap of the design
    head_timeout_s: float = 10.0                # from the first byte of a request to the end of its head, then 408
    body_timeout_s: float = 30.0                # from the end of the head to the end of the body, then 408
    publish_timeout_s: float = 60.0             # wait for the log's answer; beyond it 503 (the event may be stored)
    idle_timeout_s: float = 75.0                # between requests on a kept connection; nginx: 75
    linger_s: float = 2.0                       # after a refused head: how long we read on, so that the answer arrives
    connections_max: int = 10_000               # beyond it a new connection is answered 503 and closed

    sse_heartbeat_s: float = 15.0               # comment line on a silent stream; the HTML standard suggests 15 s
    sse_readers_max: int = 10_000               # beyond it 503
    sse_filters_max: int = 64                   # filters of one reader
    sse_batch_bytes: int = 16 * 1024            # encoded and written in one go; bounds the memory of a slow reader
    sse_send_buffer_bytes: int = 16 * 1024      # in our process, behind it the socket's own buffer
    sse_stall_timeout_s: float = 300.0          # a reader that takes nothing for so long is disconnected; it can resume
