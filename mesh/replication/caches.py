"""What the caches of all flows take together: answers per topic, heads of records that were decoded.

What stands in them is chosen by other nodes, and there is one for each of thousands of flows: so they are counted in
bytes, and all of them start afresh when it is too much. Owners: filters.py, bodies.py. Loop thread only.
"""
from __future__ import annotations

from collections.abc import Sized
from typing import Any, Protocol

OWN_BYTES = 1024 * 1024         # of caches that are nobody's, such as those of a question that is soon answered


class Table(Sized, Protocol):
    def clear(self) -> None: ...


class CacheMemory:
    """Counts."""

    __slots__ = ("_tables", "bytes", "bytes_max")

    def __init__(self, bytes_max: int = OWN_BYTES) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self._tables: dict[int, tuple[Any, int]] = {}       # id → table, its bytes

    def keep(self, table: Table, size: int) -> None:
        """One more entry, of about so many bytes, will be kept in this table."""
        if self.bytes + size > self.bytes_max:
            for one, _ in self._tables.values():
                one.clear()
            self._tables.clear()
            self.bytes = 0
        self.bytes += size
        known = self._tables.get(id(table))
        self._tables[id(table)] = table, size if known is None else known[1] + size

    def forget(self, table: Table) -> None:
        """Its owner is gone."""
        known = self._tables.pop(id(table), None)
        if known is not None:
            self.bytes -= known[1]
