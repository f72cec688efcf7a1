"""Kafka's RecordBatch v2: the frame in which records lie on disk, byte for byte as Kafka writes it.

Used by encode.py, decode.py, recovery.py and compaction.py. Pure functions over bytes.

    0        8         12        16     17     21         23
    +--------+---------+---------+------+------+----------+--
    | base   | length  | leader  |magic |crc32c|attributes|      length counts what follows it
    | offset | (bytes) | epoch   | = 2  |      |          |      crc32c covers everything after itself
    +--------+---------+---------+------+------+----------+--
    23            27          35          43        51        53        57       61
    +-------------+-----------+-----------+---------+---------+---------+--------+---- records
    | last offset | base      | max       |producer |producer | base    | record |
    | delta       | timestamp | timestamp | id      | epoch   | sequence| count  |
    +-------------+-----------+-----------+---------+---------+---------+--------+----

    record: length, attributes(1), timestamp delta, offset delta, key length, key, value length, value,
            header count, then per header: name length, name, value length, value       (lengths -1 = null)
    All lengths, deltas and counts in a record are zigzag varints.      Source: Kafka documentation, "Record Batch"

Two fields lie outside the checksum, because the broker sets them; here they mean
    base offset    always the offset after the last one of the batch before: a chain without gaps in one segment
    leader epoch   FIRST_IN_GROUP for the first batch of a group commit, LATER_IN_GROUP for the others. A group is
                   written only when the one before it is synced. So a broken batch with a FIRST_IN_GROUP behind it
                   is damage of synced data; one without is a group that a power failure tore (recovery.py).
"""
from __future__ import annotations

import struct

import google_crc32c
import msgspec

from routing.errors import MeshgateError

if google_crc32c.implementation != "c":     # 50 × slower would be noticed much later, so say it now
    raise ImportError("google-crc32c is installed without its C extension")

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = 61
_PREFIX_BYTES = 12                          # base offset and length, which length does not count
_CHECKED_FROM = 21                          # first byte under the checksum
_CHECKED_HEADER = struct.Struct(">hiqqqhii")

FIRST_IN_GROUP = 0
LATER_IN_GROUP = -1                         # Kafka's NO_PARTITION_LEADER_EPOCH: readers take it for "unknown"

BATCH_BYTES = 1024 * 1024                   # a group is split into batches of about this size
BATCH_BYTES_MAX = 128 * 1024 * 1024         # a longer declared length is damage, not a batch; Kafka's request: 100 MiB

CODEC_MASK = 0x07
LOG_APPEND_TIME_MASK = 0x08
TRANSACTIONAL_MASK = 0x10
CONTROL_MASK = 0x20


class BatchError(MeshgateError):
    """Bytes that are no valid batch; the text says why."""


class BatchHeader(msgspec.Struct, frozen=True, gc=False):
    """The 61 bytes before the records."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch, header included."""
        return self.length + _PREFIX_BYTES

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1


def batch_at(data: bytes, position: int) -> BatchHeader | None:
    """The header at position, or None when no plausible one stands there. Checks no checksum."""
    if len(data) - position < HEADER_BYTES:
        return None
    header = BatchHeader(*HEADER.unpack_from(data, position))
    if (
        header.magic != 2
        or not HEADER_BYTES - _PREFIX_BYTES <= header.length <= BATCH_BYTES_MAX
        or header.base_offset < 0
        or header.last_offset_delta < 0
        or not 0 <= header.record_count <= header.last_offset_delta + 1
    ):
        return None
    return header


def crc_is_right(data: bytes, position: int, header: BatchHeader) -> bool:
    """True when the whole batch is in data and its checksum fits."""
    end = position + header.size
    return end <= len(data) and google_crc32c.value(data[position + _CHECKED_FROM:end]) == header.crc


def check_header(batch: bytes) -> BatchHeader:
    """The header that batch begins with. Raises BatchError where there is no plausible one."""
    header = batch_at(batch, 0)
    if header is None:
        raise BatchError("no RecordBatch v2 header, or one that declares too much")
    return header


def check_batch(batch: bytes) -> BatchHeader:
    """The header of exactly one whole valid batch. Raises BatchError."""
    header = check_header(batch)
    if header.size != len(batch):
        raise BatchError(f"the batch declares {header.size} bytes and has {len(batch)}")
    if not crc_is_right(batch, 0, header):
        raise BatchError("checksum mismatch")
    return header


def place(batch: bytes, base_offset: int, *, first_in_group: bool) -> bytes:
    """The batch with the two fields that the broker sets. The checksum does not cover them."""
    epoch = FIRST_IN_GROUP if first_in_group else LATER_IN_GROUP
    return b"".join((struct.pack(">q", base_offset), batch[8:12], struct.pack(">i", epoch), batch[16:]))


def build_batch(
    base_offset: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
    record_count: int,
    records: bytes,
    *,
    first_in_group: bool,
    producer: tuple[int, int, int] = (-1, -1, -1),
    attributes: int = 0,
) -> bytes:
    """Frame encoded records. producer: id, epoch, base sequence, -1 for none."""
    checked = _CHECKED_HEADER.pack(
        attributes, last_offset_delta, base_timestamp, max_timestamp, *producer, record_count
    )
    crc = google_crc32c.extend(google_crc32c.value(checked), records)
    epoch = FIRST_IN_GROUP if first_in_group else LATER_IN_GROUP
    prefix = struct.pack(">qiibI", base_offset, len(records) + HEADER_BYTES - _PREFIX_BYTES, epoch, 2, crc)
    return b"".join((prefix, checked, records))


def rebuild(header: BatchHeader, records: bytes) -> bytes:
    """The batch of this header with other records, as many as before, and not compressed."""
    return build_batch(
        header.base_offset, header.last_offset_delta, header.base_timestamp, header.max_timestamp,
        header.record_count, records, first_in_group=False, attributes=header.attributes & ~CODEC_MASK,
        producer=(header.producer_id, header.producer_epoch, header.base_sequence))


def encode_varint(value: int) -> bytes:
    """Zigzag varint of value, which may be negative (64 bits)."""
    rest = value << 1 if value >= 0 else ((-value) << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


VARINTS_MAX = 16_384                        # offset deltas in a batch of 1 MiB and the lengths of most fields
VARINTS: tuple[bytes, ...] = tuple(encode_varint(value) for value in range(VARINTS_MAX))


def varint(value: int) -> bytes:
    """encode_varint by table where possible."""
    return VARINTS[value] if 0 <= value < VARINTS_MAX else encode_varint(value)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The zigzag varint at position and the position after it. Raises BatchError, IndexError past the end."""
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), position
        shift += 7
        if shift > 63:
            raise BatchError("a varint has more than 10 bytes")
