"""What a message that has not come whole costs, below any socket."""
from __future__ import annotations

import tracemalloc
from types import SimpleNamespace

import pytest

from protocols.amqp091.channels.content import Assembly


@pytest.mark.parametrize("piece", [b"", b"ab"])
def test_pieces_of_a_body_cost_their_bytes_however_small_they_are(piece):
    """100,000 frames of nothing, or of two bytes: as objects in a list that was 1 to 5 MiB, and without end."""
    size = 2 * 100_000 + 5
    broker = SimpleNamespace(router=SimpleNamespace(limits=SimpleNamespace(payload_bytes_max=1 << 20)),
                             settings=SimpleNamespace(partial_bytes_max=1 << 24))
    peer = SimpleNamespace(broker=broker, partial_bytes=0)
    assembly = Assembly(peer)
    publish = bytes(6) + b"\0\0\0"
    assembly.publish(publish, 0, len(publish))
    head = b"\x00\x3c\0\0" + size.to_bytes(8, "big") + b"\0\0"
    assert assembly.header(head, 0, len(head)) is None
    tracemalloc.start()
    for _ in range(100_000):
        assert assembly.piece(piece, 0, len(piece)) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600_000
    rest = bytes(size - 100_000 * len(piece))
    incoming, body = assembly.piece(rest, 0, len(rest))
    assert body == piece * 100_000 + rest and incoming.size == size and peer.partial_bytes == 0
