"""Seals: what a node says of itself is signed by it, so nobody on the way can speak for it. Sans-IO.

    record   [ …, {"key": Ed25519, "box": X25519}, seal ]       seal: the signature of all bytes before it
    change   [ …, seal ]
    alive    [ 3, age, node, boot, version, beat, seal ]        of what stands between: the age changes on the way

The key that a name shows first is remembered (pinned): another one is refused from then on, until an operator says
forget, or the node proves at a link of its own that it is who it is. A node that shows no key is one of an earlier
version, and is believed until `[mesh] require_signed`; one that once had a key has to go on showing it.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from mesh.topology.linkstate.nodestate import BOX, KEY, Alive, BadState, NodeChange, NodeRecord, encode

if TYPE_CHECKING:
    from collections import Counter

KEY_BYTES: Final = 32
SEAL_BYTES: Final = 64
_MARK: Final = b"\xc4\x40"              # how 64 bytes begin in MessagePack
_BLANK: Final = bytes(SEAL_BYTES)
STRANGERS_MAX: Final = 100              # names with another key than before, that are told


class Crypto(Protocol):
    """The node's keys: mesh/identity. Loaded when they are first asked for."""

    @property
    def public(self) -> bytes: ...
    @property
    def box(self) -> bytes: ...
    def sign(self, data: bytes) -> bytes: ...
    def verify(self, public: bytes, signature: bytes, data: bytes) -> bool: ...
    def shared(self, box: bytes) -> bytes:
        """Raises ValueError."""


class Pins(Protocol):
    """Keys that were seen, by the names of their nodes; they outlive a restart."""

    def get(self, name: str) -> bytes | None: ...
    def put(self, name: str, key: bytes, by: str) -> None:
        """by: the neighbour that told of it."""

    def drop(self, name: str) -> None: ...


class Seals:
    """One per node. Without keys (crypto None) nothing is signed, and signatures of others are not looked at."""

    def __init__(self, crypto: Crypto | None, pins: Pins | None, counts: Counter[str], *, required: bool) -> None:
        self.crypto = crypto
        self.required = required and crypto is not None
        self.strangers: dict[str, bytes] = {}       # name → the key that it shows, and that is not the one it had
        self._pins = pins
        self._counts = counts

    # -- our own, where we sign -------------------------------------------------------------------------------

    def own_record(self, record: NodeRecord) -> bytes:
        crypto = self.crypto
        assert crypto is not None
        more = {**record.more, KEY: crypto.public, BOX: crypto.box}
        return self._sealed(encode(msgspec.structs.replace(record, more=more, seal=_BLANK)))

    def own_change(self, change: NodeChange) -> bytes:
        return self._sealed(encode(msgspec.structs.replace(change, seal=_BLANK)))

    def own_alive(self, node: str, boot: str, version: int, beat: int) -> bytes:
        assert self.crypto is not None
        return self.crypto.sign(_alive_bytes(node, boot, version, beat))

    def _sealed(self, raw: bytes) -> bytes:
        assert self.crypto is not None and raw.endswith(_MARK + _BLANK)
        return raw[:-SEAL_BYTES] + self.crypto.sign(raw[:-SEAL_BYTES])

    # -- those of others --------------------------------------------------------------------------------------

    def key_of(self, name: str) -> bytes | None:
        return self._pins.get(name) if self.crypto is not None and self._pins is not None else None

    def takes_record(self, record: NodeRecord, raw: bytes, by: str, wanted: str = "") -> bool:
        """by: the neighbour that told it; the node itself has proven its name at that link, whose entry wants this key.
        Raises BadState for a seal that is none.
        """
        if self.crypto is None or self._pins is None:
            return True
        name, key, known = record.node, record.more.get(KEY, b""), self._pins.get(record.node)
        if key:
            self._check(key, record.seal, raw, name)
        proven = by == name
        if proven and wanted and key.hex() != wanted:
            self.strangers.setdefault(name, key)
            return self._refuse("not the key of its entry")
        if key == (known or b""):
            return bool(key) or not self.required or self._refuse("unsigned")
        if known is not None and not proven:        # whoever it is, he has not the key that it had
            if name in self.strangers or len(self.strangers) < STRANGERS_MAX:
                self.strangers[name] = key
            return self._refuse("another key")
        self.strangers.pop(name, None)
        if not key:
            if self.required:
                return self._refuse("unsigned")
            self._pins.drop(name)                   # an earlier version runs there again
            return True
        self._pins.put(name, key, by)
        return True

    def takes_change(self, change: NodeChange, raw: bytes) -> bool:
        """Raises BadState."""
        key = self.key_of(change.node)
        if key is None:
            return not self.required or self._refuse("unsigned")
        self._check(key, change.seal, raw, change.node)
        return True

    def takes_alive(self, alive: Alive, by: str) -> bool:
        """Raises BadState. One without a seal may have passed a node of an earlier version, which leaves that out."""
        key = self.key_of(alive.node)
        if key is None:
            return not self.required or self._refuse("unsigned")
        if not alive.seal and not self.required and self.key_of(by) is None:
            return True
        assert self.crypto is not None
        if not self.crypto.verify(key, alive.seal, _alive_bytes(alive.node, alive.boot, alive.version, alive.beat)):
            raise BadState(f"a sign of life that {alive.node} has not signed")
        return True

    def forget(self, name: str) -> bool:
        """An operator says that the node was made anew. False: no key of it is known."""
        if self.key_of(name) is None:
            return False
        assert self._pins is not None
        self._pins.drop(name)
        self.strangers.pop(name, None)
        return True

    def problems(self) -> Iterator[str]:
        for name in sorted(self.strangers):
            yield (f"{name} shows another key than before and is not believed: somebody else speaks in its name, or it "
                   f"was made anew; then forget the old key (meshgate topology forget {name})")

    def _check(self, key: bytes, seal: bytes, raw: bytes, name: str) -> None:
        assert self.crypto is not None
        if len(key) != KEY_BYTES or len(seal) != SEAL_BYTES or raw[-SEAL_BYTES - 2:-SEAL_BYTES] != _MARK or (
                not self.crypto.verify(key, seal, raw[:-SEAL_BYTES])):
            raise BadState(f"a state that {name} has not signed")

    def _refuse(self, why: str) -> bool:
        self._counts[why] += 1
        return False


def _alive_bytes(node: str, boot: str, version: int, beat: int) -> bytes:
    return b"alive" + msgspec.msgpack.encode((node, boot, version, beat))
