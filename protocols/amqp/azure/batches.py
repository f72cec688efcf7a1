"""Batches of Event Hubs: a message whose data sections are messages. Message format 0x80013700. Sans-IO.

Its own annotations count for those in it that have none: the SDKs write the partition key there.
"""
from __future__ import annotations

from collections.abc import Iterator

from protocols.amqp.codec.conditions import DecodeFault
from protocols.amqp.codec.decode import skip
from protocols.amqp.codec.message import DATA, FOOTER, HEADER, MESSAGE_ANNOTATIONS, Span, inner

MESSAGE_FORMAT = 0x80013700


def messages_of(batch: bytes) -> Iterator[bytes | Span]:
    """Each message in it; before them, as a Span, the annotations of the batch if there are any. Raises DecodeFault."""
    position, end = 0, len(batch)
    while position < end:
        if batch[position:position + 2] != b"\x00\x53" or position + 3 > end:
            raise DecodeFault("a section of a batch is not described by its number")
        code = batch[position + 2]
        start = position + 3
        stop = skip(batch, start, end)
        if not HEADER <= code <= FOOTER:
            raise DecodeFault("a batch has sections of a message")
        if code == MESSAGE_ANNOTATIONS:
            yield start, stop
        elif code == DATA:
            if batch[start] not in (0xA0, 0xB0):
                raise DecodeFault("a data section holds no binary")
            first, last = inner(batch, (start, stop))
            yield batch[first:last]
        position = stop
