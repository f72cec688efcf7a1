"""[[kafka_bridges]] of the configuration: an outside cluster, how to log in there, and the routes from and to it."""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from mesh.values.address import is_loopback
from routing.errors import TopicError
from routing.topic import check_filter, check_topic

NAME_CHARS_MAX = 64
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
TOPIC_CHARS_MAX = 249                   # Kafka's
BATCH_RECORDS_MAX = 1_000               # converted in one turn of the loop: some 10 ms
ROUTES_MAX = 100                        # of all bridges: each has a connection to every broker that it reads

Start: TypeAlias = Literal["earliest", "latest"]
Delivery: TypeAlias = Literal["transactional", "idempotent"]
Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class BridgeTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """TLS towards the cluster. Its brokers' names are always checked."""

    ca: str | None = None                   # PEM file; None: the system's authorities
    cert: str | None = None                 # our own, for mutual TLS
    key: str | None = None


class BridgeSasl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The login."""

    mechanism: Mechanism
    username: str
    password: str                           # "file:PATH" or "env:NAME"

    def __repr__(self) -> str:              # a secret never gets into a log by way of a struct
        return f"BridgeSasl({self.mechanism}, {self.username!r})"


class InwardRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Topics of the cluster into topics of the mesh."""

    name: str
    topics: tuple[str, ...]
    topic: str = "{topic}"                  # of the mesh; {topic}: theirs, dots as slashes; {key}: one level
    start: Start = "earliest"               # where a partition is read from that is new to the route
    refused: Literal["stop", "skip"] = "stop"       # a record that this node cannot take


class OutwardRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What filters find into one topic of the cluster."""

    name: str
    filters: tuple[str, ...]
    topic: str
    start: Start = "latest"                 # when the route is new
    streams: tuple[str, ...] = ()           # empty: every stream that can hold what the filters want
    delivery: Delivery = "transactional"
    compression: Compression = "none"
    refused: Literal["stop", "dead-letter"] = "stop"        # a record that the cluster cannot take


class KafkaBridge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One outside cluster."""

    name: str
    servers: tuple[str, ...]                # "host:port" of some of its brokers
    tls: BridgeTls | None = None
    sasl: BridgeSasl | None = None
    inward: tuple[InwardRoute, ...] = ()
    outward: tuple[OutwardRoute, ...] = ()
    batch_records: int = 500                # read, or sent in one transaction, at a time
    fetch_bytes_max: int = 1024 * 1024      # of one partition in one answer; a larger first batch still comes
    record_bytes_max: int = 1024 * 1024     # of one request to the cluster: Kafka's max.request.size
    request_timeout_s: float = 30.0
    retry_initial_s: float = 0.5            # after a fault; each further wait is twice as long
    retry_max_s: float = 30.0
    refresh_s: float = 30.0                 # new partitions, and topics that were not there, are looked for


def check_bridges(bridges: tuple[KafkaBridge, ...]) -> Iterator[str]:
    """Problems, each with the path of its setting."""
    names: set[str] = set()
    if sum(len(bridge.inward) + len(bridge.outward) for bridge in bridges) > ROUTES_MAX:
        yield f"kafka_bridges: at most {ROUTES_MAX} routes"
    for index, bridge in enumerate(bridges):
        path = f"kafka_bridges[{index}]"
        yield from _check_name(path, bridge.name, names)
        yield from _check_cluster(path, bridge)
        routes: set[str] = set()
        for number, inward in enumerate(bridge.inward):
            yield from _check_name(f"{path}.inward[{number}]", inward.name, routes)
            yield from _check_inward(f"{path}.inward[{number}]", inward)
        for number, outward in enumerate(bridge.outward):
            yield from _check_name(f"{path}.outward[{number}]", outward.name, routes)
            yield from _check_outward(f"{path}.outward[{number}]", outward)
        if not bridge.inward and not bridge.outward:
            yield f"{path}: no route; add [[kafka_bridges.inward]] or [[kafka_bridges.outward]]"


def _check_name(path: str, name: str, taken: set[str]) -> Iterator[str]:
    if not 0 < len(name) <= NAME_CHARS_MAX or not NAME_CHARACTERS.issuperset(name):
        yield f"{path}.name: at most {NAME_CHARS_MAX} letters, digits, _ and -, got {name!r}"
    if name in taken:
        yield f"{path}.name: {name} is there twice"
    taken.add(name)


def host_of(server: str) -> str:
    """Of "host:port"."""
    return server.rpartition(":")[0].strip("[]")


def _check_cluster(path: str, bridge: KafkaBridge) -> Iterator[str]:
    if not bridge.servers:
        yield f"{path}.servers: at least one \"host:port\""
    for number, server in enumerate(bridge.servers):
        host, colon, port = server.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
            yield f"{path}.servers[{number}]: expected \"host:port\", got {server!r}"
    if bridge.tls is not None and (bridge.tls.cert is None) != (bridge.tls.key is None):
        yield f"{path}.tls: cert and key go together"
    sasl = bridge.sasl
    if sasl is not None:
        if not sasl.username:
            yield f"{path}.sasl.username: must not be empty"
        if not sasl.password.startswith(("file:", "env:")):
            yield f"{path}.sasl.password: expected \"file:PATH\" or \"env:NAME\""
        if sasl.mechanism == "PLAIN" and bridge.tls is None and not all(
                is_loopback(host_of(server)) for server in bridge.servers):
            yield f"{path}.sasl: PLAIN shows the password to whoever listens; add [kafka_bridges.tls], or use SCRAM"
    if not 1 <= bridge.batch_records <= BATCH_RECORDS_MAX:
        yield f"{path}.batch_records: from 1 to {BATCH_RECORDS_MAX}"
    for name in ("fetch_bytes_max", "record_bytes_max"):
        if not 1_024 <= getattr(bridge, name) <= 64 * 1024 * 1024:
            yield f"{path}.{name}: from 1KiB to 64MiB"
    for name in ("request_timeout_s", "retry_initial_s", "retry_max_s", "refresh_s"):
        if not 0.05 <= getattr(bridge, name) <= 3_600:
            yield f"{path}.{name}: from 50ms to 1h"


def _check_inward(path: str, route: InwardRoute) -> Iterator[str]:
    if not route.topics:
        yield f"{path}.topics: at least one topic of the cluster"
    for number, topic in enumerate(route.topics):
        if not _is_kafka_topic(topic):
            yield f"{path}.topics[{number}]: {topic!r} cannot be the name of a Kafka topic"
    if len(set(route.topics)) < len(route.topics):
        yield f"{path}.topics: a topic is there twice"
    try:
        check_topic(route.topic.replace("{topic}", "t").replace("{key}", "k"))
    except TopicError as error:
        yield f"{path}.topic: {error}"
    if route.topic.startswith("$"):
        yield f"{path}.topic: topics that begin with $ are the node's own"


def _check_outward(path: str, route: OutwardRoute) -> Iterator[str]:
    if not route.filters:
        yield f"{path}.filters: at least one topic filter"
    for number, pattern in enumerate(route.filters):
        try:
            check_filter(pattern)
        except TopicError as error:
            yield f"{path}.filters[{number}]: {error}"
    if not _is_kafka_topic(route.topic):
        yield f"{path}.topic: {route.topic!r} cannot be the name of a Kafka topic"


def _is_kafka_topic(name: str) -> bool:
    return 0 < len(name) <= TOPIC_CHARS_MAX and (NAME_CHARACTERS | {"."}).issuperset(name) and name not in (".", "..")


def absolute_bridge(bridge: KafkaBridge, base: Path) -> KafkaBridge:
    """File names that count from the configuration file, made absolute."""
    tls, sasl = bridge.tls, bridge.sasl
    if tls is not None:
        tls = BridgeTls(_file(tls.ca, base), _file(tls.cert, base), _file(tls.key, base))
    if sasl is not None and sasl.password.startswith("file:"):
        sasl = msgspec.structs.replace(sasl, password=f"file:{_file(sasl.password[5:], base)}")
    return msgspec.structs.replace(bridge, tls=tls, sasl=sasl)


def _file(name: str | None, base: Path) -> str | None:
    return None if name is None else str((base / Path(name).expanduser()).resolve())
