"""GET /api/v1/tail?filter=plant/%23&match=E-1234: events as they are stored, once a second, as server-sent events.

    event: tail       a list of rows, as browse has them; payloads for whom the policies let subscribe
    event: skipped    how many records passed by while there was too much

It follows the log, so it costs the data path nothing: a second's worth of records is looked at, as far as TAIL_SCANNED,
and the rest is passed over and counted. Events of before the request are not shown; that is what browse is for.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mesh.management.browse import Search, parse_search
from mesh.management.figures.live import WRITE_MAX_S, Live, event_text
from mesh.management.paging.table import QueryError
from protocols.rest.problems import Problem
from routing.rights.policy import Identity
from routing.topic import filter_matches

if TYPE_CHECKING:
    from mesh.management.browse import Browser
    from mesh.node import Node
    from routing.log.partition import Partition

TAIL_SCANNED: Final = 2_000         # records looked at for one viewer in a second
TAIL_EVENTS: Final = 50             # … and shown
STEP_SCANNED: Final = 256
TAIL_BYTES: Final = 256 * 1024      # of their payloads


class Tail:
    """One per node."""

    def __init__(self, node: Node, live: Live, browser: Browser) -> None:
        self._node = node
        self._live = live
        self._browser = browser

    async def answer(self, request: web.Request, identity: Identity, alive: Callable[[], bool]) -> web.StreamResponse:
        try:
            search = parse_search({name: request.query.get(name, "") for name in ("filter", "match")})
        except QueryError as error:
            raise Problem(400, "query-invalid", str(error)) from error
        return await self._live.serve(request, lambda response: self._feed(response, search, identity, alive))

    async def _feed(self, response: web.StreamResponse, search: Search, identity: Identity,
                    alive: Callable[[], bool]) -> None:
        places = {partition: partition.end_offset for partition in self._node.router.streams.holding([search.filter])}
        await asyncio.wait_for(response.write(event_text("tail", [])), WRITE_MAX_S)
        while alive() and self._node.state != "stopping":
            await self._live.next(response, self._live.following)
            identity = self._node.router.logins.renew(identity)
            rows, skipped = await self._look(places, search, identity)
            text = event_text("tail", rows)
            if skipped:
                text = event_text("skipped", skipped) + text
            await asyncio.wait_for(response.write(text), WRITE_MAX_S)
        await self._live.goodbye(response, alive)

    async def _look(self, places: dict[Partition, int], search: Search,
                    identity: Identity) -> tuple[list[dict[str, Any]], int]:
        """What is new. places is moved to the end, whatever was looked at."""
        for partition in self._node.router.streams.holding([search.filter]):
            places.setdefault(partition, partition.start_offset)        # a stream that was added
        rows: list[dict[str, Any]] = []
        left, size, skipped = TAIL_SCANNED, 0, 0
        for partition, offset in places.items():
            end = partition.end_offset
            offset = max(offset, partition.start_offset)
            while offset < end and left > 0 and len(rows) < TAIL_EVENTS and size < TAIL_BYTES:
                found = partition.scan(offset, lambda topic: filter_matches(search.filter, topic),
                                       max_events=TAIL_EVENTS - len(rows), max_scanned=STEP_SCANNED)
                seen = await self._browser.rows(found.events, identity, search)
                rows += seen
                size += sum(row["size_bytes"] for row in seen)
                following = min(max(found.next_offset, offset + 1), end)
                left -= following - offset
                offset = following
                await asyncio.sleep(0)
            skipped += end - offset
            places[partition] = end
        return rows, skipped
