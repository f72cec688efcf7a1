"""Inbound QoS 2 packet ids of a session that are open: from PUBLISH to PUBREL. Sans-IO.

    not here ── PUBLISH given to the router ──► waiting ── on the disk, PUBREC ──► received ── PUBREL ──► not here

A client may open all 65,535, and MQTT 3.1.1 has no word to stop it, so the received ones are bits: 12 KiB a session at
most, 9 KiB of it in a stored record, whatever was opened.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from routing.event import Event

BLOCK_BITS = 9                          # ids of a block: their number is 2 to the power of this
_IN_BLOCK = (1 << BLOCK_BITS) - 1
_BLOCK_BYTES = (_IN_BLOCK + 1) // 8

Blocks = dict[int, bytes]               # number of a block → its bits, little-endian


class OpenIds:
    __slots__ = ("_blocks", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, Event] = {}         # id → its event, while that waits for the disk
        self._blocks: dict[int, int] = {}

    def __contains__(self, packet_id: int) -> bool:
        return packet_id in self.waiting or self.is_received(packet_id)

    def __iter__(self) -> Iterator[int]:
        yield from self.waiting
        for number, bits in self._blocks.items():
            while bits:
                low = bits & -bits
                bits ^= low
                yield number << BLOCK_BITS | low.bit_length() - 1

    def __len__(self) -> int:
        return len(self.waiting) + sum(bits.bit_count() for bits in self._blocks.values())

    def __bool__(self) -> bool:
        return bool(self.waiting or self._blocks)

    def is_received(self, packet_id: int) -> bool:
        """Its event is durable: a repeat is answered, and not published."""
        return bool(self._blocks.get(packet_id >> BLOCK_BITS, 0) >> (packet_id & _IN_BLOCK) & 1)

    def wait(self, packet_id: int, event: Event) -> None:
        """Its event was given to the router."""
        self.waiting[packet_id] = event

    def received(self, packet_id: int) -> None:
        """Its event is durable."""
        self.waiting.pop(packet_id, None)
        number = packet_id >> BLOCK_BITS
        self._blocks[number] = self._blocks.get(number, 0) | 1 << (packet_id & _IN_BLOCK)

    def discard(self, packet_id: int) -> None:
        """Released, or its event was refused."""
        self.waiting.pop(packet_id, None)
        number = packet_id >> BLOCK_BITS
        bits = self._blocks.get(number, 0) & ~(1 << (packet_id & _IN_BLOCK))
        if bits:
            self._blocks[number] = bits
        else:
            self._blocks.pop(number, None)

    def blocks(self, also: Iterable[int] = ()) -> Blocks:
        """The received ids, to be stored. also: others that count as received."""
        found = dict(self._blocks)
        for packet_id in also:
            number = packet_id >> BLOCK_BITS
            found[number] = found.get(number, 0) | 1 << (packet_id & _IN_BLOCK)
        return {number: bits.to_bytes(_BLOCK_BYTES, "little") for number, bits in found.items()}

    def restore(self, blocks: Blocks) -> None:
        self._blocks = {number: int.from_bytes(raw, "little") for number, raw in blocks.items() if any(raw)}
