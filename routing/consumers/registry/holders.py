"""Who still counts on a consumer that ends with its last user, as a share group of MQTT does: sessions that are away.

Those of this node are asked for (Local). When the consumer has moved here from another node, sessions may be away
there, too. Then its end here is not its end: it stays, with its place, until it has gone back, nobody there wants it
any more, or nobody has answered for too long. mesh/replication/moving/homes.py asks the others.
Stored: "held/<name>", from when a consumer comes from a node that counts on it until it is deleted here.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from routing.state import StateTable

HELD = "held/"
NODES_MAX = 64          # that a consumer has been at, the latest


class Local(Protocol):
    """A protocol whose sessions hold consumers while they are away."""

    def holds(self, name: str) -> bool:
        """Has it a session that is to read it later?"""
        ...

    def filters(self, name: str) -> tuple[str, ...]:
        """What a consumer of that name reads."""
        ...

    def reopen(self, name: str) -> bool:
        """Have it here again, though that session is away. False: it has none, or may not."""
        ...


class Held(msgspec.Struct, array_like=True):
    nodes: Annotated[list[str], Meta(max_length=NODES_MAX)]
    ended_ms: int = 0               # steady time when its last user here went, 0: it has one


class Holders:
    """Loop thread only."""

    def __init__(self, state: StateTable, steady_ms: Callable[[], int]) -> None:
        self.local: list[Local] = []
        self.elsewhere = dict(state.decoded(HELD, Held, "holders of a consumer"))
        self.on_ended: Callable[[str], None] | None = None      # set by who asks the other nodes
        self._state = state
        self._steady_ms = steady_ms

    def held_here(self, name: str) -> bool:
        return any(one.holds(name) for one in self.local)

    def came(self, name: str, nodes: list[str]) -> None:
        """It has come here and is in use; sessions of these nodes count on it."""
        if nodes:
            self._put(name, Held(nodes[-NODES_MAX:]))
        else:
            self.forget(name)

    def in_use(self, name: str) -> None:
        held = self.elsewhere.get(name)
        if held is not None and held.ended_ms:
            self._put(name, Held(held.nodes))

    def stays(self, name: str) -> bool:
        """Its last user here is gone. True: others count on it, so it is not to be deleted yet."""
        held = self.elsewhere.get(name)
        if held is None:
            return False
        if not held.ended_ms:
            self._put(name, Held(held.nodes, max(1, self._steady_ms())))
            if self.on_ended is not None:
                self.on_ended(name)
        return True

    def let_go(self, name: str, node: str) -> bool:
        """Nobody counts on it at that node any more. True: nor at any other."""
        held = self.elsewhere.get(name)
        if held is None or node not in held.nodes:
            return False
        self._put(name, Held([one for one in held.nodes if one != node], held.ended_ms))
        return len(held.nodes) == 1

    def ended_for_ms(self, name: str) -> int | None:
        """None: it is in use, or nobody elsewhere counts on it."""
        held = self.elsewhere.get(name)
        return self._steady_ms() - held.ended_ms if held is not None and held.ended_ms else None

    def forget(self, name: str) -> None:
        """It is deleted here, or has gone to another node."""
        if self.elsewhere.pop(name, None) is not None:
            self._state.delete(HELD + name)

    def _put(self, name: str, held: Held) -> None:
        self.elsewhere[name] = held
        self._state.put(HELD + name, msgspec.msgpack.encode(held))
