"""Ids of idempotent producers: each is given out once, also when the node was killed meanwhile.

A block of ids is reserved in the state table, durably, before the first of them is given out.
"""
from __future__ import annotations

from routing.state import StateTable
from routing.ticket import Ticket

KEY = "kafka-producer-ids"
BLOCK = 1_000


class ProducerIds:
    """One per broker. Loop thread only."""

    def __init__(self, state: StateTable) -> None:
        self._state = state
        stored = state.get(KEY)
        self._next = self._end = 0 if stored is None else int(stored)
        self._reserving: Ticket | None = None

    def take(self) -> tuple[int, Ticket | None]:
        """The next id, and the ticket to wait for before it is told to anybody; None: there is nothing to wait for."""
        if self._next >= self._end:
            self._end = self._next + BLOCK
            self._reserving = self._state.put(KEY, str(self._end).encode())
        producer_id, self._next = self._next, self._next + 1
        reserving = self._reserving
        return producer_id, reserving if reserving is not None and not reserving.done else None
