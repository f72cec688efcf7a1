"""An outside cluster: how it is reached, and what it is asked beside records. Only here aiokafka's clients are made.

aiokafka is loaded with the first bridge, not with the node: it takes a moment, and most nodes have no bridge.
"""
from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any

from mesh.connectors.kafka.settings import KafkaBridge
from mesh.system.tls import client_context
from mesh.values.secret import resolve_secret
from routing.errors import ConfigError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient

logger = logging.getLogger(__name__)

CLOSE_S = 2.0               # a client that cannot say goodbye in this time is cut off
FETCH_WAIT_MS = 500         # a broker without news answers after this
LINGER_MS = 5
BUFFERED_BATCH_BYTES = 64 * 1024


class Cluster:
    """One [[kafka_bridges]] table with its secrets and certificates, read. Raises ConfigError. Opens nothing."""

    def __init__(self, settings: KafkaBridge) -> None:
        self.settings = settings
        self._context: ssl.SSLContext | None = None
        self._login: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        settings = self.settings
        if settings.tls is not None:
            try:
                self._context = client_context(settings.tls.ca, settings.tls.cert, settings.tls.key)
            except ConfigError as error:
                raise ConfigError(f"tls: {error}") from error
        if settings.sasl is not None:
            try:
                password = resolve_secret(settings.sasl.password)
            except ConfigError as error:
                raise ConfigError(f"sasl.password: {error}") from error
            self._login = {"sasl_mechanism": settings.sasl.mechanism, "sasl_plain_username": settings.sasl.username,
                           "sasl_plain_password": password}

    def is_as(self, other: Cluster) -> bool:
        """Nothing has changed; of certificates one cannot tell."""
        return self.settings == other.settings and self._login == other._login and self.settings.tls is None

    def _options(self, client_id: str) -> dict[str, Any]:
        settings = self.settings
        protocol = ("SASL_" if self._login else "") + ("SSL" if self._context is not None else "PLAINTEXT")
        return {"bootstrap_servers": list(settings.servers), "client_id": client_id, "security_protocol": protocol,
                "ssl_context": self._context, "request_timeout_ms": int(settings.request_timeout_s * 1000),
                "metadata_max_age_ms": int(settings.refresh_s * 1000), **self._login}

    # -- clients ----------------------------------------------------------------------------------------------

    async def consumer(self, client_id: str) -> AIOKafkaConsumer:
        """One without a group: where it reads on is ours to know."""
        from aiokafka import AIOKafkaConsumer

        settings = self.settings
        consumer = AIOKafkaConsumer(
            **self._options(client_id), enable_auto_commit=False, auto_offset_reset="none",
            isolation_level="read_committed", fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=settings.fetch_bytes_max, fetch_max_bytes=8 * settings.fetch_bytes_max)
        await self._started(consumer)
        return consumer

    async def producer(self, client_id: str, transactional_id: str | None, compression: str) -> AIOKafkaProducer:
        """transactional_id: of which there is one producer at a time; whoever was it before is fenced off."""
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            **self._options(client_id), enable_idempotence=True, transactional_id=transactional_id, acks="all",
            compression_type=None if compression == "none" else compression, linger_ms=LINGER_MS,
            max_batch_size=BUFFERED_BATCH_BYTES, max_request_size=self.settings.record_bytes_max)
        await self._started(producer)
        return producer

    async def admin(self, client_id: str) -> AIOKafkaAdminClient:
        from aiokafka.admin import AIOKafkaAdminClient

        admin = AIOKafkaAdminClient(**self._options(client_id))
        await self._started(admin)
        return admin

    async def _started(self, client: Any) -> None:
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)    # thousands of lines while a broker is away
        try:
            await client.start()
        except BaseException as error:
            await close(client)
            if "Unable to bootstrap" not in str(error):
                raise
            servers = ", ".join(self.settings.servers)              # aiokafka does not say why
            raise ConnectionError(f"no answer from {servers}, or TLS or the login does not fit") from error


async def close(client: Any) -> None:
    """In bounded time, also when nobody answers any more. Raises nothing."""
    goodbye = getattr(client, "stop", None) or client.close
    try:
        await asyncio.wait_for(goodbye(), CLOSE_S)
        return
    except (Exception, asyncio.CancelledError) as error:
        logger.debug("a Kafka client could not say goodbye: %r", error)
    inner = getattr(client, "client", None) or getattr(client, "_client", None)
    for rest in (getattr(client, "_sender", None), inner):
        try:
            if rest is not None:
                await asyncio.wait_for(rest.close(), CLOSE_S)
        except (Exception, asyncio.CancelledError) as error:
            logger.debug("a Kafka client could not be cut off: %r", error)


# -- what is asked beside records -------------------------------------------------------------------------------------

async def describe(admin: AIOKafkaAdminClient, topics: list[str]) -> tuple[str, dict[str, list[int]]]:
    """The cluster's id, and the partitions of those of the topics that are there. None is created by asking."""
    from aiokafka.protocol.metadata import MetadataRequest

    answer = (await admin._send_request(MetadataRequest(topics, allow_auto_topic_creation=False))).to_object()
    found = {
        topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
        for topic in answer["topics"] if not topic["error_code"]
    }
    return str(answer.get("cluster_id") or ""), found


async def committed_note(admin: AIOKafkaAdminClient, group: str, topic: str) -> str:
    """The text that was committed with the offset of partition 0 of a topic. "": there is none."""
    from aiokafka import TopicPartition

    place = TopicPartition(topic, 0)
    found = (await admin.list_consumer_group_offsets(group, partitions=[place])).get(place)
    return found.metadata if found is not None and found.offset >= 0 else ""
