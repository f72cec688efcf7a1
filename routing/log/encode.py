"""Events -> RecordBatch v2: the hot path of every publish. Called by partition.py once per group commit.

An event with nothing but topic, payload, QoS and publisher takes the short way: its key and its headers come encoded
from a cache, so that a record is seven ready-made pieces for one join. Measured: 0.4 µs per 100-byte event, against
0.9 µs through aiokafka's C builder.
"""
from __future__ import annotations

from collections.abc import Sequence

from routing.event import Event
from routing.log.batch import BATCH_BYTES, VARINTS, VARINTS_MAX, build_batch, encode_varint, varint
from routing.log.fields import RawHeader, event_headers

_CACHE_MAX = 65_536                 # distinct (topic, qos, publisher); dropped as a whole when full
_NULL = encode_varint(-1)
_NO_DELTA = tuple(b"\0\0" + delta for delta in VARINTS)     # attributes 0, timestamp delta 0, offset delta

Parts = tuple[bytes, bytes, int]    # key with its length, headers with their count, and the bytes of both


class Encoder:
    """Draws the batches of one partition."""

    __slots__ = ("_cache",)

    def __init__(self) -> None:
        self._cache: dict[tuple[str, int, str], Parts] = {}

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
        first = events[0]
        base_timestamp = max_timestamp = last_timestamp = first.timestamp_ms
        cache = self._cache
        pieces: list[bytes] = []
        extend = pieces.extend
        total = count = 0
        topic = publisher = None
        qos = -1
        key_part = header_part = lead = b""
        fixed = 0
        for event in events:
            if event.timestamp_ms != last_timestamp:
                last_timestamp = event.timestamp_ms
                if last_timestamp > max_timestamp:
                    max_timestamp = last_timestamp
                lead = b"" if last_timestamp == base_timestamp else b"\0" + varint(last_timestamp - base_timestamp)
            if event.headers or event.properties is not None or event.key is not None or event.retain:
                key_part, header_part, fixed = _parts(event)
                topic = None
            elif event.topic is not topic or event.publisher is not publisher or event.qos != qos:
                topic, publisher, qos = event.topic, event.publisher, event.qos
                parts = cache.get((topic, qos, publisher))
                if parts is None:
                    if len(cache) >= _CACHE_MAX:
                        cache.clear()
                    parts = cache[topic, qos, publisher] = _parts(event)
                key_part, header_part, fixed = parts
            payload = event.payload
            length = len(payload)
            if count < VARINTS_MAX:
                begin = lead + VARINTS[count] if lead else _NO_DELTA[count]
            else:
                begin = (lead or b"\0\0") + encode_varint(count)
            if length:
                value = VARINTS[length] if length < VARINTS_MAX else encode_varint(length)
            else:
                value = _NULL if tombstones else b"\0"
            size = fixed + len(begin) + len(value) + length
            extend((
                VARINTS[size] if size < VARINTS_MAX else encode_varint(size),
                begin, key_part, value, payload, header_part,
            ))
            count += 1
            total += size
            if total >= bytes_max:
                break
        batch = build_batch(
            first.offset, count - 1, base_timestamp, max_timestamp, count, b"".join(pieces),
            first_in_group=first_in_group,
        )
        return batch, count


def _parts(event: Event) -> Parts:
    key = event.key if event.key is not None else event.topic.encode("utf-8", "replace")
    key_part = varint(len(key)) + key
    header_part = encode_headers(event_headers(event))
    return key_part, header_part, len(key_part) + len(header_part)


def encode_headers(headers: Sequence[RawHeader]) -> bytes:
    """Header count and headers of one record."""
    pieces = [varint(len(headers))]
    for name, value in headers:
        pieces += (varint(len(name)), name)
        pieces += (_NULL,) if value is None else (varint(len(value)), value)
    return b"".join(pieces)


def encode_record(
    offset_delta: int, timestamp_delta: int, key: bytes | None, value: bytes | None, header_part: bytes
) -> bytes:
    """One record from its raw fields. Used where records are written anew (compaction of compressed batches)."""
    body = b"".join((
        b"\0", varint(timestamp_delta), varint(offset_delta),
        _NULL if key is None else varint(len(key)) + key,
        _NULL if value is None else varint(len(value)) + value,
        header_part,
    ))
    return varint(len(body)) + body
