"""/v1/consumers/{name}/dead-letters and /redrive: what a consumer gave up on, listed, and handed to it once more.

A dead letter is an event on the consumer's dead-letter topic whose properties say of what it is the copy (DeadLetter in
routing/event.py; its headers are for readers, anybody can write those). Redriving hands the original out again, to this
consumer only, as if new. How far that has come is stored beside the consumer, in the same commit, so a kill neither
loses nor doubles a redrive.
"""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from aiohttp import web

from protocols.event_json import event_json
from protocols.location import parse_event_id
from protocols.pace import Pace
from protocols.rest.consumers import ConsumersEndpoint
from protocols.rest.guard import pace_of
from protocols.rest.json_body import FIELDS, json_body, json_response
from protocols.rest.problems import Problem
from routing.consumer import Consumer
from routing.leases import Answer, redeliver
from routing.policy import Identity

if TYPE_CHECKING:
    from routing.event import DeadLetter, Event
    from routing.log.partition import Partition

Place: TypeAlias = tuple[str, int, int]         # stream, partition, offset

STATE_PREFIX = "redriven/"
LIST_MAX = 1_000
LIST_BYTES_MAX = 1024 * 1024
STEP_EVENTS = 100               # looked at between two turns of the loop
STEP_SCANNED = 2_048
HELD_EVENTS_MAX = 1_000         # handed to the consumer and not taken yet: then a redrive waits
HELD_BYTES_MAX = 16 * 1024 * 1024
WAIT_S = 0.05


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True):
    """max: how many at most. rate: per second; without one as fast as they are taken in."""

    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None
    dry_run: bool = False


class Redriven(msgspec.Struct, array_like=True):
    """Stored: the next dead letter to redrive, per partition of the dead-letter topic."""

    next: list[tuple[str, int, int]] = []


class Redrive:
    """A redrive that goes on, or the last one."""

    def __init__(self, wanted: int | None, rate: float | None) -> None:
        self.wanted = wanted
        self.rate = rate
        self.redriven = 0
        self.gone = 0               # originals that retention took, or that the consumer wants no more
        self.state = "running"      # → "done", "cancelled", "failed"
        self.task: asyncio.Task[None] | None = None

    def shown(self) -> dict[str, Any]:
        return {"state": self.state, "redriven": self.redriven, "gone": self.gone, "max": self.wanted,
                "rate": self.rate}


class DeadLettersEndpoint:
    """Handlers, and the redrives that go on."""

    def __init__(self, consumers: ConsumersEndpoint) -> None:
        self._consumers = consumers
        self._router = consumers.router
        self._settings = consumers.settings
        self._redrives: dict[str, Redrive] = {}
        consumers.on_made.append(self._begin)
        self._router.registry.on_deleted.append(self._forget)

    # -- handlers -----------------------------------------------------------------------------------------------

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Those not redriven yet, oldest first in each partition: ?limit=&after=<id of a dead letter>."""
        session = await self._consumers.session(request)
        consumer = self._consumers.consumer(request, session.identity)
        limit, after = _query(request)
        shown: list[bytes] = []
        size, more = 0, False
        pace = pace_of(request)
        async for event in self._pending(consumer, after, pace):
            if not self._may_show(event, session.identity, consumer):
                continue
            if len(shown) >= limit or size >= LIST_BYTES_MAX:
                more = True
                break
            shown.append(event_json(event))
            size += len(shown[-1])
        last = msgspec.json.decode(shown[-1])["id"] if more else None
        body = b'{"dead_letters":[%b],"next":%b}' % (b",".join(shown), msgspec.json.encode(last))
        return web.Response(body=body, headers=FIELDS)

    def _may_show(self, dead: Event, identity: Identity, consumer: Consumer) -> bool:
        """What it was before counts: rules change, and a former consumer of that name may have read other topics."""
        mark = mark_of(dead)
        topic = mark.topic if mark is not None else ""
        return all(self._router.rights.may_read(who, topic) for who in (identity, consumer.identity))

    async def redrive(self, request: web.Request) -> web.StreamResponse:
        """202: begun. With dry_run 200: how many there are to redrive."""
        session = await self._consumers.session(request)
        consumer = self._consumers.managed(request, session.identity)
        body = await json_body(request, RedriveBody, session, self._settings, self._consumers.memory)
        if body.dry_run:
            count = gone = 0
            async for event in self._pending(consumer, None, pace_of(request)):
                if body.max is not None and count + gone >= body.max:
                    break
                fits = self._original(consumer, event) is not None
                count, gone = count + fits, gone + (not fits)
            return json_response({"dry_run": True, "events": count, "gone": gone})
        running = self._redrives.get(consumer.name)
        if running is not None and running.state == "running":
            raise Problem(409, "conflict", f"a redrive of {consumer.name} goes on: ask GET …/redrive, or DELETE it")
        redrive = self._redrives[consumer.name] = Redrive(body.max, body.rate)
        redrive.task = asyncio.get_running_loop().create_task(self._start(consumer, redrive))
        return json_response(redrive.shown(), 202)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        session = await self._consumers.session(request)
        return json_response(self._of(self._consumers.consumer(request, session.identity)).shown())

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Stop it; what was redriven is."""
        session = await self._consumers.session(request)
        redrive = self._of(self._consumers.managed(request, session.identity))
        if redrive.state == "running" and redrive.task is not None:
            redrive.task.cancel()
            redrive.state = "cancelled"
        return json_response(redrive.shown())

    def _of(self, consumer: Consumer) -> Redrive:
        redrive = self._redrives.get(consumer.name)
        if redrive is None:
            raise Problem(404, "not-found", f"no redrive of {consumer.name} was begun since this node was started")
        return redrive

    def shutdown(self) -> None:
        """What was redriven is stored; the rest waits for another redrive."""
        for redrive in self._redrives.values():
            if redrive.task is not None:
                redrive.task.cancel()

    # -- work ---------------------------------------------------------------------------------------------------

    async def _start(self, consumer: Consumer, redrive: Redrive) -> None:
        pace = Pace(self._router.turns)
        await pace.run(self._run(consumer, redrive, pace))

    async def _run(self, consumer: Consumer, redrive: Redrive, pace: Pace) -> None:
        clock_s = self._router.clock_s
        began_s = clock_s()
        try:
            async for event in self._pending(consumer, None, pace):
                if redrive.wanted is not None and redrive.redriven + redrive.gone >= redrive.wanted:
                    break
                while not consumer.closed and (
                    _is_full(consumer)
                    or (redrive.rate is not None and redrive.redriven >= (clock_s() - began_s) * redrive.rate)
                ):
                    await asyncio.sleep(WAIT_S)
                if consumer.closed:
                    break
                original = self._original(consumer, event)
                if original is not None and redeliver(consumer, original) is Answer.DONE:
                    redrive.redriven += 1
                else:
                    redrive.gone += 1
                self._move(consumer, event)
            redrive.state = "done"
        except asyncio.CancelledError:
            redrive.state = "cancelled"
        except Exception:
            redrive.state = "failed"
            raise

    def _original(self, consumer: Consumer, dead: Event) -> Event | None:
        """The event that a dead letter is the copy of; None when it is gone or not wanted any more."""
        mark = mark_of(dead)
        place = parse_event_id(mark.event_id) if mark is not None else None
        partition = self._router.streams.partition(*place[:2]) if place is not None else None
        if place is None or partition is None:
            return None
        event = partition.event(place[2])
        return event if event is not None and consumer.wants(event.topic) else None

    async def _pending(self, consumer: Consumer, after: Place | None, pace: Pace) -> AsyncIterator[Event]:
        """Dead letters of this consumer from the first one that was not redriven, or from after on."""
        topic = topic_of(consumer)
        begin = {(stream, index): offset for stream, index, offset in self._stored(consumer).next}
        partitions = sorted(
            self._router.streams.holding((topic,)), key=lambda partition: (partition.stream, partition.index))
        for partition in partitions:
            place = partition.stream, partition.index
            offset = begin.get(place, partition.start_offset)
            if after is not None:
                if place < after[:2]:
                    continue
                if place == after[:2]:
                    offset = max(offset, after[2] + 1)
            while offset < partition.end_offset:
                found = partition.scan(
                    offset, lambda wanted: wanted == topic, max_events=STEP_EVENTS, max_scanned=STEP_SCANNED)
                for event in _of_consumer(found.events, consumer.name):
                    yield event
                    await pace.rest()
                offset = found.next_offset
                await pace.rest()

    def _stored(self, consumer: Consumer) -> Redriven:
        return self._router.state.read(STATE_PREFIX + consumer.name, Redriven, "place of a redrive") or Redriven()

    def _move(self, consumer: Consumer, event: Event) -> None:
        """This dead letter is redriven: said in the commit that says that the original is to be delivered again."""
        partition: Partition = event.partition
        kept = [place for place in self._stored(consumer).next if place[:2] != (partition.stream, partition.index)]
        moved = Redriven([*kept, (partition.stream, partition.index, event.offset + 1)])
        self._router.state.put(STATE_PREFIX + consumer.name, msgspec.msgpack.encode(moved))
        self._router.registry.checkpoint(consumer)

    def _forget(self, name: str) -> None:
        """A durable consumer was deleted, whoever did it: the next one of its name begins afresh."""
        if self._router.state.get(STATE_PREFIX + name) is not None:
            self._router.state.delete(STATE_PREFIX + name)
        redrive = self._redrives.pop(name, None)
        if redrive is not None and redrive.task is not None:
            redrive.task.cancel()

    def _begin(self, consumer: Consumer) -> None:
        """The consumer was made: dead letters of a former one of that name are not its own."""
        ends = [(partition.stream, partition.index, partition.next_offset)
                for partition in self._router.streams.holding((topic_of(consumer),))]
        self._router.state.put(STATE_PREFIX + consumer.name, msgspec.msgpack.encode(Redriven(ends)))


def _is_full(consumer: Consumer) -> bool:
    held = [delivery.event for cursor in consumer.cursors.values() for delivery in cursor.again.values()]
    return len(held) >= HELD_EVENTS_MAX or sum(len(event.payload) for event in held) >= HELD_BYTES_MAX


def topic_of(consumer: Consumer) -> str:
    """As routing/registry.py has it."""
    return consumer.spec.dead_letter_topic or f"dead-letter/{consumer.name}"


def _of_consumer(events: list[Event], name: str) -> Iterator[Event]:
    return (event for event in events if (mark := mark_of(event)) is not None and mark.consumer == name)


def mark_of(event: Event) -> DeadLetter | None:
    """None: the event is no dead letter, whatever its topic and headers say."""
    return event.properties.dead_letter if event.properties is not None else None


def _query(request: web.Request) -> tuple[int, Place | None]:
    query = request.rel_url.query
    limit = query.get("limit", "100")
    after = parse_event_id(query["after"]) if "after" in query else None
    if set(query) - {"after", "limit"} or not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not (
            1 <= int(limit) <= LIST_MAX) or ("after" in query and after is None):
        raise Problem(400, "query-invalid", f"the query takes after (a dead letter's id) and limit (1 to {LIST_MAX})")
    return int(limit), after
