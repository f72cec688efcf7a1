"""The mark: how far a segment was checked, what that part holds, and of which bytes all this was said.

The head of the sidecar `<base>.summary`; sidecars.py reads and writes it, summary.py has the body behind it. It is the
checkpoint of recovery and what retention goes by, so it is believed only when its checksum is right *and* the first
and the last batch of the segment are those that it names: a file of another segment, stream or node is as whole as
the right one.

    +---------+--------+--------+----------+-------------+-------+--------------+--------------+--
    | magic 8 | crc of | crc of | position | next offset | count | first, max   | crc of index |
    |         | header | body   |    8     |      8      |   8   | timestamp 16 | timeindex 4+4|
    +---------+--------+--------+----------+-------------+-------+--------------+--------------+--
    +-------------+----------+--------------+--------------+--------------+-----------+
    | opened,     | crc of   | position of  | crc of       | 1: there were| body size |  body
    | appended 16 | batch 1  | last batch 8 | last batch 4 | producers 4  |     4     |
    +-------------+----------+--------------+--------------+--------------+-----------+

The first form (before 2026-12) ends after the checksums of the indexes, with the body size: it names no batches.
"""
from __future__ import annotations

import struct

import google_crc32c
import msgspec

_MAGIC, _OLD_MAGIC = b"MGsum\x02\r\n", b"MGsum\x01\r\n"
_HEADER, _OLD_HEADER = struct.Struct(">8sIIqqqqqIIqqIqIII"), struct.Struct(">8sIIqqqqqIII")
_CHECKED_FROM = 12

MARK_BYTES = _HEADER.size
UNKNOWN = -1


class Identity(msgspec.Struct, frozen=True):
    """Which bytes: the checksums of the first and the last batch, and where the last one stands."""

    first_crc: int = 0
    last_position: int = 0
    last_crc: int = 0


class Mark(msgspec.Struct, frozen=True):
    """How far the segment is known, and what that part holds. Times of appending are steady ms (routing/clock.py)."""

    position: int
    next_offset: int
    record_count: int
    first_timestamp: int            # -1 when empty
    max_timestamp: int              # -1 when empty
    index_crc: int
    timeindex_crc: int
    opened_ms: int = UNKNOWN        # when the first batch was appended; UNKNOWN: the mark is of the first form
    appended_ms: int = UNKNOWN      # when the last one was
    identity: Identity | None = None
    had_producers: bool = False     # a list of producers was saved with it (producing/restore.py)


def encode_sidecar(mark: Mark, body: bytes) -> bytes:
    identity = mark.identity or Identity()
    checked = _HEADER.pack(
        _MAGIC, 0, google_crc32c.value(body), mark.position, mark.next_offset, mark.record_count,
        mark.first_timestamp, mark.max_timestamp, mark.index_crc, mark.timeindex_crc, mark.opened_ms,
        mark.appended_ms, identity.first_crc, identity.last_position, identity.last_crc,
        int(mark.had_producers), len(body),
    )[_CHECKED_FROM:]
    return b"".join((_MAGIC, struct.pack(">I", google_crc32c.value(checked)), checked, body))


def decode_mark(data: bytes) -> Mark | None:
    """The mark that data begins with; None when it is damaged or something else."""
    form = _form(data)
    if form is None:
        return None
    _, _, _, *fields, _ = form.unpack_from(data)
    if form is _OLD_HEADER:
        return Mark(*fields)
    first_crc, last_position, last_crc, had_producers = fields[9:]
    return msgspec.structs.replace(Mark(*fields[:9]), identity=Identity(first_crc, last_position, last_crc),
                                   had_producers=bool(had_producers))


def body_of(data: bytes) -> bytes | None:
    """What stands behind the mark; None when it is not what the mark was written with."""
    form = _form(data)
    if form is None:
        return None
    fields, body = form.unpack_from(data), data[form.size:]
    return body if len(body) == fields[-1] and google_crc32c.value(body) == fields[2] else None


def _form(data: bytes) -> struct.Struct | None:
    """The form of the mark, None when there is no whole one."""
    form = _HEADER if data[:8] == _MAGIC else _OLD_HEADER if data[:8] == _OLD_MAGIC else None
    if form is None or len(data) < form.size:
        return None
    crc = int.from_bytes(data[8:12], "big")
    return form if google_crc32c.value(data[_CHECKED_FROM:form.size]) == crc else None
