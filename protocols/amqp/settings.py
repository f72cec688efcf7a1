"""Settings and limits of the AMQP 1.0 server, every bound with its reason."""
from __future__ import annotations

import msgspec


class Amqp10Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One AMQP 1.0 server: it shares the listeners of [amqp]."""

    # before authentication
    connect_timeout_s: float = 10.0             # time to open; as for AMQP 0-9-1
    pre_auth_bytes_max: int = 64 * 1024         # a frame of a login: a token is the largest
    passwords_need_tls: bool = False            # where somebody has to log in, passwords and tokens come by TLS only
    mechanisms: tuple[str, ...] = ()            # SASL mechanisms to offer, in this order; empty: all that can be
    open_bytes_max: int = 8 * 1024              # the frame of open: SDKs tell more of themselves than fits in 512

    # one connection
    frame_bytes_max: int = 128 * 1024           # what we take in one frame, and send at most
    sessions_max: int = 1_024                   # JMS has one per session; 1,000 are an application server
    handles_max: int = 1_024                    # links of one session
    links_max: int = 20_000                     # of one connection
    session_window: int = 8_192                 # frames under way to us on one session
    link_credit: int = 1_000                    # messages under way to us on one link; JMS' own prefetch is 1,000
    unsettled_max: int = 10_000                 # per session: deliveries that wait for an answer; then no more are sent
    partial_bytes_max: int = 16 * 1024 * 1024   # messages that have not come whole, all links of a connection together
    waiting_bytes_max: int = 16 * 1024 * 1024   # cut off by windows, per connection; then no message is begun
    sections_bytes_max: int = 64 * 1024         # of a message beside its payload
    dynamic_nodes_max: int = 1_000              # temporary queues and topics of one connection
    transactions_max: int = 100                 # open at a time on one connection
    transaction_bytes_max: int = 16 * 1024 * 1024   # sent and not committed, per connection
    suspended_s: float = 120.0                  # a lost or detached link may be resumed for so long at most
    suspended_links_max: int = 20_000           # such links, of all connections; with the share of a user
    suspended_bytes_max: int = 64 * 1024 * 1024 # payloads and tags that such links hold; with the share of a user
    idle_timeout_s: float = 60.0                # a peer silent for so long is gone; it is asked for half of that
    close_timeout_s: float = 5.0                # for the peer's close after ours
    write_buffer_high_bytes: int = 256 * 1024   # over it: no more deliveries to this socket
    write_buffer_low_bytes: int = 64 * 1024     # under it again: go on

    # nodes
    create_queues: bool = True                  # queue://x makes the queue, as ActiveMQ and Artemis do
    identify_as: str = ""                       # "RabbitMQ 4.2": its own clients insist on that

    # Azure's SDKs
    azure: bool = False                         # emulator mode: streams are Event Hubs, queues those of Service Bus
    batch_events_max: int = 120_000             # in one batch; the smallest events fill 1 MB with so many

    # all connections
    connections_max: int = 20_000               # with the share of a user as for MQTT sessions
    log_lines_per_s: int = 20                   # about refused or closed connections; the counters tell of all
