"""Keys of other nodes, as they were first seen (linkstate/seals.py), and the node's own keys as the mesh uses them.

    node-key/<name>     in the state table: [key, neighbour that told of it, when]
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mesh.identity.boxes import Box
from routing.fairness.shares import Share

if TYPE_CHECKING:
    from mesh.identity.node_key import NodeKey
    from routing.state import StateTable

log = logging.getLogger(__name__)

PREFIX: Final = "node-key/"
PINS_MAX: Final = 10_000            # names: ten times a mesh
NEIGHBOUR_SHARE: Final = 0.2        # of what the others leave of them: what one neighbour may tell, who may invent some

TELLER: Final = "neighbour "        # before its name, which is nobody's name then


class Pin(msgspec.Struct, frozen=True, array_like=True):
    """by: the neighbour that told of it first; the node itself: it proved its name at a link."""

    key: bytes
    by: str
    time_ms: int


class KnownNodes:
    """Pins of seals.py. One per node. Loop thread only.

    None ever goes for another one. A neighbour that tells of ever new names uses up its own share, 2,000 when it is
    the first; whoever comes after it has one fifth of the rest. What has proven its name at a link is always kept.
    """

    def __init__(self, state: StateTable, clock_ms: Callable[[], int]) -> None:
        self.on_change: Callable[[str, str, str, str], None] = lambda name, before, after, by: None     # hexadecimal
        self._state = state
        self._clock_ms = clock_ms
        self._pins = dict(state.decoded(PREFIX, Pin, "a node's key"))
        self._told = Share("keys of nodes", lambda: NEIGHBOUR_SHARE)
        for pin in self._pins.values():
            self._told.add(TELLER + pin.by)

    def get(self, name: str) -> bytes | None:
        pin = self._pins.get(name)
        return pin.key if pin is not None else None

    def put(self, name: str, key: bytes, by: str) -> None:
        known = self._pins.get(name)
        if known is None and by != name and self._told.refuse(TELLER + by, PINS_MAX) is not None:
            return                              # believed, and not remembered
        if known is not None:
            log.warning("node %s has another key now: %s in the place of %s, by %s", name, key.hex(), known.key.hex(),
                        by)
            self._told.give(TELLER + known.by)
            self.on_change(name, known.key.hex(), key.hex(), by)
        self._pins[name] = pin = Pin(key, by, self._clock_ms())
        self._told.add(TELLER + by)
        self._state.put(PREFIX + name, msgspec.msgpack.encode(pin))

    def drop(self, name: str) -> None:
        pin = self._pins.pop(name, None)
        if pin is not None:
            self._told.give(TELLER + pin.by)
            self._state.delete(PREFIX + name)

    def rows(self) -> Iterator[dict[str, Any]]:
        for name, pin in self._pins.items():
            yield {"name": name, "key": pin.key.hex(), "by": pin.by, "time_ms": pin.time_ms}


class MeshKeys:
    """Crypto of seals.py: the key of the node, and that of this run."""

    def __init__(self, key: NodeKey) -> None:
        self._key = key
        self._box = Box()

    @property
    def public(self) -> bytes:
        return bytes.fromhex(self._key.public)

    @property
    def box(self) -> bytes:
        return self._box.public

    def sign(self, data: bytes) -> bytes:
        return bytes.fromhex(self._key.sign(data))

    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool:
        from mesh.identity.node_key import is_signed

        return is_signed(public.hex(), signature.hex(), data)

    def shared(self, box: bytes) -> bytes:
        """Raises ValueError."""
        return self._box.shared(box)

    def load(self) -> None:
        """What signing needs, some 50 ms: on a thread, before somebody is waited for."""
        self.verify(self.public, self.sign(b"") if self.box else b"", b"")
