"""What is stored of the bindings of durable queues, in the state table.

    queue-binding/<name>, U+0000, <number>      a binding: filter, predicate, since, until, native
    queues                                      there has been a durable queue: its stream is to be opened at start
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from routing.queues.bindings import Binding
from routing.queues.predicates import Predicate
from routing.state import StateTable

if TYPE_CHECKING:
    from routing.log.partition import Partition

BINDING = "queue-binding/"
MARK = "queues"

Rows = list[tuple[str, int, int]]       # stream, partition, offset


class BindingState(msgspec.Struct, array_like=True):
    pattern: str
    predicate: Predicate | None
    native: bytes
    since: Rows
    until: Rows | None


class StoredBindings:
    def __init__(self, state: StateTable) -> None:
        self._state = state
        self._next = 0
        self._of: dict[str, dict[int, None]] = {}       # queue → numbers

    @property
    def has_queues(self) -> bool:
        return self._state.get(MARK) is not None

    def mark(self) -> None:
        if not self.has_queues:
            self._state.put(MARK, b"1")

    def put(self, queue: str, binding: Binding) -> None:
        """As it is now."""
        if binding.number < 0:
            binding.number = self._next
            self._next += 1
            self._of.setdefault(queue, {})[binding.number] = None
        state = BindingState(
            binding.pattern, binding.predicate, binding.native, _rows(binding.since),
            _rows(binding.until) if binding.until is not None else None)
        self._state.put(_key(queue, binding.number), msgspec.msgpack.encode(state))

    def drop(self, queue: str, binding: Binding) -> None:
        if binding.number >= 0:
            self._of[queue].pop(binding.number, None)
            self._state.delete(_key(queue, binding.number))

    def delete(self, queue: str) -> None:
        """All of a queue. Its bindings in memory are gone, too."""
        for number in self._of.pop(queue, ()):
            self._state.delete(_key(queue, number))

    def read(self, partition_at: Callable[[str, int], Partition | None]) -> dict[str, list[Binding]]:
        found: dict[str, list[Binding]] = {}
        for key, state in self._state.decoded(BINDING, BindingState, "binding of a queue"):
            queue, _, number = key.partition("\0")
            binding = Binding(
                state.pattern, state.predicate, state.native, _places(state.since, partition_at),
                _places(state.until, partition_at) if state.until is not None else None, int(number))
            self._of.setdefault(queue, {})[int(number)] = None
            self._next = max(self._next, int(number) + 1)
            found.setdefault(queue, []).append(binding)
        return found


def _key(queue: str, number: int) -> str:
    return f"{BINDING}{queue}\0{number}"


def _rows(places: dict[Partition, int]) -> Rows:
    return [(partition.stream, partition.index, offset) for partition, offset in places.items()]


def _places(rows: Rows, partition_at: Callable[[str, int], Partition | None]) -> dict[Partition, int]:
    placed = ((partition_at(stream, index), offset) for stream, index, offset in rows)
    return {partition: min(offset, partition.next_offset)           # what was not on disk yet was lost
            for partition, offset in placed if partition is not None}
