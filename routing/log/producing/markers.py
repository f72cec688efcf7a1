"""Control batches: the markers that end a transaction in a partition. Only the node writes them.

Used by partition.py, recovery.py and restore.py.

    key    version 0 (2) | type (2): 0 abort, 1 commit       value    version 0 (2) | coordinator epoch (4)
                                                              Source: Kafka, EndTransactionMarker; KIP-98
"""
from __future__ import annotations

import struct

from routing.log.records.batch import (
    CONTROL_MASK,
    HEADER_BYTES,
    TRANSACTIONAL_MASK,
    BatchHeader,
    build_batch,
    read_varint,
    varint,
)

ABORT, COMMIT = 0, 1
UNKNOWN = -1


def build_marker(producer_id: int, epoch: int, kind: int, timestamp_ms: int, coordinator_epoch: int = 0) -> bytes:
    """A batch with one control record, to be placed."""
    key, value = struct.pack(">hh", 0, kind), struct.pack(">hi", 0, coordinator_epoch)
    body = b"".join((b"\0\0\0", varint(len(key)), key, varint(len(value)), value, b"\0"))
    return build_batch(0, 0, timestamp_ms, timestamp_ms, 1, varint(len(body)) + body, first_in_group=False,
                       attributes=CONTROL_MASK | TRANSACTIONAL_MASK, producer=(producer_id, epoch, -1))


def kind_of(batch: bytes, header: BatchHeader) -> int:
    """ABORT or COMMIT; UNKNOWN when it is no control batch, or another one."""
    if not header.attributes & CONTROL_MASK:
        return UNKNOWN
    try:
        _, position = read_varint(batch, HEADER_BYTES)
        _, position = read_varint(batch, position + 1)
        _, position = read_varint(batch, position)
        length, position = read_varint(batch, position)
        return int(struct.unpack_from(">hh", batch, position)[1]) if length == 4 else UNKNOWN
    except (IndexError, struct.error):
        return UNKNOWN
