"""/v1/consumers/{name}/purge and /events: what is ready, forgotten or looked at. Of queues, and of any consumer."""
from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from protocols.formats.event_json import event_json
from protocols.rest.consumers.consumers import ConsumersEndpoint
from protocols.rest.http.guard import pace_of
from protocols.rest.json_body import FIELDS, json_response
from protocols.rest.problems import Problem
from routing.queues.browsing import browse
from routing.queues.purging import purge

LIMIT_MAX = 1_000
LIMIT = "100"
STEP_EVENTS = 50                # encoded between two looks at the clock


class QueuesEndpoint:
    """Handlers."""

    def __init__(self, consumers: ConsumersEndpoint) -> None:
        self._consumers = consumers
        self._router = consumers.router

    async def purge(self, request: web.Request) -> web.StreamResponse:
        """Forget what is ready; what is unacked stays. Everything that was acked to its publisher before goes."""
        session = await self._consumers.session(request)
        consumer = self._consumers.managed(request, session.identity)
        queue = self._router.queues.get(consumer.name)
        if queue is not None:
            current: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.when_counted(lambda: None if current.done() else current.set_result(None))
            await current
        if consumer.closed:                             # deleted meanwhile
            raise Problem(404, "not-found", f"there is no consumer {consumer.name} that you may use")
        count = queue.purge() if queue is not None else purge(consumer)
        await self._consumers.stored(consumer)
        return json_response({"purged": count})

    async def browse(self, request: web.Request) -> web.StreamResponse:
        """What is ready, in order within a partition, taken by nobody: ?limit=&after=<next of the page before>."""
        session = await self._consumers.session(request)
        consumer = self._consumers.consumer(request, session.identity)
        limit, after = _query(request)
        queue = self._router.queues.get(consumer.name)
        try:
            page = queue.browse(limit, after) if queue is not None else browse(consumer, limit, after)
        except ValueError as error:
            raise Problem(400, "query-invalid", f"after: {error}") from None
        pace = pace_of(request)
        shown: list[bytes] = []
        for number, event in enumerate(page.events):
            if self._router.rights.may_read_event(session.identity, event):
                shown.append(event_json(event))
            if number % STEP_EVENTS == 0:
                await pace.rest()
        body = b'{"events":[%b],"next":%b}' % (b",".join(shown), msgspec.json.encode(page.next))
        return web.Response(body=body, headers=FIELDS)


def _query(request: web.Request) -> tuple[int, str]:
    query = request.rel_url.query
    limit = query.get("limit", LIMIT)
    if set(query) - {"after", "limit"} or not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not (
            1 <= int(limit) <= LIMIT_MAX):
        raise Problem(400, "query-invalid", f"the query takes after (the next of a page) and limit (1 to {LIMIT_MAX})")
    return int(limit), query.get("after", "")
