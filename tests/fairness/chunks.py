"""What attackers send: as many bytes as one wants, of packets that are the same or ever new."""
from __future__ import annotations

from collections.abc import Callable

SEVERAL = 1 << 20               # bytes of a chunk, about


def many(make: Callable[[int], bytes], size: int = SEVERAL) -> bytes:
    """Packets of ever new numbers until there are about size bytes."""
    found: list[bytes] = []
    total = 0
    while total < size:
        found.append(make(len(found)))
        total += len(found[-1])
    return b"".join(found)
