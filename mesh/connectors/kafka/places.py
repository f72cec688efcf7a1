"""Where the routes of bridges stand, in the state table.

    kafka-bridge/<bridge>/<route>/<cluster id>/<topic>/<partition>      of a partition out there that is read: Place
    kafka-bridge-paused/<bridge>/<route>                                the route was paused by an operator

A place is stored after the records below it are durable. What a crash leaves between the two is read again; the dedupe
ids of its events say that they are here already. Before the next records come in the place is on disk, so that is one
batch per partition at most, far less than the ids that are remembered (routing/publishing/recovery.py).
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from routing.state import StateTable
    from routing.ticket import Ticket

PREFIX = "kafka-bridge/"
PAUSED_PREFIX = "kafka-bridge-paused/"


class Place(msgspec.Struct, array_like=True):
    """next_offset: everything below it is here.  done: what is here above it, while a part of a batch was refused.

    generation: rises when the partition out there begins anew, so that its offsets are not taken for those before.
    """

    next_offset: int
    generation: int = 0
    done: list[int] = []


class Places:
    """Of one route at one cluster."""

    def __init__(self, state: StateTable, bridge: str, route: str, cluster_id: str) -> None:
        self._state = state
        self._prefix = f"{PREFIX}{bridge}/{route}/{cluster_id}/"

    def get(self, topic: str, partition: int) -> Place | None:
        return self._state.read(f"{self._prefix}{topic}/{partition}", Place, "place of a bridge")

    def put(self, topic: str, partition: int, place: Place) -> Ticket:
        return self._state.put(f"{self._prefix}{topic}/{partition}", msgspec.msgpack.encode(place))

    def knows(self, topic: str) -> bool:
        """Some partition of it has been read."""
        return any(True for _ in self._state.items(f"{self._prefix}{topic}/"))


def is_paused(state: StateTable, bridge: str, route: str) -> bool:
    return state.get(f"{PAUSED_PREFIX}{bridge}/{route}") is not None


def store_paused(state: StateTable, bridge: str, route: str, paused: bool) -> Ticket:
    key = f"{PAUSED_PREFIX}{bridge}/{route}"
    return state.put(key, b"1") if paused else state.delete(key)
