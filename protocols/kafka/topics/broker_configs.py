"""The configurations of the broker, as DescribeConfigs tells them. All are read only: they are the node's own settings.

Kafka Connect, ksqlDB and Debezium read them before they make topics.
"""
from __future__ import annotations

from typing import Any

from protocols.kafka.settings import KafkaSettings
from protocols.kafka.topics.configs import BOOLEAN, INT, LONG, STRING, Source
from routing.settings import StreamSettings


def broker_rows(settings: KafkaSettings, transaction_timeout_max_ms: int, broker_id: int, listener: str,
                names: list[str] | None = None) -> list[dict[str, Any]]:
    """Rows of DescribeConfigs. listener: "host:port" as clients are told."""
    stream = StreamSettings("default")
    values: list[tuple[str, str, int]] = [
        ("advertised.listeners", f"PLAINTEXT://{listener}", STRING),
        ("auto.create.topics.enable", str(settings.auto_create_topics).lower(), BOOLEAN),
        ("broker.id", str(broker_id), INT),
        ("compression.type", "producer", STRING),
        ("connections.max.idle.ms", str(int(settings.idle_timeout_s * 1000)), LONG),
        ("default.replication.factor", "1", INT),
        ("delete.topic.enable", "true", BOOLEAN),
        ("group.initial.rebalance.delay.ms", str(int(settings.initial_rebalance_delay_s * 1000)), INT),
        ("group.max.session.timeout.ms", str(settings.session_timeout_max_ms), INT),
        ("group.max.size", str(settings.group_members_max), INT),
        ("group.min.session.timeout.ms", str(settings.session_timeout_min_ms), INT),
        ("log.cleanup.policy", "delete", STRING),
        ("log.message.timestamp.type", "CreateTime", STRING),
        ("log.retention.bytes", "-1", LONG),
        ("log.retention.hours", "168", INT),
        ("log.retention.ms", "604800000", LONG),
        ("log.roll.ms", str(stream.segment_ms), LONG),
        ("log.segment.bytes", str(stream.segment_bytes), INT),
        ("max.connections", str(2**31 - 1), INT),
        ("message.max.bytes", str(stream.batch_bytes_max), INT),
        ("min.insync.replicas", "1", INT),
        ("node.id", str(broker_id), INT),
        ("num.partitions", str(settings.default_partitions), INT),
        ("offset.metadata.max.bytes", str(settings.offset_metadata_bytes_max), INT),
        ("offsets.retention.minutes", str(int(settings.offsets_retention_s // 60)), INT),
        ("socket.request.max.bytes", str(settings.request_bytes_max), INT),
        ("transaction.max.timeout.ms", str(transaction_timeout_max_ms), INT),
        ("unclean.leader.election.enable", "false", BOOLEAN),
    ]
    return [
        {"name": name, "value": value, "read_only": True, "config_source": Source.BROKER, "is_sensitive": False,
         "config_type": type, "documentation": None,
         "synonyms": [{"name": name, "value": value, "source": Source.BROKER}]}
        for name, value, type in values if names is None or name in names]
