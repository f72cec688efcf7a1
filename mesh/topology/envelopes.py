"""Envelopes: messages to nodes that are no neighbours, with a mark that only their sender could make. Sans-IO.

    body = C1 | number: u64 | mark: 16 bytes | what was sent          C1 begins no MessagePack, so nothing else looks so

A link proves who the neighbour is; who stands behind it is proven by this. The mark is a keyed BLAKE2b over sender,
receiver, number and body, with a secret that the two come to by the keys in their signed states. A number counts once:
who passes a message on cannot do it twice. Costs 2 µs, and 1 ns for each byte.
"""
from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mesh.topology.linkstate.nodestate import NodeState
    from mesh.topology.linkstate.seals import Seals

MAGIC: Final = 0xC1
MARK_BYTES: Final = 16
HEAD: Final = struct.Struct(f">BQ{MARK_BYTES}s")
WINDOW: Final = 16_384                  # numbers below the highest one that may still come: frames overtake each other
KNOWN_MAX: Final = 2_000                # nodes; more than a mesh may have


class _Way:
    """To and from one run of another node."""

    __slots__ = ("highest", "inward", "outward", "taken")

    def __init__(self, outward: bytes, inward: bytes) -> None:
        self.outward = outward
        self.inward = inward
        self.highest = 0
        self.taken = 0                  # bit n: the number highest - n has come

    def is_new(self, number: int) -> bool:
        """And from now on it is not."""
        if number > self.highest:
            self.taken = ((self.taken << min(number - self.highest, WINDOW)) | 1) & ((1 << WINDOW) - 1)
            self.highest = number
            return True
        bit = 1 << (self.highest - number) if self.highest - number < WINDOW else 0
        if not bit or self.taken & bit:
            return False
        self.taken |= bit
        return True


class Envelopes:
    def __init__(self, me: str, seals: Seals, node: Callable[[str], NodeState | None]) -> None:
        """node: as it is now, by name."""
        self._node = node
        self._me = me
        self._seals = seals
        self._ways: dict[tuple[str, str, bytes], _Way] = {}
        self._number = 0                # of all that was sent: it rises for each receiver, also for one forgotten

    def wrap(self, to: NodeState, body: bytes) -> bytes:
        """As it is for a node that could not open it."""
        way = self._way(to)
        if way is None:
            return body
        self._number += 1
        return HEAD.pack(MAGIC, self._number, _mark(way.outward, self._number, body)) + body

    def open(self, source: NodeState | None, body: bytes) -> bytes | None:
        """What a node that is no neighbour has sent, or None: it has not, or it came before."""
        way = self._way(source) if source is not None else None
        if way is None:
            return None if self._seals.required or body[:1] == b"\xc1" else body
        if len(body) < HEAD.size or body[0] != MAGIC:
            return None
        _, number, mark = HEAD.unpack_from(body)
        inner = body[HEAD.size:]
        if not hmac.compare_digest(mark, _mark(way.inward, number, inner)) or not way.is_new(number):
            return None
        return inner

    def _way(self, other: NodeState) -> _Way | None:
        crypto = self._seals.crypto
        if crypto is None or not other.box:
            return None
        place = other.name, other.boot, other.box
        way = self._ways.get(place)
        if way is None:
            try:
                shared = crypto.shared(other.box)
            except ValueError:
                return None
            if len(self._ways) >= KNOWN_MAX:
                self._forget_one()
            way = self._ways[place] = _Way(_key(shared, self._me, other.name), _key(shared, other.name, self._me))
        return way

    def _forget_one(self) -> None:
        """With it go the numbers that have come. So one of a run that is over, or of nobody, if there is any: else who
        makes up nodes could have those of others forgotten, and say again what they have said.
        """
        def is_over(place: tuple[str, str, bytes]) -> bool:
            node = self._node(place[0])
            return node is None or (node.boot, node.box) != place[1:]

        self._ways.pop(next(filter(is_over, self._ways), next(iter(self._ways))))


def _key(shared: bytes, source: str, to: str) -> bytes:
    return hashlib.blake2b(f"{source}\0{to}".encode(), key=shared, person=b"meshgate relay").digest()


def _mark(key: bytes, number: int, body: bytes) -> bytes:
    mark = hashlib.blake2b(number.to_bytes(8, "big"), key=key, digest_size=MARK_BYTES)
    mark.update(body)
    return mark.digest()
