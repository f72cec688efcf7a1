"""The key of an event, by which key-shared consumers keep events together: its own, else its topic."""
from __future__ import annotations

from zlib import crc32

from routing.event import Event


def key_of(event: Event) -> bytes:
    return event.key if event.key is not None else event.topic.encode()


def key_hash(event: Event) -> int:
    return crc32(event.key if event.key is not None else event.topic.encode())
