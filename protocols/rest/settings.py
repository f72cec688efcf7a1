"""Settings and limits of the HTTP listener. mesh/configuration decodes TOML into them; see docs/configuration.md."""
from __future__ import annotations

import msgspec

from protocols.rest.cors_settings import CorsSettings
from protocols.rest.ratelimit import RateLimit


class RestSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every bound has a unit in its name and a precedent or reason beside it."""

    body_bytes_max: int = 1024 * 1024           # design: request body 1 MiB; above it 413
    bodies_bytes_max: int = 64 * 1024 * 1024    # of all requests that are being read; beyond it 503, or 429 by share
    body_stall_s: float = 10.0                  # a body that takes memory and does not come on is given up, with 408;
    body_rate_min_bytes: int = 500              # so many bytes are a second more; both as in mod_reqtimeout of Apache
    head_line_bytes_max: int = 8190             # request line and each field line; Apache and aiohttp: 8190
    head_fields_max: int = 128                  # fields of one request; Apache: 100
    head_bytes_max: int = 64 * 1024             # whole head; the pre-authentication cap of the design
    head_timeout_s: float = 10.0                # from the first byte of a request to the end of its head, then 408
    body_timeout_s: float = 30.0                # from the end of the head to the end of the body, then 408
    publish_timeout_s: float = 60.0             # wait for the log's answer; beyond it 503 (the event may be stored)
    idle_timeout_s: float = 75.0                # between requests on a kept connection; nginx: 75
    linger_s: float = 2.0                       # after a refused head: how long we read on, so that the answer arrives
    connections_max: int = 10_000               # beyond it a new connection is answered 503 and closed

    batch_events_max: int = 10_000              # of one batch; a body of 1 MiB holds about as many small ones

    ndjson_events_max: int = 1_000_000          # of one request; they stream, so memory does not depend on it
    ndjson_line_bytes_max: int = 2 * 1024 * 1024    # a payload of 1 MiB in base64 with its names
    ndjson_group_bytes: int = 256 * 1024        # lines published together, at most; fewer when they take long
    ndjson_answers_bytes_max: int = 8 * 1024 * 1024     # of one request, kept for a client that reads them at the end

    request_timeout_s: float = 30.0             # wait for the answer to a request that does not say how long
    request_timeout_max_s: float = 300.0        # a longer wait is cut to this

    page_events_max: int = 1_000                # of one page of history, or of retained events
    page_bytes_max: int = 1024 * 1024           # JSON of one page; one event more than fits

    consumers_max: int = 10_000                 # durable consumers made over HTTP; each costs some 4 KiB
    consumer_filters_max: int = 64              # filters of one consumer
    consumer_clients_max: int = 1_000           # clients that one consumer tells apart (all modes but shared)
    consumer_client_lease_s: float = 30.0       # a client that is silent for so long and holds nothing has left
    ack_timeout_s: float = 30.0                 # until an event that nobody answered goes out again; SQS: 30 s
    ack_timeout_max_s: float = 43_200.0         # of a consumer, and of one extend; SQS: 12 h
    pull_events_max: int = 1_000                # of one pull; Pub/Sub: 1,000
    pull_bytes_max: int = 4 * 1024 * 1024       # payload bytes of one pull
    pull_wait_max_s: float = 60.0               # a longer wait is cut to this; proxies give up at 60 s
    pulls_waiting_max: int = 10_000             # beyond it 503
    tokens_max: int = 10_000                    # in one ack, nack or extend

    sse_heartbeat_s: float = 15.0               # comment line on a silent stream; the HTML standard suggests 15 s
    sse_readers_max: int = 10_000               # beyond it 503
    sse_filters_max: int = 64                   # filters of one reader
    sse_batch_bytes: int = 16 * 1024            # encoded and written in one go; bounds the memory of a slow reader
    sse_send_buffer_bytes: int = 4 * 1024       # in our process, behind it the socket's own buffer
    sse_socket_buffer_bytes: int = 32 * 1024    # in the kernel, which takes it twice, until the reader proves fast
    sse_stall_timeout_s: float = 300.0          # a reader that takes nothing for so long is disconnected; it can resume

    cors: CorsSettings = CorsSettings()
    rate_limits: tuple[RateLimit, ...] = ()     # none: nothing is counted
