"""Read a node's log from disk without the node's code: Kafka's RecordBatch v2 through aiokafka's parser.

So a mistake in the node's own reader cannot hide what its writer did. Every CRC is checked.

    <data>/streams/<stream>/<partition>/<first offset>.log
    batch: base offset (8) | length of what follows (4) | … ; a segment is pre-sized, so zeros end it early

A batch without records declares that its offsets are not used, as Kafka's cleaner does: no gap, but no event either.
"""
from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatch

from tests.support.checker import Place, Record, parse_payload

_HEAD = struct.Struct(">qi")
_COUNT = struct.Struct(">i")


class LogDamaged(Exception):
    """Bytes that are no record batch, in the middle of a segment."""


def read_log(data: Path, stream: str = "events", *, from_offsets: dict[int, int] | None = None,
             unused: list[tuple[Place, int]] | None = None) -> list[Record]:
    """All records of a stream, partition by partition. from_offsets: partition -> skip what is below.

    unused: takes the declared gaps, each as its first place and its last offset.
    """
    return [Record(place, parse_payload(value), topic)
            for place, topic, value in raw_records(data, stream, from_offsets, unused)]


def raw_records(data: Path, stream: str = "events",
                from_offsets: dict[int, int] | None = None,
                unused: list[tuple[Place, int]] | None = None) -> Iterator[tuple[Place, str, bytes]]:
    """Place, topic and payload of every record."""
    for folder in sorted((data / "streams" / stream).iterdir()):
        if not folder.is_dir() or not folder.name.isdigit():
            continue
        partition = int(folder.name)
        start = (from_offsets or {}).get(partition, 0)
        segments = sorted(folder.glob("*.log"))
        for index, segment in enumerate(segments):
            if index + 1 < len(segments) and int(segments[index + 1].stem) <= start:
                continue
            first = Place(stream, partition, start)
            yield from _read_segment(segment, first, unused, last=index + 1 == len(segments))


def _read_segment(path: Path, start: Place, unused: list[tuple[Place, int]] | None, *,
                  last: bool) -> Iterator[tuple[Place, str, bytes]]:
    """A torn batch is allowed at the end of the last segment only."""
    for position, raw in _batches(path.read_bytes()):
        batch = DefaultRecordBatch(bytearray(raw))
        if not batch.validate_crc():
            if last:
                break                                           # a tail that the node had not finished
            raise LogDamaged(f"{path} at byte {position}: CRC")
        count, last_delta = _COUNT.unpack_from(raw, 57)[0], _COUNT.unpack_from(raw, 23)[0]
        if count == 0 and unused is not None:
            unused.append((start._replace(offset=batch.base_offset), batch.base_offset + last_delta))
        for record in batch if count else ():
            if record.offset < start.offset:
                continue
            topic = dict(record.headers).get("meshgate-topic", b"").decode()
            yield start._replace(offset=record.offset), topic, record.value or b""


def _batches(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEAD.size <= len(data):
        _, size = _HEAD.unpack_from(data, position)
        end = position + _HEAD.size + size
        if size < 49 or end > len(data):                        # 49: the rest of a batch's head; 0: pre-sized room
            return
        yield position, data[position:end]
        position = end
