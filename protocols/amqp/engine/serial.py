"""Serial numbers of 32 bits, which run over: RFC 1982, AMQP 1.0 §2.8.7-10."""
from __future__ import annotations

MASK = 0xFFFFFFFF
_HALF = 0x80000000


def after(number: int, steps: int) -> int:
    return (number + steps) & MASK


def distance(start: int, end: int) -> int:
    """From start to end; negative when end is before it."""
    found = (end - start) & MASK
    return found - (1 << 32) if found >= _HALF else found
