"""The chain of audit records, and its proof. Pure: from a live log, or from a copy on another machine.

    record n   {…, "previous": SHA-256 of the whole record n-1}        so a record that was changed, dropped, swapped or
                                                                       added breaks the chain at the next one
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec


def digest(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()


class Broken(msgspec.Struct, frozen=True):
    """Where a chain does not hold."""

    offset: int
    what: str


def verify(records: Iterator[tuple[int, bytes]]) -> tuple[int, Broken | None]:
    """records: (offset, payload) in order. The first one may have a predecessor that retention took."""
    count, expected_offset, head = 0, None, None
    for offset, payload in records:
        try:
            previous = msgspec.json.decode(payload, type=dict[str, Any])["previous"]
        except (msgspec.MsgspecError, KeyError):
            return count, Broken(offset, "this is no audit record")
        if expected_offset is not None and offset != expected_offset:
            return count, Broken(offset, f"records {expected_offset} to {offset - 1} are missing")
        if head is not None and previous != head:
            return count, Broken(offset, "this record, or the one before it, is not what was written")
        if head is None and not offset and previous:
            return count, Broken(offset, "this record says that another one was before it")
        count, expected_offset, head = count + 1, offset + 1, digest(payload)
    return count, None
