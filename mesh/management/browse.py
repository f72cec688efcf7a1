"""GET /api/v1/browse: stored events, found by topic, time and content, without pretending that it looked at everything.

    ?filter=plant/%23&from=2026-01-31T12:00:00Z&until=…&match=E-1234&limit=100      then &cursor=… of the answer

One answer looks at a bounded part of the log and says how far it came: `scanned`, `remaining`, `done`. A page that is
not done comes back with a cursor; "nothing found" is only said at the end. An event's payload is shown to whom the
policy lets browse its topic, without what [[masks]] hide from him; others see that it is there.
"""
from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.management.masking import Masks
from mesh.management.paging.table import QueryError
from protocols.formats.event_json import event_shown, parse_rfc3339, rfc3339
from routing.errors import TopicError
from routing.topic import check_filter, filter_matches

if TYPE_CHECKING:
    from collections.abc import Callable

    from routing.event import Event
    from routing.log.partition import Partition
    from routing.rights.policy import Identity
    from routing.router import Router

STEP_SCANNED: Final = 512               # records between two looks at the clock
TURN_S: Final = 0.005                   # of the loop, then others have theirs
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


ANY: Final = Search("#", None, None, "", LIMIT_DEFAULT)


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

    def __init__(self, router: Router, masks: Masks, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.masks = masks
        self._router = router
        self._clock_s = clock_s

    async def page(self, search: Search, cursor: str, identity: Identity) -> dict[str, Any]:
        """Raises QueryError for a cursor that is none."""
        places = self._read(cursor) if cursor else self._begin(search)
        now_s = self._clock_s()
        until_s, turn_until_s = now_s + PAGE_S, now_s + TURN_S
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
                    row = self._found(event, search, identity)
                    if row is not None:
                        found.append(row)
                        size += row["size_bytes"] + 500
                    if self._clock_s() >= turn_until_s:
                        await asyncio.sleep(0)
                        turn_until_s = self._clock_s() + TURN_S
                    if len(found) >= search.limit or size >= ANSWER_BYTES_MAX or self._clock_s() >= until_s:
                        following = event.offset + 1
                        break
                place.next = min(following, place.end)
                scanned += place.next - begun
                await asyncio.sleep(0)
        left = sum(place.end - place.next for place in places)
        return {"events": found, "scanned": scanned, "remaining": left, "done": not left,
                "cursor": None if not left else _write(places)}

    def _found(self, event: Event, search: Search, identity: Identity) -> dict[str, Any] | None:
        """Its row, if it fits. Looked for is in what is shown: a search tells nothing of what is not."""
        if search.from_ms is not None and event.timestamp_ms < search.from_ms:
            return None
        if search.until_ms is not None and event.timestamp_ms > search.until_ms:
            return None
        event, masked = self.masks.shown(event, identity)
        readable = self._router.rights.may_browse_event(identity, event)
        if search.match and not _has(event, search.match.encode(), content=readable):
            return None
        return self._row(event, masked=masked, readable=readable)

    async def rows(self, events: Iterable[Event], identity: Identity, search: Search = ANY) -> list[dict[str, Any]]:
        """search: its time and content count; its filter was asked for before."""
        found = []
        turn_until_s = self._clock_s() + TURN_S
        for event in events:
            row = self._found(event, search, identity)
            if row is not None:
                found.append(row)
            if self._clock_s() >= turn_until_s:
                await asyncio.sleep(0)
                turn_until_s = self._clock_s() + TURN_S
        return found

    def row(self, event: Event, identity: Identity) -> dict[str, Any]:
        """An event as a table shows it. Without the right to read its topic: where and when, and no more."""
        event, masked = self.masks.shown(event, identity)
        return self._row(event, masked=masked, readable=self._router.rights.may_browse_event(identity, event))

    def _row(self, event: Event, *, masked: bool, readable: bool) -> dict[str, Any]:
        partition: Partition = event.partition
        row = {"topic": event.topic, "time": rfc3339(event.timestamp_ms), "stream": partition.stream,
               "partition": partition.index, "offset": event.offset, "size_bytes": len(event.payload)}
        origin = event.origin
        if origin is not None:
            row["origin"] = {"node": origin.node, "stream": origin.stream, "partition": origin.index,
                             "offset": event.origin_offset}
        if not readable:
            return {**row, "readable": False}
        cut = len(event.payload) > PAYLOAD_SHOWN_BYTES
        if cut:
            event = msgspec.structs.replace(event, payload=event.payload[:PAYLOAD_SHOWN_BYTES])
        shown: dict[str, Any] = msgspec.to_builtins(event_shown(event), enc_hook=str)
        return {**row, "readable": True, "cut": cut, "masked": masked, "publisher": event.publisher, **shown}

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


def _has(event: Event, piece: bytes, *, content: bool) -> bool:
    """content: in what is in it, too, not in its topic alone."""
    if piece in event.topic.encode():
        return True
    if not content:
        return False
    if piece in event.payload or (event.key is not None and piece in event.key):
        return True
    return any(piece in str(name).encode() or piece in (value if isinstance(value, bytes) else str(value).encode())
               for name, value in event.headers)


def _write(places: list[Place]) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(places)).decode().rstrip("=")
