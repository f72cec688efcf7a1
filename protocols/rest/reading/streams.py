"""GET /v1/streams and /v1/streams/{name}/events: the streams, and paging through what one of them holds.

A page is what the partitions hold from a position on, merged by time; `next` is the position after it, good for ever
(formats/location.py), so a reader keeps no state here. Work per page is bounded: a page may be short, or empty, and
still have a next one; `end` says that nothing was left when it was made.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from aiohttp import web

from protocols.formats.cloudevents import BATCH_CONTENT_TYPE, build_batch
from protocols.formats.event_json import event_json
from protocols.formats.location import Vector, encode_position, epoch_tag
from protocols.rest.auth import Doorkeeper
from protocols.rest.http.guard import pace_of
from protocols.rest.json_body import FIELDS, json_response
from protocols.rest.problems import Problem, problem_of
from protocols.rest.reading.positions import start_vector
from protocols.rest.settings import RestSettings
from protocols.rest.translation.cloud import CloudEventLines, wants_batch
from protocols.rest.translation.convert import filter_of, percent_decoded
from protocols.scheduling import cold
from protocols.scheduling.pace import Pace
from routing.event import is_dead_letter
from routing.rights.policy import Action, Identity
from routing.router import Router
from routing.streams.streams import Stream
from routing.topic import filter_matches

if TYPE_CHECKING:
    from routing.event import Event
    from routing.log.partition import Partition

STEP_EVENTS = 64            # read from one partition at a time
STEP_SCANNED = 512          # records looked at for them; the log counts large ones several times
PAGE_SCANNED = 32_768       # records looked at for one page, a second's work at the worst


class StreamsEndpoint:
    """Handlers."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, settings: RestSettings) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._settings = settings

    async def list(self, request: web.Request) -> web.StreamResponse:
        """The streams that hold something for this client."""
        session = await self._doorkeeper.session(request)
        if request.rel_url.raw_query_string:
            raise Problem(400, "query-invalid", "this path takes no query")
        shown = [_shown(stream) for stream in self._router.streams if self._may_see(session.identity, stream)]
        return json_response({"streams": shown})

    async def get(self, request: web.Request) -> web.StreamResponse:
        session = await self._doorkeeper.session(request)
        return json_response(_shown(self._stream(request, session.identity)))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """One page: ?from=&limit=&filter=."""
        session = await self._doorkeeper.session(request)
        stream = self._stream(request, session.identity)
        start, limit, filters = self._query(request)
        for pattern in filters:
            refusal = self._router.check_subscribe(session.identity, pattern)
            if refusal is not None:
                raise problem_of(refusal)
        vector = start_vector(start, stream.partitions, self._router.store.epoch)
        as_batch = wants_batch(request)
        page = _Page(self._router, session.identity, filters, vector, stream.partitions,
                     CloudEventLines(self._router) if as_batch else event_json, pace_of(request))
        lines = await page.take(limit, self._settings.page_bytes_max)
        position = encode_position(
            epoch_tag(self._router.store.epoch), self._router.clock_ms() // 1000, page.vector)
        if as_batch:
            return _batch(request, lines, position, at_end=page.at_end)
        body = b'{"events":[%b],"next":%b,"end":%b}' % (
            b",".join(lines), msgspec.json.encode(position), b"true" if page.at_end else b"false")
        return web.Response(body=body, headers=FIELDS)

    def _stream(self, request: web.Request, identity: Identity) -> Stream:
        """Raises Problem (404), also for a stream of which this client may read nothing."""
        found = self._router.streams.by_name.get(percent_decoded(request.match_info["name"]))
        if found is None or not self._may_see(identity, found):
            raise Problem(404, "not-found", "there is no such stream")
        return found

    def _may_see(self, identity: Identity, stream: Stream) -> bool:
        permissions = self._router.policy.permissions(identity)
        return any(permissions.allows_part_of(pattern) for pattern in stream.settings.capture)

    def _query(self, request: web.Request) -> tuple[str, int, tuple[str, ...]]:
        start, limit = "", ""
        filters: list[str] = []
        for part in request.rel_url.raw_query_string.split("&") if request.rel_url.raw_query_string else ():
            name, _, value = part.partition("=")
            if name == "from" and not start:
                start = percent_decoded(value)
            elif name == "limit" and not limit:
                limit = value
            elif name == "filter" and len(filters) < self._settings.sse_filters_max:
                filters.append(filter_of(value))
            else:
                raise Problem(400, "query-invalid", "the query takes from (one), limit (one) and filter (some)")
        most = self._settings.page_events_max
        limit = limit or str(min(100, most))
        if not limit.isascii() or not limit.isdigit() or len(limit) > 6 or not 1 <= int(limit) <= most:
            raise Problem(400, "query-invalid", f"limit is a number from 1 to {most}")
        return start or "earliest", int(limit), tuple(dict.fromkeys(filters))


def _batch(request: web.Request, lines: list[bytes], position: str, *, at_end: bool) -> web.Response:
    """A page as a CloudEvents batch; where to go on stands in Link (RFC 8288), as a batch has no place for it."""
    query = [part for part in request.rel_url.raw_query_string.split("&") if part and not part.startswith("from=")]
    target = "&".join([*query, f"from={position}"])
    return web.Response(body=build_batch(lines), headers={
        **FIELDS, "Content-Type": BATCH_CONTENT_TYPE, "Link": f'<?{quote(target, safe=_QUERY)}>; rel="next"',
        "Meshgate-End": "true" if at_end else "false"})


_QUERY = "%&=+/:;,.~!$'()*?@-_"     # of a query that came so; everything else is encoded


class _Page:
    """Takes events from some partitions in the order of their time, and knows where each of them is."""

    def __init__(self, router: Router, identity: Identity, filters: tuple[str, ...], vector: Vector,
                 partitions: list[Partition], render: Callable[[Event], bytes], pace: Pace) -> None:
        self._pace = pace
        self._render = render
        self.vector = vector
        self.at_end = False
        self._filters = filters
        self._permissions = router.policy.permissions(identity)
        self._may_read = partial(router.rights.may_read_event, identity)
        self._now_ms = router.clock_ms()
        self._scanned = 0
        self._feeds = [_Feed(partition, vector[partition.stream][partition.index]) for partition in partitions]

    def _wanted(self, topic: str) -> bool:
        if self._filters and not any(filter_matches(pattern, topic) for pattern in self._filters):
            return False
        return self._permissions.decide(Action.SUBSCRIBE, topic).allowed

    async def take(self, limit: int, size_max: int) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        heads = [(event.timestamp_ms, number) for number, feed in enumerate(self._feeds)
                 if (event := await self._head(feed)) is not None]
        heapify(heads)
        while heads and len(lines) < limit and size < size_max:
            number = heads[0][1]
            feed = self._feeds[number]
            event = feed.events.popleft()
            feed.position = event.offset + 1
            properties = event.properties
            expired = (properties is not None and properties.expires_at_ms is not None
                       and properties.expires_at_ms <= self._now_ms)
            if not expired and (not is_dead_letter(event) or self._may_read(event)):
                lines.append(self._render(event))
                size += len(lines[-1])
            follower = await self._head(feed)
            if follower is not None:
                heapreplace(heads, (follower.timestamp_ms, number))
            else:
                heappop(heads)
            if feed.stopped:                            # its next events are not known: no other may go before them
                break
        for feed in self._feeds:
            if not feed.events:
                feed.position = feed.read_to
            self.vector[feed.partition.stream][feed.partition.index] = feed.position
        self.at_end = all(not feed.events and feed.read_to >= feed.partition.end_offset for feed in self._feeds)
        return lines

    async def _head(self, feed: _Feed) -> Event | None:
        """The feed's next event; None at the end of the partition, or when the page has looked at enough."""
        partition = feed.partition
        while not feed.events and feed.read_to < partition.end_offset:
            if self._scanned >= PAGE_SCANNED:
                feed.stopped = True
                return None
            found = await cold.scan(
                partition, feed.read_to, self._wanted, max_events=STEP_EVENTS, max_scanned=STEP_SCANNED)
            feed.events.extend(found.events)
            if found.next_offset > feed.read_to:        # else a large batch is being opened
                self._scanned += max(found.scanned, 1)
            feed.read_to = found.next_offset
            await self._pace.rest()                     # others have their turn
        return feed.events[0] if feed.events else None


class _Feed:
    """One partition: what was read of it and not taken."""

    __slots__ = ("events", "partition", "position", "read_to", "stopped")

    def __init__(self, partition: Partition, position: int) -> None:
        self.partition = partition
        self.position = max(position, partition.start_offset)
        self.read_to = self.position
        self.events: deque[Event] = deque()
        self.stopped = False


def _shown(stream: Stream) -> dict[str, object]:
    settings = stream.settings
    return {
        "name": stream.name, "capture": list(settings.capture), "durability": settings.durability.value,
        "compact": settings.compact, "retention_ms": settings.retention_ms,
        "retention_bytes": settings.retention_bytes,
        "partitions": [
            {"partition": partition.index, "start": partition.start_offset, "end": partition.end_offset,
             "bytes": partition.size_bytes}
            for partition in stream.partitions
        ],
    }
