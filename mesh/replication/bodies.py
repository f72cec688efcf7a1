"""Events <-> the body of a Batch: RecordBatches v2, one after the other, with the origin's offsets. A hot path.

As on disk (routing/log/records/batch.py), but a record's offset delta may leave gaps, where nothing was wanted, and
stays below DELTA_MAX: beyond it a new RecordBatch begins. Every record names its topic; none names an origin, the
Batch does.

The reader trusts nobody. Every length is tested against what holds it, so memory stays within a few times the size of
the body; BadBody says what was wrong, and nothing of the body is used then.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import msgspec

from mesh.replication.caches import CacheMemory
from mesh.replication.filters import Selection, Spans
from mesh.replication.messages import TIME_MAX_MS
from routing.errors import TopicError
from routing.event import Event, Headers, HeaderValue, OriginPartition, Properties
from routing.log.records.batch import (
    HEADER_BYTES,
    VARINTS,
    BatchError,
    batch_at,
    build_batch,
    crc_is_right,
    read_varint,
    varint,
)
from routing.log.records.encode import Entry, encode_headers
from routing.log.records.fields import (
    NULL_KEY,
    NULL_PAYLOAD,
    ORIGIN,
    ORIGIN_OFFSET,
    Fields,
    RawHeader,
    event_headers,
    read_fields,
)
from routing.topic import check_topic

EVENTS_MAX: Final = 2_000       # of one batch
PAGE_EVENTS_MAX: Final = 4_096  # of any body: what is read in one go, some 10 ms
HEADERS_MAX: Final = 4_096      # of one record; [limits] headers_max is asked afterwards
NUMBER_MAX: Final = 1 << 64     # of a header: what every protocol can say
TEXT_MAX: Final = 65_535        # characters of a publisher's name
DELTA_MAX: Final = 8192         # an offset delta has two bytes at most
RECORD_BYTES_MIN: Final = 8     # no record is shorter, so a count can be checked before it is believed
SEEN_BYTES_MAX: Final = 512     # of header bytes whose meaning is remembered
SHARED_BYTES: Final = 400       # of memory for what is remembered, beside its texts
_ENTRY_BYTES: Final = 900       # of memory for an entry of an encoder, beside three times its topic; its group's share
_SHAPE_BYTES: Final = 250       # and for each payload length of it
_LEADS = tuple(b"\0" + varint(delta) for delta in range(64))        # attributes and a timestamp delta of one byte
_HEAD = cast(Callable[[bytes, int], tuple[int, int, int, int, int]], struct.Struct("BBxBBB").unpack_from)


class BadBody(Exception):
    """The sender's fault: a body that is not what a Batch may carry."""


class BodyEncoder:
    """Draws the bodies of one flow, or of several."""

    __slots__ = ("_entries", "_memory")

    def __init__(self, memory: CacheMemory | None = None) -> None:
        """memory: in whose bytes what is remembered of topics, publishers and sizes is counted; None: its own."""
        self._entries: dict[tuple[str, int], dict[str, Entry]] = {}     # (publisher, qos) → topic → entry
        self._memory = memory or CacheMemory()

    def encode(self, events: Sequence[Event]) -> bytes:
        """All the events, at least one, whose offsets rise."""
        out: list[bytes] = []
        start = 0
        while start < len(events):
            batch, start = self._batch(events, start)
            out.append(batch)
        return out[0] if len(out) == 1 else b"".join(out)

    def numbered(self, events: Sequence[Event]) -> bytes:
        """The events without their offsets: 0, 1, 2 … stand for them."""
        copies = [msgspec.structs.replace(event, offset=index, origin=None) for index, event in enumerate(events)]
        return self.encode(copies)

    def _batch(self, events: Sequence[Event], start: int) -> tuple[bytes, int]:
        """One RecordBatch from events[start] on; where the next one begins."""
        first = events[start]
        base = first.offset
        base_timestamp = max_timestamp = timestamp = first.timestamp_ms
        lead = _LEADS[0]
        pieces: list[bytes] = []
        extend = pieces.extend
        topic = publisher = None
        qos = -1
        stretch, limit = 0, 64
        index = start
        delta = 0
        for index in range(start, len(events)):
            event = events[index]
            delta = event.offset - base
            if delta >= limit:
                if delta >= DELTA_MAX:
                    break
                stretch, limit, topic = 1, DELTA_MAX, None
            if event.timestamp_ms != timestamp:
                timestamp = event.timestamp_ms
                max_timestamp = max(timestamp, max_timestamp)
                late = timestamp - base_timestamp
                lead = _LEADS[late] if 0 <= late < len(_LEADS) else b""
            if event.headers or event.properties is not None or event.key is not None or event.retain or not lead:
                pieces.append(_record(event, delta, timestamp - base_timestamp))
                continue
            if event.publisher is not publisher or event.qos != qos:
                publisher, qos, topic = event.publisher, event.qos, None
                entries = self._entries.setdefault((publisher, qos), {})
            if event.topic is not topic:
                topic = event.topic
                entry = entries.get(topic) or self._new_entry(entries, event)
                header_part = entry.header_part
                shapes = entry.shapes[stretch]
            payload = event.payload
            try:
                size_part, after, _ = shapes[len(payload)]
            except KeyError:
                size_part, after, _ = entry.shape(stretch, len(payload))
                self._memory.keep(self._entries, _SHAPE_BYTES + len(after))
            extend((size_part, lead, VARINTS[delta], after, payload, header_part))
        else:
            index += 1
        batch = build_batch(
            base, events[index - 1].offset - base, base_timestamp, max_timestamp, index - start, b"".join(pieces),
            first_in_group=True,
        )
        return batch, index

    def _new_entry(self, entries: dict[str, Entry], event: Event) -> Entry:
        entry = entries[event.topic] = Entry(event if event.origin is None else plain(event))
        # Before it starts afresh: entries that the caller still holds go with the batch that it draws.
        self._memory.keep(self._entries, _ENTRY_BYTES + 3 * len(event.topic) + 2 * entry.header_size)
        return entry


def plain(event: Event) -> Event:
    """The event as its origin would send it."""
    return msgspec.structs.replace(event, origin=None, origin_offset=-1, flow=0)


def _record(event: Event, offset_delta: int, timestamp_delta: int) -> bytes:
    """Any record, the long way."""
    key = event.key if event.key is not None else event.topic.encode("utf-8", "replace")
    if event.origin is not None:
        event = plain(event)
    if event.properties is not None and event.properties.mqtt_packet_id is not None:
        # a packet id means something between that client and its own node only
        properties: Properties | None = msgspec.structs.replace(event.properties, mqtt_packet_id=None)
        event = msgspec.structs.replace(event, properties=None if properties == Properties() else properties)
    payload = event.payload
    body = b"".join((
        b"\0", varint(timestamp_delta), varint(offset_delta), varint(len(key)), key, varint(len(payload)), payload,
        encode_headers(event_headers(event) if event.properties is None else _headers(event, event.properties)),
    ))
    return varint(len(body)) + body


def _headers(event: Event, properties: Properties) -> list[RawHeader]:
    """With what a null would say: an older node takes no null, and keeps these as headers."""
    headers = event_headers(event)
    if properties.null_key and event.key is None:
        headers.append((NULL_KEY, b"1"))
    if properties.null_payload and not event.payload:
        headers.append((NULL_PAYLOAD, b"1"))
    return headers


# What records with the same header bytes share: topic, its bytes, their count times two, QoS, publisher, headers,
# properties, retain; the first and the last span of offsets for which the topic was asked for.
Shared: TypeAlias = tuple[str, bytes, int, int, str, Headers, Properties | None, bool, int, int, Spans]


class BodyDecoder:
    """Reads the bodies of one flow for one selection."""

    __slots__ = ("_flow", "_memory", "_origin", "_prefix", "_seen", "_selection")

    def __init__(
        self, origin: OriginPartition | None, flow: int, selection: Selection | None, prefix: str = "",
        memory: CacheMemory | None = None,
    ) -> None:
        """selection: what was asked for; anything else is refused. None: no matter. prefix: put before every topic.
        memory: as that of Selection.
        """
        self._origin = origin
        self._flow = flow
        self._selection = selection
        self._prefix = prefix
        self._memory = memory or CacheMemory()
        self._seen: dict[bytes, Shared] = {}

    def let_go(self) -> None:
        """Forget what is cached, the selection's too."""
        self._memory.forget(self._seen)
        self._seen.clear()
        if self._selection is not None:
            self._selection.let_go()

    def decode(self, body: bytes, start: int, stop: int) -> list[Event]:
        """The events of a body, whose offsets rise within start ≤ offset < stop. Raises BadBody."""
        out: list[Event] = []
        at = 0
        try:
            while at < len(body):
                at, start = self._batch(body, at, start, stop, out)
        except (IndexError, struct.error):
            raise BadBody("a record ends in the middle of a field") from None
        except (BatchError, TopicError, ValueError, OverflowError) as error:
            raise BadBody(str(error)) from None
        return out

    def _batch(self, data: bytes, at: int, lowest: int, stop: int, out: list[Event]) -> tuple[int, int]:
        """One RecordBatch. Returns the place behind it and the lowest offset that may follow."""
        header = batch_at(data, at)
        if header is None:
            raise BadBody("no RecordBatch v2 where one must stand")
        limit = at + header.size
        if limit > len(data) or not crc_is_right(data, at, header):
            raise BadBody("a batch is cut or its checksum is wrong")
        if header.attributes:
            raise BadBody("a batch with a codec or with control records")
        if not -TIME_MAX_MS <= header.base_timestamp <= TIME_MAX_MS:
            raise BadBody("a time that is none")
        if not 0 < header.record_count <= header.length // RECORD_BYTES_MIN:
            raise BadBody("a batch declares an impossible count of records")
        if header.record_count + len(out) > PAGE_EVENTS_MAX:
            raise BadBody(f"more than {PAGE_EVENTS_MAX} events in one body")
        base, base_timestamp = header.base_offset, header.base_timestamp
        seen, origin, flow = self._seen, self._origin, self._flow
        append = out.append
        unpack = _HEAD
        position = at + HEADER_BYTES
        for _ in range(header.record_count):
            size_low, size_high, late, delta, key_size = unpack(data, position)
            if size_low > 0x7F > size_high and late < 0x80 and (delta < 0x80 or key_size < 0x80):
                end = position + 2 + ((size_low & 0x7F | size_high << 7) >> 1)
                if delta < 0x80:
                    key_at = position + 6
                else:
                    delta = delta & 0x7F | key_size << 7
                    key_size = data[position + 6]
                    key_at = position + 7
                if key_size >= 0x80:
                    key_size, key_at = _raw_varint(data, key_at - 1)
            else:
                end, late, delta, key_size, key_at = _long_head(data, position)
            offset = base + (delta >> 1)
            key_end = key_at + (key_size >> 1)
            value_size = data[key_end]
            if value_size < 0x80:
                value_at = key_end + 1
            elif (high_size := data[key_end + 1]) < 0x80:
                value_size, value_at = value_size & 0x7F | high_size << 7, key_end + 2
            else:
                value_size, value_at = _raw_varint(data, key_end)
            value_end = value_at + (value_size >> 1)
            if value_end > end or end > limit or (value_size | delta | key_size) & 1:
                raise BadBody("a field is longer than its record, or negative")
            header_part = data[value_end:end]
            try:
                shared = seen[header_part]
            except KeyError:
                shared = self._first_seen(header_part)
            topic, topic_bytes, topic_size, qos, publisher, headers, properties, retain, low, high, spans = shared
            if offset < lowest or offset >= stop:
                raise BadBody("an offset outside of its batch, or one that does not rise")
            lowest = offset + 1
            if (offset < low or offset >= high) and not any(since <= offset < until for since, until in spans):
                raise BadBody(f"an event that nobody asked for: {topic[:200]!r}")
            position = end
            append(Event(
                topic, data[value_at:value_end], qos, publisher,
                None if key_size == topic_size and data.startswith(topic_bytes, key_at) else data[key_at:key_end],
                headers, properties, retain,
                base_timestamp + ((late >> 1) ^ -(late & 1)) if late else base_timestamp,
                -1, None, None, None, origin, offset, flow,
            ))
        if position != limit:
            raise BadBody("bytes follow the last record of a batch")
        if lowest != header.next_offset:
            raise BadBody("the last offset of a batch is not what it declares")
        return limit, lowest

    def _first_seen(self, header_part: bytes) -> Shared:
        fields = read_fields(_split_headers(header_part))
        topic = fields.topic
        if topic is None:
            raise BadBody("a record names no topic")
        check_topic(topic)
        _check_fields(fields)
        spans: Spans = ((0, 1 << 62),) if self._selection is None else self._selection.spans(topic)
        local = self._prefix + topic
        if self._prefix:
            check_topic(local)
        low, high = spans[-1] if spans else (0, 0)
        topic_bytes = fields.topic_bytes
        shared = (
            local, topic_bytes, len(topic_bytes) << 1, fields.qos, fields.publisher, fields.headers,
            fields.properties, fields.retain, low, high, spans,
        )
        if len(header_part) <= SEEN_BYTES_MAX:
            self._memory.keep(self._seen, 4 * len(header_part) + SHARED_BYTES)
            self._seen[header_part] = shared
        return shared


def _check_fields(fields: Fields) -> None:
    """What no honest node's event has, and what would hurt whoever converts it for a client."""
    own = fields.properties
    if own is not None:
        if own.expires_at_ms is not None and not -TIME_MAX_MS <= own.expires_at_ms <= TIME_MAX_MS:
            raise BadBody("a time of expiry that is none")
        if own.deliver_at_ms is not None and not -TIME_MAX_MS <= own.deliver_at_ms <= TIME_MAX_MS:
            raise BadBody("a time of delivery that is none")
        if own.priority is not None and not 0 <= own.priority <= 255:
            raise BadBody(f"a priority of {own.priority}")
        if own.mqtt_packet_id is not None:
            raise BadBody("the packet id of a client of another node")
        if own.reply_to is not None:
            check_topic(own.reply_to)
        _check_number(own.correlation)
        _check_number(own.message_id)
        _check_number(own.dedupe_id)
    for _, value in fields.headers:
        _check_number(value)
    if len(fields.publisher) > TEXT_MAX:
        raise BadBody("a publisher's name without end")


def _check_number(value: HeaderValue) -> None:
    if isinstance(value, int) and not -NUMBER_MAX < value < NUMBER_MAX:
        raise BadBody("a number that no protocol can say")


def _raw_varint(data: bytes, position: int) -> tuple[int, int]:
    """A varint before its zigzag is undone: twice the number, odd when it is negative."""
    value, position = read_varint(data, position)
    return (value << 1 if value >= 0 else (-value << 1) - 1), position


def _long_head(data: bytes, position: int) -> tuple[int, int, int, int, int]:
    """Any record up to its key: end, raw timestamp delta, raw offset delta, raw key size, place of the key."""
    size, position = read_varint(data, position)
    if size < 0:
        raise BadBody("a record of negative size")
    end = position + size
    late, position = _raw_varint(data, position + 1)
    if late > 2 * TIME_MAX_MS:
        raise BadBody("a time that is none")
    delta, position = _raw_varint(data, position)
    key_size, position = _raw_varint(data, position)
    return end, late, delta, key_size, position


def _split_headers(header_part: bytes) -> list[RawHeader]:
    """The headers of one record, every bound tested; ours that only a node's own log may hold are refused."""
    count, position = read_varint(header_part, 0)
    end = len(header_part)
    if not 0 <= count <= min(end, HEADERS_MAX):
        raise BadBody("a record declares an impossible count of headers")
    headers: list[RawHeader] = []
    for _ in range(count):
        name, position = _field(header_part, position, end)
        content, position = _field(header_part, position, end)
        if name is None or name in (ORIGIN, ORIGIN_OFFSET):
            raise BadBody("a header without a name, or one that claims an origin")
        headers.append((name, content))
    if position != end:
        raise BadBody("the length of a record does not fit its fields")
    return headers


def _field(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    size, position = read_varint(data, position)
    if size < 0:
        if size != -1:
            raise BadBody("a negative length")
        return None, position
    after = position + size
    if after > end:
        raise BadBody("a field is longer than its record")
    return data[position:after], after
