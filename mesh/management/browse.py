"""GET /api/v1/browse: stored events, found by topic, time and content, without pretending that it looked at everything.

    ?filter=plant/%23&from=2026-01-31T12:00:00Z&until=…&match=E-1234&limit=100      then &cursor=… of the answer

One answer looks at a bounded part of the log and says how far it came: `scanned`, `remaining`, `done`. A page that is
not done comes back with a cursor; "nothing found" is only said at the end. An event's payload is shown to whom the
policy lets subscribe to its topic; others see that it is there.
"""
from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.management.tables.table import QueryError
from protocols.event_json import event_shown, parse_rfc3339, rfc3339
from routing.errors import TopicError
from routing.topic import check_filter, filter_matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.event import Event
    from routing.log.partition import Partition
    from routing.rights.policy import Identity
    from routing.router import Router

STEP_SCANNED: Final = 512               # records between two looks at the clock
PAGE_S: Final = 0.5                     # one answer takes no longer, found or not
LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
PAYLOAD_SHOWN_BYTES: Final = 16 * 1024
MATCH_CHARACTERS_MAX: Final = 200


class Search(msgspec.Struct, frozen=True):
    """What to look for. until_ms: None means up to the end as it was when the search began."""

    filter: str
    from_ms: int | None
    until_ms: int | None
    match: str
    limit: int


class Place(msgspec.Struct, array_like=True):
    """Of one partition: the next offset to look at, and where the search ends."""

    stream: str
    index: int
    next: int
    end: int


def parse_search(params: Mapping[str, str]) -> Search:
    """Raises QueryError."""
    pattern = params.get("filter", "") or "#"
    try:
        check_filter(pattern)
    except TopicError as error:
        raise QueryError(f"filter: {error}") from error
    match = params.get("match", "")
    if len(match) > MATCH_CHARACTERS_MAX:
        raise QueryError(f"match has at most {MATCH_CHARACTERS_MAX} characters")
    limit = params.get("limit", "") or str(LIMIT_DEFAULT)
    if not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not 1 <= int(limit) <= LIMIT_MAX:
        raise QueryError(f"limit is a number from 1 to {LIMIT_MAX}")
    return Search(pattern, _time(params, "from"), _time(params, "until"), match, int(limit))


def _time(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name, "")
    if not text:
        return None
    found = parse_rfc3339(text)
    if found is None:
        raise QueryError(f"{name} is an RFC 3339 time with its zone, such as 2026-01-31T12:00:00Z")
    return found


class Browser:
    """One per node; a search keeps its state in its cursor."""

    def __init__(self, router: Router, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._router = router
        self._clock_s = clock_s

    async def page(self, search: Search, cursor: str, identity: Identity) -> dict[str, Any]:
        """Raises QueryError for a cursor that is none."""
        places = self._read(cursor) if cursor else self._begin(search)
        until_s = self._clock_s() + PAGE_S
        found: list[dict[str, Any]] = []
        scanned = size = 0
        for place in places:
            partition = self._router.streams.partition(place.stream, place.index)
            if partition is None:
                place.next = place.end
                continue
            place.next = max(place.next, partition.start_offset)
            while place.next < place.end and len(found) < search.limit and size < ANSWER_BYTES_MAX:
                if self._clock_s() >= until_s and scanned:
                    break
                begun = place.next
                scan = partition.scan(place.next, lambda topic: filter_matches(search.filter, topic),
                                      max_events=STEP_SCANNED, max_scanned=STEP_SCANNED)
                following = max(scan.next_offset, begun + 1)
                for event in scan.events:
                    if event.offset >= place.end:
                        following = place.end
                        break
                    if self._fits(event, search):
                        row = self.row(event, identity)
                        found.append(row)
                        size += len(event.payload) + 500
                        if len(found) >= search.limit or size >= ANSWER_BYTES_MAX:
                            following = event.offset + 1
                            break
                place.next = min(following, place.end)
                scanned += place.next - begun
                await asyncio.sleep(0)
        left = sum(place.end - place.next for place in places)
        return {"events": found, "scanned": scanned, "remaining": left, "done": not left,
                "cursor": None if not left else _write(places)}

    def _fits(self, event: Event, search: Search) -> bool:
        if search.from_ms is not None and event.timestamp_ms < search.from_ms:
            return False
        if search.until_ms is not None and event.timestamp_ms > search.until_ms:
            return False
        return not search.match or _has(event, search.match.encode())

    def row(self, event: Event, identity: Identity) -> dict[str, Any]:
        """An event as a table shows it. Without the right to read its topic: where and when, and no more."""
        partition: Partition = event.partition
        row = {"topic": event.topic, "time": rfc3339(event.timestamp_ms), "stream": partition.stream,
               "partition": partition.index, "offset": event.offset, "size_bytes": len(event.payload)}
        origin = event.origin
        if origin is not None:
            row["origin"] = {"node": origin.node, "stream": origin.stream, "partition": origin.index,
                             "offset": event.origin_offset}
        if not self._router.rights.may_read_event(identity, event):
            return {**row, "readable": False}
        cut = len(event.payload) > PAYLOAD_SHOWN_BYTES
        if cut:
            event = msgspec.structs.replace(event, payload=event.payload[:PAYLOAD_SHOWN_BYTES])
        shown: dict[str, Any] = msgspec.to_builtins(event_shown(event), enc_hook=str)
        return {**row, "readable": True, "cut": cut, "publisher": event.publisher, **shown}

    def _begin(self, search: Search) -> list[Place]:
        places = []
        for partition in self._router.streams.holding([search.filter]):
            start = partition.start_offset
            if search.from_ms is not None:
                start = max(partition.offset_for_time(search.from_ms), start)
            places.append(Place(partition.stream, partition.index, start, partition.end_offset))
        return places

    def _read(self, cursor: str) -> list[Place]:
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            places = msgspec.msgpack.decode(raw, type=list[Place])
        except (binascii.Error, ValueError):
            raise QueryError("this is no cursor of a search") from None
        for place in places:
            partition = self._router.streams.partition(place.stream, place.index)
            if partition is None or not 0 <= place.next <= place.end <= partition.end_offset:
                raise QueryError("this cursor is of another log")
        return places


def _has(event: Event, piece: bytes) -> bool:
    if piece in event.payload or piece in event.topic.encode() or (event.key is not None and piece in event.key):
        return True
    return any(piece in str(name).encode() or piece in (value if isinstance(value, bytes) else str(value).encode())
               for name, value in event.headers)


def _write(places: list[Place]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(places)).decode().rstrip("=")
