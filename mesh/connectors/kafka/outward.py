"""A route from the mesh into a topic of a cluster: a member of a consumer that sends what it is given, then acks it.

    Consumer ── deliver ──► queue ──► circles ▸ time to live ──► one transaction: records, and how far they go ──► ack

How far the route has come is committed in the same transaction as the records (KIP-98), as the text beside an offset of
its group: of what the core may have delivered before a crash, what is in the cluster is known, and not sent again. With
"idempotent" there is no such note: nothing is lost, and the last batch before a crash may be there twice.
"""
from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from mesh.connectors.kafka import cluster as outside
from mesh.connectors.kafka.cluster import Cluster
from mesh.connectors.kafka.note import Note, NoteTooLong
from mesh.connectors.kafka.path import PLACES_MAX, of_cluster, places
from mesh.connectors.kafka.records import to_record
from mesh.connectors.kafka.route import CannotTake, Home, Route, problem_of
from mesh.connectors.kafka.settings import OutwardRoute
from protocols.scheduling.tickets import durable
from routing.consumers.definition.members import Mode
from routing.consumers.definition.spec import ConsumerSpec
from routing.errors import Refusal
from routing.event import is_expired
from routing.queues.options import Cause
from routing.rights.policy import INTERNAL

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from routing.consumers.consumer import Consumer
    from routing.cursors.cursor import Delivery

logger = logging.getLogger(__name__)

SENDS_PER_TURN = 100        # some 3 ms
HELD_MAX = 1_000            # deliveries held; the consumer bounds their bytes


class Outward(Route):
    direction = "out"

    def __init__(self, home: Home, bridge: str, cluster: Cluster, route: OutwardRoute) -> None:
        super().__init__(home, bridge, cluster, route.name)
        self.settings = route
        self.identity = INTERNAL                        # declared by the operator: it reads with the node's rights
        self.held_max = max(HELD_MAX, 2 * cluster.settings.batch_records)
        self.credit = self.held_max
        self.consumer: Consumer | None = None
        self._queue: deque[Delivery] = deque()
        self._doubtful: set[int] = set()                # deliveries that a failed transaction may have sent after all
        self._alone = 0                                 # so many go one at a time: one of them cannot be taken
        self._wake = asyncio.Event()
        self._note = Note(home.router.store.epoch, self._incarnation)

    @property
    def consumer_name(self) -> str:
        return f"kafka-bridge.{self.bridge}.{self.route}"

    @property
    def group(self) -> str:
        """Of the cluster, and the transactional id: of this node, for another one may have a bridge of that name."""
        return f"meshgate.{self.home.node}.{self.bridge}.{self.route}"

    def _incarnation(self, stream: str) -> str:
        found = self.home.router.streams.by_name.get(stream)
        return found.incarnation.hex()[:8] if found is not None else ""

    # -- member of the consumer -------------------------------------------------------------------------------

    async def stop(self) -> None:
        await super().stop()
        self._detach()

    def _attach(self) -> None:
        """Raises ValueError."""
        route, registry = self.settings, self.home.router
        if self.consumer is not None:
            return
        spec = ConsumerSpec(self.consumer_name, route.filters, Mode.EXCLUSIVE, route.start, route.streams,
                            max_in_flight=self.held_max)
        consumer = registry.open_consumer(spec, INTERNAL)
        if isinstance(consumer, Refusal):
            raise ValueError(consumer.text)
        self.credit = self.held_max
        refusal = consumer.attach(self)
        if refusal is not None:
            raise ValueError(refusal.text)
        self.consumer = consumer

    def _detach(self) -> None:
        """What is held goes out again."""
        consumer, self.consumer, self.credit = self.consumer, None, 0
        self._queue.clear()
        self._doubtful.clear()
        if consumer is not None:
            consumer.detach(self)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self._queue.extend(deliveries)
        self._wake.set()

    def consumer_closed(self, consumer: Consumer, reason: str) -> None:
        """Somebody deleted it: it is made anew, at its start."""
        self.consumer = None
        self._queue.clear()
        self._doubtful.clear()
        self._wake.set()

    def _settled(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._doubtful.discard(id(delivery))
        self._alone = max(self._alone - len(deliveries), 0)
        if self.consumer is not None:
            self.consumer.ack(deliveries)
            self.credit = self.held_max - len(self._queue)
            self.consumer.ready(self)

    # -- sessions ---------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        self._attach()
        route, client = self.settings, f"meshgate-{self.home.node}"
        admin = await self.cluster.admin(client)
        try:
            self.cluster_id, found = await outside.describe(admin, [route.topic])
            if route.topic not in found:
                raise ValueError(f"the cluster has no topic {route.topic}")
            transactional = route.delivery == "transactional"
            producer = await self.cluster.producer(client, self.group if transactional else None, route.compression)
            try:
                if transactional:                       # the producer's start has ended what was under way
                    self._note.read(await outside.committed_note(admin, self.group, route.topic))
                await self._send_on(producer)
            finally:
                await outside.close(producer)
        finally:
            await outside.close(admin)

    async def _send_on(self, producer: AIOKafkaProducer) -> None:
        self._well()
        while True:
            if self.consumer is None:
                self._attach()
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._next_batch()
            try:
                await self._send(producer, batch)
            except (Exception, asyncio.CancelledError) as error:
                self._failed(batch, error)
                raise
            if self._queue and self._queue[0] is batch[0]:      # else the consumer was deleted, or seeked away
                for _ in batch:
                    self._queue.popleft()
            self._settled(batch)
            self._well()

    def _next_batch(self) -> list[Delivery]:
        """Stays in the queue until it is sent."""
        settings = self.cluster.settings
        count = 1 if self._alone else settings.batch_records
        batch: list[Delivery] = []
        size = 0
        for delivery in self._queue:
            size += len(delivery.event.payload)
            if len(batch) >= count or (batch and size > settings.record_bytes_max):
                break
            batch.append(delivery)
        return batch

    def _wanted(self, batch: list[Delivery]) -> list[Delivery]:
        """What is to be sent of it."""
        there = of_cluster(self.cluster_id)
        now_ms = self.home.router.clock_ms()
        wanted = []
        for delivery in batch:
            event = delivery.event
            way = places(event.headers)
            if there in way or len(way) >= PLACES_MAX:
                self.counts["looped"] += 1
            elif is_expired(event, now_ms):
                self.counts["expired"] += 1
            elif (delivery.attempts > 1 or id(delivery) in self._doubtful) and self._note.has(event):
                self.counts["repeats"] += 1
            else:
                wanted.append(delivery)
        return wanted

    async def _send(self, producer: AIOKafkaProducer, batch: list[Delivery]) -> None:
        wanted = self._wanted(batch)
        if not wanted:
            return
        if self.settings.delivery == "idempotent":
            await self._produce(producer, wanted)
        else:
            from aiokafka import TopicPartition
            from aiokafka.structs import OffsetAndMetadata

            try:
                text = self._note.after(delivery.event for delivery in wanted)
            except NoteTooLong as error:
                raise CannotTake(str(error)) from error
            async with producer.transaction():
                await self._produce(producer, wanted)
                await producer.send_offsets_to_transaction(
                    {TopicPartition(self.settings.topic, 0): OffsetAndMetadata(self._note.count, text)}, self.group)
            self._note.read(text)
        self.counts["moved"] += len(wanted)

    async def _produce(self, producer: AIOKafkaProducer, wanted: list[Delivery]) -> None:
        """All of them are acked by the cluster."""
        sent: list[asyncio.Future[Any]] = []
        try:
            for number, delivery in enumerate(wanted, 1):
                if number % SENDS_PER_TURN == 0:
                    await asyncio.sleep(0)
                record = to_record(delivery.event, self.home.place)
                if record.key is None and record.value is None:
                    sent.append(await self._produce_nulls(producer, record.timestamp_ms, record.headers))
                    continue
                sent.append(await producer.send(
                    self.settings.topic, record.value, record.key, timestamp_ms=record.timestamp_ms,
                    headers=record.headers))
            await asyncio.gather(*sent)
        finally:
            for future in sent:                         # nobody else looks at them when one has failed
                if future.done() and not future.cancelled():
                    future.exception()
                elif not future.done():
                    future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _produce_nulls(self, producer: AIOKafkaProducer, timestamp_ms: int | None,
                             headers: list[tuple[str, bytes | None]]) -> asyncio.Future[Any]:
        """Neither key nor value: Kafka knows such records, send() of the library does not."""
        batch = producer.create_batch()
        batch.append(timestamp=timestamp_ms, key=None, value=None, headers=headers)
        batch.close()
        future: asyncio.Future[Any] = await producer.send_batch(batch, self.settings.topic, partition=0)
        return future

    def _failed(self, batch: list[Delivery], error: BaseException) -> None:
        """Raises CannotTake when it is known which record is to blame, and it is to be waited for."""
        self._doubtful.update(map(id, batch))
        if not isinstance(error, CannotTake) and _is_of_the_record(error):
            if len(batch) > 1:
                self._alone = len(batch)
                return
            event = batch[0].event
            problem = f"{event.topic}, offset {event.offset}: {problem_of(error)}"
            if self.settings.refused == "stop" or self.consumer is None:
                raise CannotTake(problem) from error
            self.counts["refused"] += 1
            logger.warning("bridge %s: to the dead letters: %s", self.name, problem)
            self._queue.popleft()
            self._doubtful.discard(id(batch[0]))
            self._alone = max(self._alone - 1, 0)
            self.consumer.reject(batch[0], Cause.REJECTED)
            self.credit += 1
            self.consumer.ready(self)

    # -- for people -------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        consumer = self.home.router.consumers.get(self.consumer_name)
        return consumer is not None and consumer.paused

    async def pause(self, paused: bool) -> None:
        consumer = self.home.router.consumers.get(self.consumer_name)
        if consumer is not None:
            (consumer.pause if paused else consumer.resume)()
            ticket = self.home.router.registry.checkpoint(consumer)
            if ticket is not None:
                await durable(ticket)

    def lag_events(self) -> int | None:
        consumer = self.home.router.consumers.get(self.consumer_name)
        return consumer.lag().events if consumer is not None else None

    def ends(self) -> tuple[str, str]:
        return ", ".join(self.settings.filters), self.settings.topic


def _is_of_the_record(error: BaseException) -> bool:
    """The cluster, or the client for it, says that this record cannot be taken, whoever sends it, whenever."""
    from aiokafka import errors

    return isinstance(error, (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError,
                              errors.InvalidTimestampError, errors.PolicyViolationError, errors.InvalidMessageError))
