"""A route from topics of a cluster into the mesh, exactly once, in the order of each partition.

    cluster ── read committed ──► circles ▸ size ▸ topic ──► Router.publish ── durable ──► place stored ── next batch
                                                                 └─ refused: these again, until they are taken

An event's dedupe id is its place out there, so what was taken in and not noted when the node died is not taken twice.
"""
from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.connectors.kafka import cluster as outside
from mesh.connectors.kafka.cluster import Cluster
from mesh.connectors.kafka.path import PLACES_MAX, of_cluster, places
from mesh.connectors.kafka.places import Place, Places, is_paused, store_paused
from mesh.connectors.kafka.records import mesh_topic, to_event
from mesh.connectors.kafka.route import CannotTake, Home, Route
from mesh.connectors.kafka.settings import InwardRoute
from protocols.scheduling.tickets import durable
from routing.errors import TopicError
from routing.event import Event
from routing.rights.policy import INTERNAL
from routing.ticket import Ticket

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient

logger = logging.getLogger(__name__)

POLL_MS = 500
LEAVE_S = 2.0               # for a batch under way when the route is stopped
WINDOW_PART = 4             # a batch is a quarter of the dedupe ids that are remembered, at most


class Inward(Route):
    direction = "in"

    def __init__(self, home: Home, bridge: str, cluster: Cluster, route: InwardRoute) -> None:
        super().__init__(home, bridge, cluster, route.name)
        self.settings = route
        self._publisher = home.router.publisher(INTERNAL)
        self._publisher.name = f"kafka-bridge\0{self.name}"      # its dedupe ids push out nobody else's of the node
        self._places: dict[TopicPartition, Place] = {}
        self._read: dict[TopicPartition, int] = {}      # offset of the next record, markers of transactions passed
        self._blocked: dict[TopicPartition, tuple[float, str]] = {}     # until when, why
        self._ends: dict[TopicPartition, int] = {}
        self._stored: Ticket | None = None              # of the last place
        self._missing: list[str] = []                   # topics
        self._leaving = False
        self._resumed = asyncio.Event()
        self._paused = is_paused(home.router.state, bridge, route.name)
        if not self._paused:
            self._resumed.set()

    # -- sessions ---------------------------------------------------------------------------------------------

    async def _session(self) -> None:
        client = f"meshgate-{self.home.node}"
        admin = await self.cluster.admin(client)
        try:
            consumer = await self.cluster.consumer(client)
            try:
                await self._read_on(admin, consumer)
            finally:
                await outside.close(consumer)
        finally:
            await outside.close(admin)

    async def _read_on(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        from aiokafka.errors import OffsetOutOfRangeError

        clock_s = self.home.router.clock_s
        refresh_s = clock_s()
        self._places = {}
        while True:
            await self._resumed.wait()
            if clock_s() >= refresh_s:
                refresh_s = clock_s() + self.cluster.settings.refresh_s
                await self._assign(admin, consumer)
            if not self._places:
                await asyncio.sleep(min(1.0, self.cluster.settings.refresh_s))
                continue
            self._let_go(consumer, clock_s())
            try:
                found = await consumer.getmany(timeout_ms=POLL_MS, max_records=self._batch_records)
            except OffsetOutOfRangeError as error:
                await self._place_anew(consumer, error.args[0])
                continue
            for at, records in found.items():
                await self._take_whole(consumer, at, records)
            await self._look(consumer)

    @property
    def _batch_records(self) -> int:
        return max(1, min(self.cluster.settings.batch_records, self.home.router.limits.dedupe_window // WINDOW_PART))

    async def _assign(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        """Read what partitions there are now."""
        from aiokafka import TopicPartition

        cluster_id, found = await outside.describe(admin, list(self.settings.topics))
        if not cluster_id:
            raise ValueError("the cluster does not say its id; Kafka 0.10.1 or newer is needed")
        self.cluster_id = cluster_id
        wanted = [TopicPartition(topic, index) for topic, indexes in found.items() for index in indexes]
        if set(wanted) != set(self._places):
            consumer.assign(wanted)
            self._places = {at: await self._begin(consumer, at) for at in wanted}
            self._blocked.clear()
            for at, place in self._places.items():
                consumer.seek(at, place.next_offset)
        self._missing = [topic for topic in self.settings.topics if topic not in found]
        self._show()

    def _show(self) -> None:
        """The state when nothing has gone wrong just now."""
        if self._missing:
            self._trouble("waiting", f"the cluster has no topic {', '.join(self._missing)}")
        elif not self._blocked:
            self._well()

    def _noted(self) -> Places:
        return Places(self.home.router.state, self.bridge, self.route, self.cluster_id)

    async def _begin(self, consumer: AIOKafkaConsumer, at: TopicPartition) -> Place:
        """Its stored place, or where one begins that is new. A partition that is added later has nothing to pass by."""
        noted = self._noted()
        known = noted.get(at.topic, at.partition)
        if known is not None:
            return known
        first = self.settings.start == "earliest" or noted.knows(at.topic)
        offsets = await (consumer.beginning_offsets([at]) if first else consumer.end_offsets([at]))
        return Place(offsets[at])

    async def _place_anew(self, consumer: AIOKafkaConsumer, ranges: dict[TopicPartition, int]) -> None:
        """Where we would read on there is nothing: it was deleted before we came, or the topic was made anew."""
        ours = [at for at in ranges if at in self._places]
        begin, end = await consumer.beginning_offsets(ours), await consumer.end_offsets(ours)
        for at in ours:
            place = self._places[at]
            if begin[at] <= place.next_offset <= end[at]:
                continue
            if place.next_offset < begin[at]:
                lost = begin[at] - place.next_offset
                self.counts["lost"] += lost
                logger.error("bridge %s: %s/%d: %d records were deleted out there before they were read",
                             self.name, at.topic, at.partition, lost)
                self._places[at] = Place(begin[at], place.generation)
            else:
                logger.warning("bridge %s: %s/%d ends at %d, before %d: it was made anew and is read as new",
                               self.name, at.topic, at.partition, end[at], place.next_offset)
                self._places[at] = Place(begin[at], place.generation + 1)
            await durable(self._noted().put(at.topic, at.partition, self._places[at]))
        for at in ours:
            consumer.seek(at, self._places[at].next_offset)

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """How far everything is, for the lag."""
        for at, place in self._places.items():
            end = consumer.highwater(at)
            if end is not None:
                self._ends[at] = end
            with contextlib.suppress(Exception):
                self._read[at] = place.next_offset if at in self._blocked else await consumer.position(at)

    # -- records ----------------------------------------------------------------------------------------------

    async def _take_whole(self, consumer: AIOKafkaConsumer, at: TopicPartition,
                          records: list[ConsumerRecord[Any, Any]]) -> None:
        """Also when the route is stopped meanwhile: what is durable is noted as such."""
        work = asyncio.get_running_loop().create_task(self._take(consumer, at, records))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._leaving = True
            await asyncio.wait((work,), timeout=LEAVE_S)
            work.cancel()
            raise

    async def _take(self, consumer: AIOKafkaConsumer, at: TopicPartition,
                    records: list[ConsumerRecord[Any, Any]]) -> None:
        """Everything of one partition up to the last record, or to one that this node cannot take."""
        place = self._places[at]
        if self._stored is not None:
            await durable(self._stored)
        events, next_offset, problem = self._convert(at, place, records)
        await asyncio.sleep(0)                          # two steps, two turns of the loop
        await self._publish(at, place, events)
        self._places[at] = Place(max(next_offset, place.next_offset), place.generation)
        self._stored = self._noted().put(at.topic, at.partition, self._places[at])
        if problem:
            self._block(consumer, at, f"{at.topic}/{at.partition}, offset {next_offset}: {problem}")
        else:
            self._show()

    def _convert(self, at: TopicPartition, place: Place, records: Iterable[ConsumerRecord[Any, Any]],
                 ) -> tuple[list[tuple[int, Event]], int, str]:
        """Offsets and events; the next offset; why no more, if that is so."""
        router, route = self.home.router, self.settings
        here = self.home.places()
        cluster_place = of_cluster(self.cluster_id)
        publisher = f"kafka-bridge/{self.name}/{at.topic}/{at.partition}"
        ids = f"{self.route}/{self.cluster_id}/{place.generation}/{at.topic}/{at.partition}/"
        done = set(place.done)
        topics: dict[bytes | None, str] = {}            # one object per topic: the router takes runs of one
        events: list[tuple[int, Event]] = []
        next_offset = place.next_offset
        for record in records:
            offset = record.offset
            if offset < place.next_offset or offset in done:
                self.counts["repeats"] += 1
                continue
            way = places(record.headers)
            if len(way) >= PLACES_MAX or not here.isdisjoint(way):
                self.counts["looped"] += 1
                next_offset = offset + 1
                continue
            problem = ""
            key = record.key if "{key}" in route.topic else None
            try:
                topic = topics.get(key) or topics.setdefault(key, mesh_topic(route.topic, at.topic, key))
            except TopicError as error:
                problem = str(error)
            else:
                event = to_event(record, topic, publisher=publisher, dedupe_id=f"{ids}{offset}", place=cluster_place)
                refusal = router.refuse_size(event)
                problem = refusal.text if refusal is not None else ""
            if problem:
                if route.refused == "stop":
                    return events, offset, problem
                self.counts["refused"] += 1
                logger.warning("bridge %s: %s/%d, offset %d is left out: %s", self.name, at.topic, at.partition,
                               offset, problem)
            else:
                events.append((offset, event))
            next_offset = offset + 1
        return events, next_offset, ""

    async def _publish(self, at: TopicPartition, place: Place, events: list[tuple[int, Event]]) -> None:
        """Until all of them are durable. What is refused for a while (a full disk, a full queue) is tried again."""
        settings = self.cluster.settings
        wait_s = settings.retry_initial_s
        while events:
            ticket = await durable(self.home.router.publish([event for _, event in events], self._publisher))
            self.counts["moved"] += len(events) - len(ticket.refusals)
            if not ticket.refusals:
                return
            self.counts["faults"] += 1
            self._trouble("waiting", next(iter(ticket.refusals.values())).text)
            place.done += [offset for index, (offset, _) in enumerate(events) if index not in ticket.refusals]
            self._noted().put(at.topic, at.partition, place)
            events = [(events[index][0], msgspec.structs.replace(events[index][1], partition=None, offset=-1))
                      for index in sorted(ticket.refusals)]
            if self._leaving:
                raise CannotTake("the route was stopped before everything was taken")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, settings.retry_max_s)

    def _block(self, consumer: AIOKafkaConsumer, at: TopicPartition, problem: str) -> None:
        """This partition waits; the others go on. It is looked at again: a limit may have been raised meanwhile."""
        self._blocked[at] = self.home.router.clock_s() + self.cluster.settings.retry_max_s, problem
        consumer.pause(at)
        consumer.seek(at, self._places[at].next_offset)
        self._trouble("stopped", problem)

    def _let_go(self, consumer: AIOKafkaConsumer, now_s: float) -> None:
        for at in [at for at, (until_s, _) in self._blocked.items() if now_s >= until_s]:
            del self._blocked[at]
            consumer.resume(at)

    # -- for people -------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._paused

    async def pause(self, paused: bool) -> None:
        self._paused = paused
        if paused:
            self._resumed.clear()
        else:
            self._resumed.set()
        await durable(store_paused(self.home.router.state, self.bridge, self.route, paused))

    def lag_events(self) -> int | None:
        if not self._ends:
            return None
        return sum(max(self._ends[at] - self._read.get(at, self._ends[at]), 0) for at in self._places
                   if at in self._ends)

    def ends(self) -> tuple[str, str]:
        return ", ".join(self.settings.topics), self.settings.topic
