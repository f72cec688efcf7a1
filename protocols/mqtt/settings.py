"""Settings and limits of the MQTT server, every bound with its reason. mesh/configuration decodes TOML into this."""
from __future__ import annotations

import msgspec


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One MQTT server: all of its listeners share it."""

    # before authentication
    connect_timeout_s: float = 10.0             # time to a complete CONNECT; the design's bound before authentication
    pre_auth_bytes_max: int = 64 * 1024         # a CONNECT packet, and whatever is sent while it is being decided

    # one connection
    packet_bytes_max: int = 1024 * 1024         # Maximum Packet Size that we announce; the design's packet limit
    receive_maximum: int = 1024                 # QoS 1 and 2 publishes of one v5 client that are not yet acked
    topic_alias_max: int = 64                   # aliases that a client may set; one dict entry each
    topic_alias_out_max: int = 32               # aliases that we use towards a client, if it allows that many
    user_properties_max: int = 10_000           # per packet; decoding is linear, the router has its own header bound
    filters_per_packet_max: int = 10_000        # SUBSCRIBE and UNSUBSCRIBE
    keep_alive_default_s: int = 0               # Server Keep Alive for clients that ask for none; 0: leave it off
    keep_alive_max_s: int = 65_535              # a v5 client that asks for more is told this one (Server Keep Alive)
    response_prefix: str = "response"           # Response Information is <prefix>/<client id>

    # delivery
    in_flight_max: int = 1000                   # unacked deliveries per session; Receive Maximum lowers it
    write_buffer_high_bytes: int = 256 * 1024   # over it: no more guaranteed events to this socket
    write_buffer_low_bytes: int = 64 * 1024     # under it again: go on
    write_buffer_drop_bytes: int = 1024 * 1024  # over it: QoS 0 events for this socket are dropped and counted
    unsent_bytes_max: int = 64 * 1024 * 1024    # QoS 0 events that no socket has taken, all clients together
    shared_frame_bytes_max: int = 4096          # larger payloads are not kept a second time as an encoded frame

    # sessions
    session_expiry_max_s: int = 7 * 24 * 3600   # a longer Session Expiry Interval is cut to this and the client is told
    session_expiry_v3_s: int = 24 * 3600        # v3 clean session 0: there is no expiry on the wire
    log_lines_per_s: int = 20                   # about refused or closed connections; the counters tell of all
    sessions_max: int = 100_000                 # connected and persistent ones together
    will_delay_max_s: int = 24 * 3600           # a longer Will Delay Interval is cut to this
    subscriptions_max: int = 10_000             # per session, shared ones included
    subscription_bytes_max: int = 1024 * 1024   # text of a session's filters; about eight times as much in memory
    topic_cache_max: int = 100_000              # checked topic names kept per server; the cache is dropped when full
    qos2_save_interval_s: float = 1.0           # open inbound QoS 2 ids are saved at least this often

    # $SYS
    sys_interval_s: float = 10.0                # Mosquitto's sys_interval; 0 switches $SYS off
