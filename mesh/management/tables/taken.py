"""Tables as they were a moment ago: taken once for all who ask, in steps, and cut into pages."""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from mesh.management.paging.steps import in_steps
from mesh.management.paging.table import Page, Query, Row, parse_query, select
from mesh.management.tables.resources import Resource

FRESH_MAX_S: Final = 1.0            # a snapshot serves all who ask within so long, …
FRESH_PER_COST: Final = 50          # … or within so many times what it cost to take: 2 % of a core at the most
FEW_ROWS: Final = 100               # so many are taken anew for everybody: who has just made something sees it
CHEAP_S: Final = 0.005              # … when that costs no more
MANY_ROWS: Final = 500              # more of them are filtered and encoded in a thread


class Taken(msgspec.Struct):
    """A table as it was at a moment."""

    rows: list[Row]
    at_s: float
    fresh_s: float          # for so long nobody takes it again


class Tables:
    """One per node. Loop thread only."""

    def __init__(self, resources: list[Resource], clock_s: Callable[[], float]) -> None:
        self.resources = {resource.name: resource for resource in resources}
        self._clock_s = clock_s
        self._taken: dict[tuple[str, str], Taken] = {}
        self._taking: dict[tuple[str, str], asyncio.Task[Taken]] = {}
        self._pool = ThreadPoolExecutor(1, "management")

    async def page(self, name: str, params: Mapping[str, str]) -> tuple[Page, float]:
        """A page of a table, and how old it is in seconds. Raises QueryError. Who asks was checked."""
        resource = self.resources[name]
        query = _ordered(parse_query(params, resource.key), resource)
        taken = await self._take(resource, resource.variant(params))
        page = await self.off_loop(len(taken.rows), select, taken.rows, query, resource.key)
        return page, self._clock_s() - taken.at_s

    async def off_loop(self, rows: int, work: Any, *arguments: Any) -> Any:
        """In a thread, if it is much."""
        if rows <= MANY_ROWS:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _take(self, resource: Resource, variant: str) -> Taken:
        """The rows as they are now, or were a moment ago."""
        key = resource.name, variant
        known = self._taken.get(key)
        if known is not None and self._clock_s() - known.at_s < known.fresh_s:
            return known
        task = self._taking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._collect(resource, variant))
            self._taking[key] = task
            task.add_done_callback(lambda _: self._taking.pop(key, None))
        return await asyncio.shield(task)

    async def _collect(self, resource: Resource, variant: str) -> Taken:
        found, cost_s = await in_steps(resource.rows_of(variant))
        rows = [row for row in found if row is not None]
        few = len(rows) <= FEW_ROWS and cost_s <= CHEAP_S
        taken = Taken(rows, self._clock_s(), 0.0 if few else min(cost_s * FRESH_PER_COST, FRESH_MAX_S))
        self._taken[resource.name, variant] = taken
        return taken

    def forget(self, name: str) -> None:
        """A table that an act has changed is taken anew."""
        for key in [key for key in self._taken if key[0] == name]:
            del self._taken[key]

    def tidy(self, now_s: float) -> None:
        """Snapshots that nobody looks at any more go. Called every second or so."""
        for key in [key for key, taken in self._taken.items() if now_s - taken.at_s > 10 * FRESH_MAX_S]:
            del self._taken[key]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _ordered(query: Query, resource: Resource) -> Query:
    if query.sort or not resource.order:
        return query
    column = resource.order.removeprefix("-")
    return msgspec.structs.replace(query, sort=((column, resource.order.startswith("-")),))
