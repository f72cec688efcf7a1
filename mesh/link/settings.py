"""Settings of links, as typed structs. mesh/configuration/settings.py includes them, mesh/link/check.py checks them."""
from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

LINK_PORT = 7420
EVERYTHING: tuple[str, ...] = ("#",)
EVERY_NODE = "*"
Asked: TypeAlias = Literal["view", "operate"]
VIEW: tuple[Asked, ...] = ("view",)


class LinkTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[links]] table: a neighbour that this node dials. Events flow both ways on it."""

    to: str                                 # ws://host:port or wss://host:port
    name: str = ""                          # "": made from host and port
    node: str = ""                          # the name that the neighbour must have; "": any
    token: str | None = None                # shared secret or JWT, or "file:PATH" or "env:NAME" that hold one
    ca: str | None = None                   # PEM file: who may sign the neighbour's certificate; None: the system's
    cert: str | None = None                 # PEM file, with key: our own certificate (mTLS)
    key: str | None = None
    server_name: str | None = None          # name in the neighbour's certificate, where it is not the host of `to`
    proxy: str | None = None                # http://host:port of a proxy with CONNECT
    proxy_user: str | None = None
    proxy_password: str | None = None       # or "file:PATH" or "env:NAME"
    compress: bool = False                  # permessage-deflate, when the neighbour takes it
    cost: int = 1                           # routes take the smallest sum
    rate_bytes: int = 0                     # what leaves here, per second; 0: no bound
    priority: int = 5                       # 0 to 9: who goes first where [link] rate_bytes is short
    exports: tuple[str, ...] = msgspec.field(default=EVERYTHING, name="export")
    imports: tuple[str, ...] = msgspec.field(default=EVERYTHING, name="import")
    prefix: str = ""                        # put before the topic of what enters here
    console: tuple[Asked, ...] = VIEW       # what people at the other end, or behind it, may ask of this node
    administer: bool = False                # take managed users, keys and policies from the neighbour
    entrust: bool = False                   # give it those of this node, with their hashes
    node_key: str = ""                      # 64 hex digits: the key by which it signs; "": the first one that it shows
    paused: bool = False
    insecure: bool = False                  # true: send a token in clear text to another machine

    def __repr__(self) -> str:              # a token never gets into a log by way of a struct
        return f"LinkTable(to={self.to!r}, name={self.name!r})"


class LinkPeerTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[link_peers]] table: a node that may dial this one, and how it proves who it is."""

    node: str                               # its name; "*" for every node that has the proof
    token: str | None = None                # shared secret, or "file:PATH" or "env:NAME"
    jwt_key: str | None = None              # secret (HS256) or public key in PEM (RS256), or a reference to one
    jwt_issuer: str | None = None           # what "iss" must be
    jwt_audience: str | None = None         # what "aud" must hold
    rate_bytes: int = 0
    priority: int = 5
    exports: tuple[str, ...] = msgspec.field(default=EVERYTHING, name="export")
    imports: tuple[str, ...] = msgspec.field(default=EVERYTHING, name="import")
    prefix: str = ""
    console: tuple[Asked, ...] = VIEW
    administer: bool = False                # take managed users, keys and policies from it
    entrust: bool = False                   # give it those of this node, with their hashes
    node_key: str = ""
    paused: bool = False

    def __repr__(self) -> str:
        return f"LinkPeerTable(node={self.node!r})"


class LinkLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The [link] table: bounds and times of all links. Every one has a reason or a precedent."""

    heartbeat_s: float = 2.0                # between pings of a quiet link; a busy one asks four times a second
    blocked_after_s: float = 3.0            # no progress for so long: the state is "blocked"
    stale_after_s: float = 8.0              # not one byte for so long: the connection is given up
    connect_timeout_s: float = 5.0          # per address, proxy and TLS included
    handshake_timeout_s: float = 10.0       # from the first byte to Welcome
    pre_auth_bytes: int = 64 * 1024         # that a stranger may send
    frame_bytes_max: int = 8 * 1024 * 1024  # of frames that we take: a replication batch, a 1 MiB event with room
    batch_bytes: int = 64 * 1024            # small frames share a message up to this; larger ones cost page faults
    queue_control_bytes: int = 256 * 1024
    queue_gossip_bytes: int = 8 * 1024 * 1024
    queue_direct_bytes: int = 16 * 1024 * 1024
    queue_data_bytes: int = 32 * 1024 * 1024
    write_buffer_bytes: int = 512 * 1024    # given to the socket; what waits beyond it can still be overtaken
    rate_bytes: int = 0                     # what leaves this node on all links, per second; 0: no bound
    gossip_rate_bytes: int = 4 * 1024 * 1024        # taken from one neighbour per second
    gossip_burst_bytes: int = 32 * 1024 * 1024      # 200 nodes with 64 KiB each, twice
    retry_min_s: float = 0.25               # back-off: doubled with every failure, jittered
    retry_max_s: float = 5.0                # a site that returns must not wait longer
    good_after_s: float = 1.0               # a connection that lasted so long is dialled again at once
    links_max: int = 256                    # accepted ones, each with its queues
    handshakes_max: int = 64                # strangers at the same time; see strangers.py
    drain_timeout_s: float = 5.0            # for what is queued, before a drained link ends
