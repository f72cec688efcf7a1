"""GET /v1/events: the events of some filters as server-sent events, from any place in the log, live from there on.

Source: HTML Living Standard §9.2 (text/event-stream). Query: filter (one or more), from. Header: Last-Event-ID.
"""
from __future__ import annotations

import asyncio
import secrets

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from protocols.formats.event_json import event_json
from protocols.formats.location import Vector
from protocols.rest.auth import Doorkeeper
from protocols.rest.counters import RestCounters
from protocols.rest.http.guard import GuardedHandler
from protocols.rest.problems import SERVER, Problem, problem_of
from protocols.rest.reading.frames import Frames
from protocols.rest.reading.positions import start_vector
from protocols.rest.reading.reader import CREDIT_MAX, SseReader
from protocols.rest.settings import RestSettings
from protocols.rest.translation.cloud import CloudEventLines, wants_documents
from protocols.rest.translation.convert import percent_decoded
from protocols.web.fields import one_of
from routing.consumers.consumer import Consumer, ConsumerSpec
from routing.errors import Refusal
from routing.rights.policy import Identity
from routing.router import Router

SWEEP_S = 1.0


class SseEndpoint:
    """All SSE readers of the listener."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, settings: RestSettings, counters: RestCounters) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._settings = settings
        self._counters = counters
        self._frames = {                        # by "as CloudEvents"
            False: Frames(event_json), True: Frames(CloudEventLines(router))}
        self._readers: set[SseReader] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._stopping = False

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The handler: lives as long as the stream does."""
        session = await self._doorkeeper.session(request)
        filters, start, as_cloud = parse_query(request.rel_url.raw_query_string, self._settings.sse_filters_max)
        start = one_of(request.headers, "Last-Event-ID") or start
        self._check_filters(session.identity, filters)
        if self._stopping:
            raise Problem(503, "too-many-readers", "no more SSE readers are taken now")
        partitions = self._router.streams.holding(filters)
        vector = start_vector(start, partitions, self._router.store.epoch)
        frames = self._frames[as_cloud or wants_documents(request)]
        share = self._router.shares.streams
        refusal = share.take(session.identity.user, self._settings.sse_readers_max)
        if refusal is not None:
            raise Problem(503, "too-many-readers", refusal.text)
        try:
            return await self._serve(request, session.identity, filters, vector, frames)
        finally:
            share.give(session.identity.user)

    def _check_filters(self, identity: Identity, filters: tuple[str, ...]) -> None:
        for pattern in filters:
            refusal = self._router.check_subscribe(identity, pattern)
            if refusal is not None:
                raise problem_of(refusal)

    async def _serve(
        self, request: web.Request, identity: Identity, filters: tuple[str, ...], vector: Vector,
        frames: Frames,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={
            hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
            hdrs.CACHE_CONTROL: "no-store",
            hdrs.SERVER: SERVER,
            "X-Accel-Buffering": "no",          # nginx would hold the stream back
        })
        response.force_close()
        chunked = request.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        start = [(stream, index, offset) for stream, offsets in vector.items() for index, offset in enumerate(offsets)]
        reader = SseReader(
            self._router, identity, vector, transport, chunked=chunked, settings=self._settings,
            counters=self._counters, frames=frames)
        try:
            await response.prepare(request)
            await response.write(reader.greet(filters))
            transport.set_write_buffer_limits(high=self._settings.sse_send_buffer_bytes)
            reader.bound_socket(self._settings.sse_socket_buffer_bytes)
            self._add(reader)
            if isinstance(request.protocol, GuardedHandler):
                request.protocol.on_writing = reader.writing
            self._attach(reader, filters, start)
            await reader.closed
        finally:
            self._remove(reader)
            reader.close()
        return response

    def _attach(self, reader: SseReader, filters: tuple[str, ...], start: list[tuple[str, int, int]]) -> None:
        spec = ConsumerSpec(
            f"sse/{secrets.token_hex(8)}", filters, start=start, durable=False, max_in_flight=CREDIT_MAX * 2)
        consumer = self._router.open_consumer(spec, reader.identity)
        if isinstance(consumer, Consumer):
            reader.start(consumer)
            refusal = consumer.attach(reader)
            if refusal is not None:
                reader.finish(refusal.text)
        elif isinstance(consumer, Refusal):     # the rules changed since the check
            reader.finish(consumer.text)

    # -- all readers ------------------------------------------------------------------------------------------

    def _add(self, reader: SseReader) -> None:
        self._readers.add(reader)
        self._router.logins.add(reader)
        self._counters.sse_readers = len(self._readers)
        self._counters.sse_readers_opened += 1
        self._share()
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _remove(self, reader: SseReader) -> None:
        self._readers.discard(reader)
        self._router.logins.discard(reader)
        self._counters.sse_readers = len(self._readers)
        self._share()

    def _share(self) -> None:
        for frames in self._frames.values():
            frames.lines.sharing = len(self._readers) > 1
            if not self._readers:
                frames.clear()

    def _tick(self) -> None:
        self._sweep = None
        if not self._readers:
            return
        now_s = self._router.clock_s()
        for reader in list(self._readers):
            reader.tick(now_s)
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def shutdown(self) -> None:
        """Every reader gets a last comment and the end of its stream."""
        self._stopping = True
        for reader in list(self._readers):
            reader.finish("the server is shutting down")
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None


def parse_query(raw: str, filters_max: int) -> tuple[tuple[str, ...], str, bool]:
    """Filters, from, and whether CloudEvents are wanted (EventSource cannot set Accept). Raises Problem (400).

    A + that is a whole level of a filter is the wildcard, whether it came as + or %2B; any other + is a space, as HTML
    forms write it (no valid filter has a + there).
    """
    filters: list[str] = []
    start: str | None = None
    shape: str | None = None
    for part in raw.split("&") if raw else ():
        name, _, value = part.partition("=")
        if name == "filter":
            filters.append(_filter(value))
        elif name == "from" and start is None:
            start = percent_decoded(value)
        elif name == "format" and shape is None and value in ("json", "cloudevents"):
            shape = value
        else:
            raise Problem(
                400, "query-invalid", "the query takes filter (one or more), from, and format (json or cloudevents)")
    if not filters:
        raise Problem(400, "query-invalid", "name at least one topic filter: ?filter=plant/%23")
    if "" in filters:
        raise Problem(400, "filter-invalid", "a filter is empty; # ends a URL, so write it as %23: ?filter=%23")
    if len(filters) > filters_max:
        raise Problem(400, "query-invalid", f"one reader has at most {filters_max} filters")
    return tuple(dict.fromkeys(filters)), "latest" if start is None else start, shape == "cloudevents"


def _filter(value: str) -> str:
    levels = value.replace("%2f", "/").replace("%2F", "/").split("/")
    return "/".join(level if level == "+" else percent_decoded(level.replace("+", " ")) for level in levels)
