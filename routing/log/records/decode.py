"""RecordBatch v2 -> Events: the hot path of every read behind the tail. Called by partition.py and compaction.py.

Two ways. Decoder.events reads batches that were checked when they came in (our own, or a Kafka producer's after
check_records), so it tests no bounds; it looks a record's header bytes up in a cache, which gives topic, publisher
and QoS without parsing, and builds an Event only where the topic is wanted. check_records parses with every bound
tested and is for bytes from outside.
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import msgspec

from routing.event import Event, Headers, OriginPartition, Properties, with_null_key, with_null_payload
from routing.log.records.batch import CODEC_MASK, HEADER_BYTES, BatchError, BatchHeader, read_varint, varint
from routing.log.records.codecs import EXPANDED_BYTES_MAX, expand
from routing.log.records.fields import (
    CLIENT,
    NODES_OWN,
    ORIGIN_DIGITS,
    ORIGIN_MARK,
    QOS,
    TOPIC,
    Fields,
    RawHeader,
    read_fields,
)
from routing.log.records.origins import OriginTable
from routing.log.records.verdicts import Verdicts

LOOKED_MAX = 1 << 62
_CACHE_MAX = 16_384             # distinct header bytes; dropped as a whole when full
_CACHED_BYTES_MAX = 512         # longer headers are rarely repeated
_MARKED_BYTES = len(ORIGIN_MARK) + ORIGIN_DIGITS        # what an event of another node ends with


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record with its raw fields. start and end: its bytes in the batch, length included."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[RawHeader]
    header_part: bytes
    start: int
    end: int


def plain_batch(batch: bytes, header: BatchHeader, bytes_max: int = EXPANDED_BYTES_MAX) -> bytes:
    """The batch itself, or the same with its records expanded. Raises BatchError where that is not possible."""
    codec = header.attributes & CODEC_MASK
    if codec == 0:
        return batch
    return batch[:HEADER_BYTES] + expand(codec, batch[HEADER_BYTES:], bytes_max)


def records(batch: bytes, header: BatchHeader) -> Iterator[Record]:
    """The records of a whole plain batch, every bound checked. Raises BatchError."""
    position = HEADER_BYTES
    for _ in range(header.record_count):
        start = position
        try:
            size, position = read_varint(batch, position)
            end = position + size
            if size < 0 or end > len(batch):
                raise BatchError("a record is longer than its batch")
            timestamp_delta, position = read_varint(batch, position + 1)
            offset_at = position
            offset_delta, position = read_varint(batch, position)
            if position - offset_at != len(varint(offset_delta)):   # Decoder.events knows its length by its value
                raise BatchError("an offset delta is longer than it need be")
            key, position = _nullable(batch, position, end)
            value, position = _nullable(batch, position, end)
            headers_at = position
            count, position = read_varint(batch, position)
            if not 0 <= count <= end - position:        # a header has two bytes at least
                raise BatchError("a record declares an impossible count of headers")
            headers: list[RawHeader] = []
            for _ in range(count):
                name, position = _nullable(batch, position, end)
                content, position = _nullable(batch, position, end)
                if name is None:
                    raise BatchError("a header has no name")
                headers.append((name, content))
        except IndexError:
            raise BatchError("a record ends in the middle of a number") from None
        if position != end:
            raise BatchError("the length of a record does not fit its fields")
        yield Record(
            header.base_offset + offset_delta, header.base_timestamp + timestamp_delta,
            key, value, headers, batch[headers_at:end], start, end,
        )
    if position != len(batch):
        raise BatchError("bytes follow the last record of a batch")


def _nullable(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = read_varint(data, position)
    if length < 0:
        if length != -1:
            raise BatchError("a negative length")
        return None, position
    after = position + length
    if after > end:
        raise BatchError("a field is longer than its record")
    return data[position:after], after


def check_records(plain: bytes, header: BatchHeader) -> None:
    """Raise BatchError unless every record of a batch from outside can be read and offsets count up without gaps."""
    expected = header.base_offset
    for record in records(plain, header):
        if record.offset != expected:
            raise BatchError("record offsets do not count up by one")
        for name, _ in record.headers:
            if name in NODES_OWN:
                raise BatchError(f"the header {name.decode()} is the node's to write")
        expected += 1
    if expected != header.next_offset:
        raise BatchError("the count of records does not fit the last offset")


# What events with the same header bytes share: topic, its bytes, their count times two (-1: no topic), QoS, publisher,
# headers, properties, retain, origin, flow. Of events of other nodes the header bytes count without the offset there.
Shared: TypeAlias = tuple[
    str | None, bytes, int, int, str, Headers, Properties | None, bool, OriginPartition | None, int]
Seen: TypeAlias = dict[bytes, Shared | None]       # header bytes -> what they say; None: the topic is not wanted

# size (2), attributes, timestamp delta (1), offset delta (1 or 2, of which the last byte), key size (1)
_Head: TypeAlias = Callable[[bytes, int], tuple[int, int, int, int, int]]
_HEAD_1 = cast(_Head, struct.Struct("BBxBBB").unpack_from)
_HEAD_2 = cast(_Head, struct.Struct("BBxBxBB").unpack_from)


_NAMED = {name: varint(len(name)) + name for name in (TOPIC, QOS, CLIENT)}
_QOS_0 = _NAMED[QOS] + varint(1) + b"0"

# Bytes of a field by its length of one byte; a negative length is null, as Kafka's clients read it.
_LENGTHS = tuple(0 if size & 1 else size >> 1 for size in range(0x80))


def _no_head(data: bytes, position: int) -> tuple[int, int, int, int, int]:
    """Takes the place of the unpackers where offset deltas cannot be guessed: sends every record the long way."""
    return 0, 0, 0, 0, 0


def _long_head(data: bytes, position: int) -> tuple[int, int, int, int, int, int]:
    """Any record up to its key: end, raw timestamp delta, offset delta, place of the key, place after it, key size.

    Timestamp delta and key size (times two, 1 = null) are as on disk, before the zigzag is undone.
    """
    size, position = read_varint(data, position)
    end = position + size
    delta, position = read_varint(data, position + 1)
    offset_delta, position = read_varint(data, position)
    key_size, key_at = read_varint(data, position)
    delta = delta << 1 if delta >= 0 else (-delta << 1) - 1
    if key_size < 0:
        return end, delta, offset_delta, key_at, key_at, 1
    return end, delta, offset_delta, key_at, key_at + key_size, key_size << 1


class Decoder:
    """Reads the records of one partition as Events."""

    __slots__ = ("_cache", "_origins", "_partition", "_topic_of_key", "fixed_topic")

    def __init__(self, partition: object, topic_of_key: Callable[[bytes | None], str],
                 fixed_topic: str | None = None, origins: OriginTable | None = None) -> None:
        """topic_of_key: the topic of a record that names none.  fixed_topic: that of all such, if it is known.
        origins: where batches come from that were stored as another node had them; None: nobody asks.
        """
        self.fixed_topic = fixed_topic
        self._origins = origins if origins is not None else OriginTable()
        self._partition = partition
        self._topic_of_key = topic_of_key
        self._cache: dict[bytes, Fields] = {}

    def events(
        self,
        data: bytes,
        at: int,
        header: BatchHeader,
        from_offset: int,
        wanted: Verdicts,
        seen: Seen,
        out: list[Event],
        limit: int,
        index: int = 0,
        relative: int = HEADER_BYTES,
        looked_max: int = LOOKED_MAX,
    ) -> tuple[int, int, int]:
        """Append the wanted events of the batch at `at` to out until it has limit of them, or has looked at looked_max.

        seen: filled here, valid for one wanted. index and relative name the record to begin with and its place.
        Returns the offset to go on from, and index and place of its record. A compressed batch must be given
        expanded, see plain_batch.
        """
        begin = len(out)
        found = self._events(data, at, header, from_offset, wanted, seen, out, limit, index, relative,
                             looked_max)
        if self._origins:
            self._origins.mark(header.base_offset, out, begin)
        return found

    def _events(
        self,
        data: bytes,
        at: int,
        header: BatchHeader,
        from_offset: int,
        wanted: Verdicts,
        seen: Seen,
        out: list[Event],
        limit: int,
        index: int,
        relative: int,
        looked_max: int,
    ) -> tuple[int, int, int]:
        offset_base = header.base_offset
        timestamp_base = header.base_timestamp
        partition = self._partition
        append = out.append
        room = limit - len(out)
        count = header.record_count
        gapless = count == header.last_offset_delta + 1
        count = min(count, index + looked_max)
        replicas = False                    # the last record that was new here came from another node
        position = at + relative
        while index < count:
            # The usual record has two bytes of size and one of timestamp delta, and its offset delta is its index,
            # so that one unpack gives all that is needed up to the key. Everything else goes the long way, also an
            # offset delta with more bytes than it needs, which a Kafka producer may write.
            if index < 64:
                unpack, key_from, stop = _HEAD_1, 6, 64
            else:
                unpack, key_from, stop = _HEAD_2, 7, 8192
            if not gapless or index >= 8192:
                unpack, stop = _no_head, count
            if stop > count:
                stop = count
            for index in range(index, stop):  # noqa: B020  # go on where the last stretch ended
                start = position
                size_low, size_high, delta, offset_end, key_size = unpack(data, position)
                if size_low > 0x7F > size_high and delta < 0x80 and offset_end < 0x80 and key_size < 0x80:
                    end = position + 2 + ((size_low & 0x7F | size_high << 7) >> 1)
                    key_at = position + key_from
                    position = key_at + _LENGTHS[key_size]
                    offset = offset_base + index
                else:
                    end, delta, offset, key_at, position, key_size = _long_head(data, position)
                    offset += offset_base
                value_size = data[position]
                if value_size < 0x80:
                    value_at = position + 1
                    value_end = value_at + _LENGTHS[value_size]
                elif value_size & 1:                        # negative, with more bytes than it needs
                    value_end = value_at = read_varint(data, position)[1]
                elif (high := data[position + 1]) < 0x80:
                    value_at = position + 2
                    value_end = value_at + ((value_size & 0x7F | high << 7) >> 1)
                else:
                    length, value_at = read_varint(data, position)
                    value_end = value_at + length
                position = end
                header_part = data[value_end:end - ORIGIN_DIGITS if replicas else end]
                try:
                    fields = seen[header_part]
                except KeyError:
                    replicas = data.startswith(ORIGIN_MARK, max(end - _MARKED_BYTES, value_end))
                    header_part = data[value_end:end - ORIGIN_DIGITS if replicas else end]
                    fields = seen[header_part] if header_part in seen else self._first_seen(
                        data[value_end:end], header_part, wanted, seen)
                if fields is None or offset < from_offset:
                    continue
                if not room:
                    return offset, index, start - at
                topic, topic_bytes, topic_size, qos, publisher, headers, properties, retain, origin, flow = fields
                if key_size == topic_size and data.startswith(topic_bytes, key_at):
                    key = None
                elif key_size & 1:
                    key = None
                    properties = with_null_key(properties)
                else:
                    key = data[key_at:key_at + (key_size >> 1)]
                if value_size & 1:
                    properties = with_null_payload(properties)
                if topic is None:
                    topic = self._topic_of_key(key)
                    if not wanted[topic]:
                        continue
                room -= 1
                append(Event(
                    topic, data[value_at:value_end], qos, publisher, key, headers, properties, retain,
                    timestamp_base + ((delta >> 1) ^ -(delta & 1)) if delta else timestamp_base, offset, partition,
                    None, None, origin, -1 if origin is None else int(data[end - ORIGIN_DIGITS:end], 16), flow,
                ))
            index = stop
        if count < header.record_count:
            return max(offset + 1, from_offset), count, position - at
        return header.next_offset, count, position - at

    def newest(self, plain: bytes, header: BatchHeader, into: dict[bytes, bytes]) -> None:
        """Put the value of each record under its key, and forget what has none. Of a batch of a table, expanded.

        A third of the time that events() takes, as each record has a topic of its own there, which is its key.
        """
        position = HEADER_BYTES
        for _ in range(header.record_count):
            size = plain[position]
            if size < 0x80:
                at, end = position + 2, position + 1 + (size >> 1)
            elif (high := plain[position + 1]) < 0x80:
                at, end = position + 3, position + 2 + ((size & 0x7F | high << 7) >> 1)
            else:
                length, at = read_varint(plain, position)
                at, end = at + 1, at + length
            while plain[at] > 0x7F:                     # timestamp delta
                at += 1
            at += 1
            while plain[at] > 0x7F:                     # offset delta
                at += 1
            size = plain[at + 1]
            if size < 0x80:
                key_at = at + 2
                key_end = key_at + _LENGTHS[size]
            else:
                length, key_at = read_varint(plain, at + 1)
                key_end = key_at + max(length, 0)
            size = plain[key_end]
            if size < 0x80:
                value_at = key_end + 1
                value_end = value_at + _LENGTHS[size]
            else:
                length, value_at = read_varint(plain, key_end)
                value_end = value_at + max(length, 0)
            if value_end > value_at:
                into[plain[key_at:key_end]] = plain[value_at:value_end]
            else:
                into.pop(plain[key_at:key_end], None)
            position = end

    def _first_seen(self, whole: bytes, header_part: bytes, wanted: Verdicts, seen: Seen) -> Shared | None:
        """whole: the header bytes; header_part: the same as far as other records may share them."""
        result: Shared | None = None
        usual = _usual(whole)
        if usual is not None:
            topic, topic_bytes, qos, publisher = usual
            if wanted[topic]:
                result = topic, topic_bytes, len(topic_bytes) << 1, qos, publisher, (), None, False, None, 0
        elif (fields := self.fields(whole)).topic is None or wanted[fields.topic]:
            result = (
                fields.topic, fields.topic_bytes, len(fields.topic_bytes) << 1 if fields.topic is not None else -1,
                fields.qos, fields.publisher, fields.headers, fields.properties, fields.retain,
                fields.origin, fields.flow,
            )
        if len(header_part) <= _CACHED_BYTES_MAX:
            if len(seen) >= _CACHE_MAX:
                seen.clear()
            seen[header_part] = result
        return result

    def fields(self, header_part: bytes) -> Fields:
        """The fields in the header bytes (count and headers) of one record."""
        cut = header_part
        if header_part.startswith(ORIGIN_MARK, max(len(header_part) - _MARKED_BYTES, 0)):
            cut = header_part[:-ORIGIN_DIGITS]
        fields = self._cache.get(cut)
        if fields is None:
            fields = read_fields(_split_headers(header_part))
            if len(cut) <= _CACHED_BYTES_MAX:
                if len(self._cache) >= _CACHE_MAX:
                    self._cache.clear()
                self._cache[cut] = fields
        return fields

    def topic(self, record: Record) -> str:
        """The topic of a record."""
        named = self.fields(record.header_part).topic
        return self._topic_of_key(record.key) if named is None else named


def _usual(header_part: bytes) -> tuple[str, bytes, int, str] | None:
    """Topic, its bytes, QoS and publisher, where a record says no more: most do not, and in a log of many topics each
    is read for itself. None: there is more, or something is unusual.
    """
    if not header_part.startswith(_NAMED[TOPIC], 1):
        return None
    topic_bytes, position = _short(header_part, 1 + len(_NAMED[TOPIC]))
    left = header_part[0] - varint(1)[0]
    qos, client = 1, b""
    if left and header_part.startswith(_QOS_0, position):
        qos, position, left = 0, position + len(_QOS_0), left - 2
    if left and header_part.startswith(_NAMED[CLIENT], position):
        client, position = _short(header_part, position + len(_NAMED[CLIENT]))
        left -= 2
        if not client:
            return None
    if left or position != len(header_part) or not topic_bytes:
        return None
    try:
        return topic_bytes.decode(), topic_bytes, qos, client.decode()
    except UnicodeDecodeError:
        return None


def _short(data: bytes, position: int) -> tuple[bytes, int]:
    """A field with a length of one or two bytes, and the place after it; nothing, where that is not so."""
    try:
        size, position = data[position], position + 1
        if size > 0x7F:
            size, position = size & 0x7F | data[position] << 7, position + 1
    except IndexError:
        return b"", -1
    end = position + (size >> 1)
    return (b"", -1) if size & 1 or size >> 14 or end > len(data) else (data[position:end], end)


def _split_headers(header_part: bytes) -> list[RawHeader]:
    count, position = read_varint(header_part, 0)
    end = len(header_part)
    headers: list[RawHeader] = []
    for _ in range(count):
        name, position = _nullable(header_part, position, end)
        content, position = _nullable(header_part, position, end)
        headers.append((name or b"", content))
    return headers
