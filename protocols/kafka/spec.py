"""Kafka as the node knows it: its settings, and how its server is made."""
from __future__ import annotations

from collections.abc import Iterator

from protocols.authentication.sasl import unknown_mechanisms
from protocols.kafka.logins import KNOWN
from protocols.kafka.settings import KafkaSettings
from protocols.server import Parts, ProtocolServer, ProtocolSpec

FACTORS = ("clamp", "refuse")
ID_CHARACTERS_MAX = 100
PARTITIONS_MAX = 1_000
LOST_LEAST_S = 1.0


def check(settings: KafkaSettings) -> Iterator[str]:
    host, _, port = settings.advertise.rpartition(":")
    if settings.advertise and (not host or not port.isdigit() or not 0 < int(port) < 65_536):
        yield f"kafka.advertise: expected host:port, got {settings.advertise!r}"
    if len(set(settings.cluster)) != len(settings.cluster) or len(settings.cluster) == 1:
        yield "kafka.cluster: expected the names of at least two nodes, each once"
    if settings.cluster and not settings.advertise:
        yield "kafka.cluster: needs kafka.advertise, because the other nodes send clients there"
    if settings.cluster_lost_s < LOST_LEAST_S:
        yield f"kafka.cluster_lost_s: expected at least {LOST_LEAST_S}"
    if len(settings.cluster_id) > ID_CHARACTERS_MAX:
        yield f"kafka.cluster_id: at most {ID_CHARACTERS_MAX} characters"
    yield from unknown_mechanisms("kafka", settings.mechanisms, KNOWN)
    if settings.replication_factor not in FACTORS:
        yield f"kafka.replication_factor: expected one of {', '.join(FACTORS)}, got {settings.replication_factor!r}"
    if not 1 <= settings.default_partitions <= PARTITIONS_MAX:
        yield f"kafka.default_partitions: expected 1 to {PARTITIONS_MAX}"
    if settings.session_timeout_min_ms > settings.session_timeout_max_ms:
        yield "kafka.session_timeout_min_ms: expected at most kafka.session_timeout_max_ms"
    if settings.write_buffer_low_bytes > settings.write_buffer_high_bytes:
        yield "kafka.write_buffer_low_bytes: expected at most kafka.write_buffer_high_bytes"
    for name in ("pipeline_max", "pre_auth_bytes_max", "request_bytes_max", "request_items_max"):
        if getattr(settings, name) < 1:
            yield f"kafka.{name}: expected at least 1"


def make(parts: Parts, settings: KafkaSettings) -> ProtocolServer:
    from protocols.kafka.server import KafkaServer

    return KafkaServer(parts, settings)


KAFKA = ProtocolSpec("kafka", "Kafka", settings=KafkaSettings, make=make, check=check, port=9092,
                     schemes=("kafka", "kafkas"))
