"""Events -> RecordBatch v2: the hot path of every publish. Called by partition.py once per group commit.

An event with nothing but topic, payload, QoS, publisher, content type, priority and what its protocol wrote beside
(native), at most 63 ms after the first of its batch, takes the short way. Its record is five pieces for one join; all
but payload and deltas come ready-made from a cache, and are those of the event before as long as topic and length are:

    size | attributes, timestamp delta | offset delta | key, value length | value | headers
    └─ by topic and payload length ────┘              └── the same ──────┘         └─ by topic …

A plain event of another node has one piece more, the last: the digits of its offset there.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from routing.event import Event, OriginPartition, Properties
from routing.log.records.batch import BATCH_BYTES, VARINTS, VARINTS_MAX, build_batch, encode_varint, varint
from routing.log.records.fields import ORIGIN_DIGITS, RawHeader, event_headers
from routing.topic import KEPT_CHARS_MAX

_BYTES_MAX = 16 * 1024 * 1024       # of entries and their shapes, per partition; dropped as a whole when full
_ENTRY_BYTES = 900                  # of an entry beside three times its topic
_SHAPE_BYTES = 250
_SHAPES_MAX = 1024                  # payload lengths remembered per entry
_SHAPE_LENGTH_MAX = 4096            # longer payloads differ too much in length, and cost more than their frame
_CONTENT_TYPE_CHARS_MAX = 128       # longer ones are not worth an entry
_NATIVE_BYTES_MAX = 256
_FORGOTTEN_AT_ONCE = 500            # entries: some 1 ms
_NULL = encode_varint(-1)
_LEADS = tuple(b"\0" + varint(delta) for delta in range(64))    # attributes and a timestamp delta of one byte
_STRETCHES = (64, 8192, VARINTS_MAX)        # up to these counts an offset delta has one, two, three bytes

Shared = str | Properties           # the content type, or all properties where many events have the same
Group = tuple[str, int, OriginPartition | None, int, Shared]        # publisher, QoS, origin, flow
Shape = tuple[bytes, bytes, int]    # the size, what stands between offset delta and value, and the record's bytes


class Entry:
    """What records of one topic, QoS, publisher, origin and properties share: key, headers, and shapes by length."""

    __slots__ = ("header_part", "header_size", "key_part", "shapes")

    def __init__(self, event: Event) -> None:
        self.key_part = _key_part(event)
        self.header_part = encode_headers(event_headers(event))
        self.header_size = len(self.header_part)
        if event.origin is not None:
            self.header_part = self.header_part[:-ORIGIN_DIGITS]
        self.shapes: tuple[dict[int, Shape], ...] = ({}, {}, {})        # one for each of _STRETCHES

    def shape(self, stretch: int, length: int) -> Shape:
        value_size = varint(length)
        size = 2 + stretch + 1 + len(self.key_part) + len(value_size) + length + self.header_size
        size_part = varint(size)
        shape = size_part, self.key_part + value_size, len(size_part) + size
        if length <= _SHAPE_LENGTH_MAX:
            if len(self.shapes[stretch]) >= _SHAPES_MAX:
                self.shapes[stretch].clear()
            self.shapes[stretch][length] = shape
        return shape


class Encoder:
    """Draws the batches of one partition."""

    __slots__ = ("_bytes", "_entries")

    def __init__(self) -> None:
        self._entries: dict[Group, dict[str, Entry]] = {}       # what events share → topic → entry
        self._bytes = 0

    def encode(
        self,
        events: Sequence[Event],
        *,
        first_in_group: bool,
        bytes_max: int = BATCH_BYTES,
        tombstones: bool = False,
    ) -> tuple[bytes, int]:
        """One batch with the first of the events, until it has bytes_max. Returns it and how many those are.

        The events carry consecutive offsets and their timestamps. tombstones: write an empty payload as null, which
        is Kafka's deletion mark in a compacted stream.
        """
        base_timestamp = max_timestamp = timestamp = events[0].timestamp_ms
        lead = _LEADS[0]
        pieces: list[bytes] = []
        total = count = 0
        while count < len(events) and total < bytes_max:
            stretch = 0 if count < _STRETCHES[0] else 1 if count < _STRETCHES[1] else 2
            part = events
            if count or len(events) > _STRETCHES[0]:
                part = events[count:_STRETCHES[stretch] if count < VARINTS_MAX else None]
            topic = publisher = origin = properties = None
            qos = flow = length = -1
            shared: Shared | None = ""
            for event in part:
                if event.properties is not properties:
                    properties = event.properties
                    other = _shared(properties)
                    if other != shared:
                        shared = other
                        publisher = None
                if event.timestamp_ms != timestamp:
                    timestamp = event.timestamp_ms
                    max_timestamp = max(timestamp, max_timestamp)
                    delta = timestamp - base_timestamp
                    lead = _LEADS[delta] if 0 <= delta < len(_LEADS) else b""
                    length = -1
                payload = event.payload
                if (
                    event.headers or event.key is not None or event.retain or shared is None
                    or not lead or count >= VARINTS_MAX or (tombstones and not payload)
                ):
                    record = self._record(event, count, timestamp - base_timestamp, tombstones)
                    pieces.append(record)
                    total += len(record)
                else:
                    if (
                        event.publisher is not publisher or event.qos != qos or event.origin is not origin
                        or event.flow != flow
                    ):
                        publisher, qos, origin, flow = event.publisher, event.qos, event.origin, event.flow
                        topic = None
                        entries = self._entries_of(event, shared)
                    if event.topic is not topic or len(payload) != length:
                        if event.topic is not topic:
                            topic = event.topic
                            entry = entries.get(topic) or self._new_entry(event, shared)
                            header_part = entry.header_part
                            shapes = entry.shapes[stretch]
                        length = len(payload)
                        try:
                            size_part, after, size = shapes[length]
                        except KeyError:
                            size_part, after, size = entry.shape(stretch, length)
                            self._take(_SHAPE_BYTES + len(after))
                        start = size_part + lead
                    pieces += start, VARINTS[count], after, payload, header_part
                    if origin is not None:
                        pieces.append(b"%016x" % event.origin_offset)
                    total += size
                count += 1
                if total >= bytes_max:
                    break
        batch = build_batch(
            events[0].offset, count - 1, base_timestamp, max_timestamp, count, b"".join(pieces),
            first_in_group=first_in_group,
        )
        return batch, count

    def _entries_of(self, event: Event, shared: Shared) -> dict[str, Entry]:
        group = event.publisher, event.qos, event.origin, event.flow, shared
        entries = self._entries.get(group)
        if entries is None:
            entries = self._entries[group] = {}
        return entries

    def _new_entry(self, event: Event, shared: Shared) -> Entry:
        entry = Entry(event)
        if len(event.topic) <= KEPT_CHARS_MAX:
            self._take(_ENTRY_BYTES + 3 * len(event.topic) + 2 * entry.header_size)
            self._entries_of(event, shared)[event.topic] = entry
        return entry

    def forget(self) -> Iterator[None]:
        """Make again what was made of topics. Work in pieces."""
        entries, self._entries, self._bytes = self._entries, {}, 0
        for one in entries.values():
            while one:
                for _ in range(min(len(one), _FORGOTTEN_AT_ONCE)):
                    one.popitem()
                yield

    def _take(self, size: int) -> None:
        """So much more is kept: an entry, or a shape of one."""
        self._bytes += size
        if self._bytes > _BYTES_MAX:
            for entries in self._entries.values():      # emptied one by one, because encode() may hold one of them
                entries.clear()
            self._entries.clear()
            self._bytes = size

    def _record(self, event: Event, offset_delta: int, timestamp_delta: int, tombstones: bool) -> bytes:
        """Any record, the long way."""
        if event.headers or event.properties is not None or event.retain or event.key is not None:
            key_part, header_part = _key_part(event), encode_headers(event_headers(event))
        else:
            entry = self._entries_of(event, "").get(event.topic) or self._new_entry(event, "")
            key_part, header_part = entry.key_part, entry.header_part
            if event.origin is not None:
                header_part += b"%016x" % event.origin_offset
        payload = event.payload
        is_null = not payload and (tombstones or (event.properties is not None and event.properties.null_payload))
        body = b"".join((
            b"\0", varint(timestamp_delta), varint(offset_delta), key_part,
            _NULL if is_null else varint(len(payload)), payload, header_part,
        ))
        return varint(len(body)) + body


def _shared(properties: Properties | None) -> Shared | None:
    """What an entry may be kept for: "" for no properties; None when there is something of this event alone."""
    if properties is None:
        return ""
    if (
        properties.expires_at_ms is not None or properties.reply_to is not None or properties.correlation is not None
        or properties.message_id is not None or properties.dedupe_id is not None or properties.payload_is_text
        or properties.deliver_at_ms is not None
        or properties.mqtt_packet_id is not None or properties.dead_letter is not None
        or properties.null_key or properties.null_payload
    ):
        return None
    found, native = properties.content_type, properties.native
    if found is not None and len(found) > _CONTENT_TYPE_CHARS_MAX:
        return None
    if native is not None or properties.priority is not None or not found:
        return properties if native is None or len(native.data) <= _NATIVE_BYTES_MAX else None
    return found


def _key_part(event: Event) -> bytes:
    if event.key is None and event.properties is not None and event.properties.null_key:
        return _NULL
    key = event.key if event.key is not None else event.topic.encode("utf-8", "replace")
    return varint(len(key)) + key


def encode_headers(headers: Sequence[RawHeader]) -> bytes:
    """Header count and headers of one record."""
    pieces = [varint(len(headers))]
    for name, value in headers:
        pieces += (varint(len(name)), name)
        pieces += (_NULL,) if value is None else (varint(len(value)), value)
    return b"".join(pieces)
