"""POST /v1/events/{topic}: one event in; the answer comes when it is on disk.

The handler reads the body, publishes a list of one and waits for its Ticket: posts that arrive together share one
group commit. Answers 200 with {stream, partition, offset, id}; 202 for Meshgate-Guaranteed: false (nothing is promised)
and Prefer: respond-async (nobody waits for the disk); or a problem.
"""
from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING

import msgspec
from aiohttp import hdrs, web

from protocols.authentication.authenticator import Authenticator
from protocols.formats.cloudevents import BATCH_MEDIA_TYPE, MEDIA_TYPE, media_type
from protocols.formats.location import event_id
from protocols.rest.auth import Doorkeeper, Session
from protocols.rest.counters import RestCounters
from protocols.rest.http.answer import Places, json_answer
from protocols.rest.http.bodies import BodyMemory, read_body
from protocols.rest.http.express import HEAD_KEPT_BYTES_MAX, Express, Head, Post
from protocols.rest.http.guard import GuardedHandler, pace_of
from protocols.rest.http.waiting import Waiting
from protocols.rest.problems import Problem, problem_members, problem_of
from protocols.rest.publishing.ndjson import MEDIA_TYPES, NdjsonEndpoint
from protocols.rest.settings import RestSettings
from protocols.rest.translation.cloud import batch_events, check_media_type, is_cloud, one_event, topic_of_query
from protocols.rest.translation.convert import PublishFields, percent_decoded, publish_fields
from protocols.web.fields import one_of
from routing.errors import TopicError
from routing.event import Event
from routing.router import Router
from routing.ticket import Ticket
from routing.topic import check_topic

if TYPE_CHECKING:
    from routing.log.partition import Partition

PREFIX = "/v1/events/"
BATCH_STEP = 50                 # events of a batch between two looks at the clock
TOPICS_CACHED = 4_096           # paths whose topic is kept
TOPIC_CACHED_CHARS_MAX = 512    # longer paths are decoded each time, so that the cache stays below 4 MiB

_encoder = msgspec.json.Encoder()


class Published(msgspec.Struct):
    """The answer. All null when no stream captures the topic, or nothing was promised (202)."""

    stream: str | None = None
    partition: int | None = None
    offset: int | None = None
    id: str | None = None


class PublishEndpoint:
    """POST of one event."""

    def __init__(
        self, router: Router, doorkeeper: Doorkeeper, authenticator: Authenticator, settings: RestSettings,
        counters: RestCounters, memory: BodyMemory,
    ) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._authenticator = authenticator
        self._settings = settings
        self._memory = memory
        self._counters = counters
        self._waiting = Waiting(settings.publish_timeout_s)
        self._ndjson = NdjsonEndpoint(router, settings, counters, memory)
        self._topics: dict[str, str] = {}                   # request target → topic
        self._places: dict[Partition, Places] = {}
        self.express = Express(router, authenticator, settings, self._waiting, self._topics, self._answer_of)

    async def post(self, request: web.Request) -> web.StreamResponse:
        session = await self._doorkeeper.session(request)
        topic = self._topic(request)
        fields, cloud = self._fields(request, session)
        if cloud and check_media_type(fields):
            return await self._batch(request, session, fields, topic)
        payload = await self._body(request, session, topic)
        now_ms = self._router.clock_ms()
        event = one_event(fields, payload, topic, now_ms) if cloud else fields.event(topic, payload, now_ms)
        return await self._one(request, session, fields, event)

    async def post_without_topic(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/events with NDJSON, a CloudEvent or a batch of those."""
        session = await self._doorkeeper.session(request)
        if media_type(one_of(request.headers, hdrs.CONTENT_TYPE)) in MEDIA_TYPES:
            if request.rel_url.raw_query_string:
                raise Problem(400, "query-invalid", "NDJSON takes no query; each line names its topic")
            self._doorkeeper.check_publish(session, None)
            return await self._ndjson.post(request, session)
        topic = topic_of_query(request)
        fields = publish_fields(request.headers.items())
        if not is_cloud(fields):
            raise Problem(415, "media-type-unsupported", "without a topic in the path: NDJSON or CloudEvents",
                          {"Accept-Post": f"{MEDIA_TYPES[0]}, {MEDIA_TYPE}, {BATCH_MEDIA_TYPE}"})
        if check_media_type(fields):
            return await self._batch(request, session, fields, topic)
        payload = await self._body(request, session, topic)
        event = one_event(fields, payload, topic, self._router.clock_ms())
        return await self._one(request, session, fields, event)

    async def _body(self, request: web.Request, session: Session, topic: str | None) -> bytes:
        if not request.content.is_eof():        # who may not publish it does not get to send it, and takes no memory
            self._doorkeeper.check_publish(session, topic)
        if self._router.pressure:
            await self._relief()
        return await read_body(request, session, self._settings, self._memory)

    async def _one(
        self, request: web.Request, session: Session, fields: PublishFields, event: Event,
    ) -> web.StreamResponse:
        event.publisher = session.identity.user         # the name of its dedupe window
        ticket = self._router.publish([event], session.publisher)
        waits = event.guaranteed and not fields.respond_async
        if waits:
            await self._durable(ticket)
        self._check(ticket)
        return json_answer(request, 200 if waits else 202, _encoder.encode(_place(event) if waits else _NO_PLACE))

    async def resume(self, request: web.Request, post: Post) -> web.StreamResponse:
        """The answer to a post that express.py took and could not answer by itself."""
        if post.failure is not None:
            raise post.failure
        if post.late or post.ticket is None:
            raise _late()
        self._check(post.ticket)
        return json_answer(request, 200, _encoder.encode(_place(post.ticket.events[0])))

    def _answer_of(self, event: Event) -> bytes:
        """The whole response for an event that was stored."""
        self._counters.events_in += 1
        self._counters.payload_bytes_in += len(event.payload)
        partition = event.partition
        places = self._places.get(partition)
        if places is None:
            places = self._places[partition] = Places(partition.stream, partition.index)
        return places.stored(event.offset)

    def _check(self, ticket: Ticket) -> None:
        """Count the one event of a ticket. Raises Problem when it was refused."""
        if ticket.refusals:
            raise problem_of(ticket.refusals[0])
        self._counters.events_in += 1
        self._counters.payload_bytes_in += len(ticket.events[0].payload)

    async def _durable(self, ticket: Ticket) -> None:
        if not ticket.done and not await self._waiting.durable(ticket):
            raise _late()

    async def _batch(
        self, request: web.Request, session: Session, fields: PublishFields, topic: str | None,
    ) -> web.StreamResponse:
        """One answer for each, in order. Read and published in steps, since a body of 1 MiB holds ten thousand."""
        body = await self._body(request, session, topic)
        pace = pace_of(request)
        waits = fields.guaranteed and not fields.respond_async
        steps: list[tuple[list[Event | Problem], Ticket]] = []
        found = batch_events(fields, body, topic, self._router.clock_ms(), self._settings.batch_events_max)
        while some := list(islice(found, BATCH_STEP)):
            events = [event for event in some if isinstance(event, Event)]
            for event in events:
                event.publisher = session.identity.user
            steps.append((some, self._router.publish(events, session.publisher)))
            await pace.rest()
        results: list[Published | dict[str, object]] = []
        accepted = 0
        for some, ticket in steps:
            if waits:
                await self._durable(ticket)
            taken = len(ticket.events) - len(ticket.refusals)
            accepted += taken
            self._counters.events_in += taken
            self._counters.payload_bytes_in += sum(len(event.payload) for event in ticket.events)
            results += _results(some, ticket, placed=waits)
            await pace.rest()
        answer = {"accepted": accepted, "refused": len(results) - accepted, "results": results}
        return json_answer(request, 200 if waits else 202, _encoder.encode(answer))

    def _topic(self, request: web.Request) -> str:
        target = request.raw_path
        topic = self._topics.get(target)
        if topic is not None:
            return topic
        if request.rel_url.raw_query_string:
            raise Problem(400, "query-invalid", "a publish request has no query; see the Meshgate- header fields")
        if "#" in target:                               # aiohttp cuts a fragment off, which no client should send
            raise Problem(400, "topic-invalid", "a # in a path must be percent-encoded; no topic has one")
        topic = topic_of_path(request.rel_url.raw_path)
        if len(target) <= TOPIC_CACHED_CHARS_MAX:
            if len(self._topics) >= TOPICS_CACHED:
                self._topics.clear()
            self._topics[target] = topic
        return topic

    def _fields(self, request: web.Request, session: Session) -> tuple[PublishFields, bool]:
        """What the header fields say, and whether they are those of a CloudEvent."""
        connection = request.protocol
        if not isinstance(connection, GuardedHandler):
            fields = publish_fields(request.headers.items())
            return fields, is_cloud(fields)
        head = connection.last_head
        if isinstance(head, Head) and head.session is session and head.matches(request.raw_headers):
            return head.fields, head.cloud
        fields = publish_fields(request.headers.items())
        head = Head(request, fields, is_cloud(fields), session, self._authenticator.open)
        connection.last_head = head if head.size_bytes <= HEAD_KEPT_BYTES_MAX else None
        return fields, head.cloud

    async def _relief(self) -> None:
        """Too much waits for the disk: hold this request until there is room."""
        relieved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._router.on_relief(lambda: None if relieved.done() else relieved.set_result(None))
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s):
                await relieved
        except TimeoutError:
            raise Problem(503, "overloaded", "the disk does not keep up; the event was not taken") from None


def topic_of_path(path: str) -> str:
    """The topic in a raw request path. Raises Problem (400, 404).

    Levels "." and ".." are refused, also percent-encoded: clients and proxies rewrite such paths, so the event could
    end up on another topic than the one that was meant.
    """
    if not path.startswith(PREFIX):
        raise Problem(404, "not-found", "there is nothing at this path")
    raw = path[len(PREFIX):]
    topic = percent_decoded(raw) if "%" in raw else raw
    try:
        check_topic(topic)
    except TopicError as error:
        raise Problem(400, "topic-invalid", str(error)) from None
    if "." in topic and any(level in (".", "..") for level in topic.split("/")):
        raise Problem(400, "topic-invalid", "topic levels . and .. cannot be addressed by a URL path")
    return topic


def _late() -> Problem:
    return Problem(503, "outcome-unknown", "the disk did not answer in time; the event may be stored. "
                   "Send it again with the same Idempotency-Key")


def _results(found: list[Event | Problem], ticket: Ticket, *, placed: bool) -> list[Published | dict[str, object]]:
    """Per item of a batch its place, or the problem with it."""
    results: list[Published | dict[str, object]] = []
    number = 0
    for item in found:
        if isinstance(item, Problem):
            results.append(problem_members(item))
            continue
        refusal = ticket.refusals.get(number)
        number += 1
        if refusal is not None:
            results.append(problem_members(problem_of(refusal)))
        else:
            results.append(_place(item) if placed else _NO_PLACE)
    return results


def _place(event: Event) -> Published:
    if event.partition is None:
        return _NO_PLACE
    stream, partition = event.partition.stream, event.partition.index
    return Published(stream, partition, event.offset, event_id(stream, partition, event.offset))


_NO_PLACE = Published()
