"""Frames and protocol headers. AMQP 1.0 §2.2, §2.3, §5.3.1. Sans-IO.

    0        4     5     6        8          4 × DOFF
    ┌────────┬─────┬─────┬────────┬──────────┬─────────────────────────┐
    │ size   │DOFF │type │channel │ extended │ performative │ payload  │        type 0 AMQP, 1 SASL
    └────────┴─────┴─────┴────────┴──────────┴─────────────────────────┘
"""
from __future__ import annotations

from protocols.amqp.codec.conditions import FRAMING_ERROR, ConnectionFault

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"
TLS_HEADER = b"AMQP\x02\x01\x00\x00"
HEADER_BYTES = 8
FRAME_MIN_BYTES = 512           # of max-frame-size                                                    §2.7.1
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"
AMQP, SASL = 0, 1


def frame(channel: int, body: bytes, kind: int = AMQP) -> bytes:
    return b"".join(((len(body) + 8).to_bytes(4, "big"), b"\x02", bytes((kind,)), channel.to_bytes(2, "big"), body))


def next_frame(data: bytes, position: int, size_max: int) -> int:
    """The size of the frame that begins here; 0: it has not come whole. Raises ConnectionFault.

    size_max: what we have said that we take. A size that is wrong is known from the first four bytes.
    """
    left = len(data) - position
    if left < 4:
        return 0
    size = int.from_bytes(data[position:position + 4], "big")
    if size < 8:
        raise ConnectionFault(FRAMING_ERROR, f"a frame of {size} bytes, it has 8 at least")
    if size > size_max:
        raise ConnectionFault(FRAMING_ERROR, f"a frame of {size} bytes, at most {size_max} are taken")
    if left < size:
        return 0
    offset = data[position + 4]
    if offset < 2 or offset * 4 > size:
        raise ConnectionFault(FRAMING_ERROR, f"a data offset of {offset} in a frame of {size} bytes")
    return size
