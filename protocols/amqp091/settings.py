"""Settings and limits of the AMQP 0-9-1 server, every bound with its reason."""
from __future__ import annotations

import msgspec


class AmqpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One AMQP server: all of its listeners share it."""

    # before authentication
    connect_timeout_s: float = 10.0             # time to connection.open; RabbitMQ's handshake_timeout is 10 s
    pre_auth_bytes_max: int = 64 * 1024         # a frame before the login: a token in start-ok is the largest
    passwords_need_tls: bool = False            # where somebody has to log in, passwords and tokens come by TLS only
    mechanisms: tuple[str, ...] = ()            # SASL mechanisms to offer, in this order; empty: all that can be

    # one connection
    vhosts: tuple[str, ...] = ("/", "")         # names of the one virtual host; Java's URI amqp://host:port/ means ""
    frame_bytes_max: int = 131_072              # what RabbitMQ offers; a larger wish of the client is cut to it
    channels_max: int = 2047                    # what RabbitMQ offers
    heartbeat_s: int = 60                       # what RabbitMQ offers; the client may ask for less or more, or for none
    close_timeout_s: float = 5.0                # for close-ok after our connection.close
    partial_bytes_max: int = 16 * 1024 * 1024   # bodies that have not come whole, all channels of a connection together
    consumers_max: int = 2_000                  # per channel
    unacked_max: int = 200_000                  # per channel: deliveries that wait for an ack; then no more are sent
    transaction_bytes_max: int = 16 * 1024 * 1024   # published and not committed, per channel
    window: int = 1_000                         # deliveries under way to a consumer that asks for no prefetch
    write_buffer_high_bytes: int = 256 * 1024   # over it: no more deliveries to this socket
    write_buffer_low_bytes: int = 64 * 1024     # under it again: go on

    # what is declared
    connections_max: int = 20_000               # with the share of a user as for MQTT sessions
    queues_max: int = 100_000                   # with the share of a user
    exchanges_max: int = 20_000                 # all users together
    bindings_max: int = 1_000_000               # all users together; some 500 bytes each
    bindings_per_queue_max: int = 10_000        # a declare again walks none of them, a delete all
    log_lines_per_s: int = 20                   # about refused or closed connections; the counters tell of all
