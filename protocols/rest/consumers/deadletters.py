"""/v1/consumers/{name}/dead-letters and /redrive: what a consumer gave up on, listed, and handed to it once more.

What a dead letter is, and what redriving means, stands in protocols/redrive.py.
"""
from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from protocols.formats.event_json import event_json
from protocols.formats.location import parse_event_id
from protocols.redrive import Place, Redrive, Redrives
from protocols.rest.consumers.consumers import ConsumersEndpoint
from protocols.rest.http.guard import pace_of
from protocols.rest.json_body import FIELDS, json_body, json_response
from protocols.rest.problems import Problem
from routing.consumers.consumer import Consumer

LIST_MAX = 1_000
LIST_BYTES_MAX = 1024 * 1024


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True):
    """max: how many at most. rate: per second; without one as fast as they are taken in."""

    max: Annotated[int, msgspec.Meta(ge=1)] | None = None
    rate: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None
    dry_run: bool = False


class DeadLettersEndpoint:
    """Handlers."""

    def __init__(self, consumers: ConsumersEndpoint, redrives: Redrives) -> None:
        self._consumers = consumers
        self._settings = consumers.settings
        self._redrives = redrives
        consumers.on_made.append(redrives.made)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Those not redriven yet, oldest first in each partition: ?limit=&after=<id of a dead letter>."""
        session = await self._consumers.session(request)
        consumer = self._consumers.consumer(request, session.identity)
        limit, after = _query(request)
        shown: list[bytes] = []
        size, more = 0, False
        async for event in self._redrives.pending(consumer, after, pace_of(request)):
            if not self._redrives.may_show(event, session.identity, consumer):
                continue
            if len(shown) >= limit or size >= LIST_BYTES_MAX:
                more = True
                break
            shown.append(event_json(event))
            size += len(shown[-1])
        last = msgspec.json.decode(shown[-1])["id"] if more else None
        body = b'{"dead_letters":[%b],"next":%b}' % (b",".join(shown), msgspec.json.encode(last))
        return web.Response(body=body, headers=FIELDS)

    async def redrive(self, request: web.Request) -> web.StreamResponse:
        """202: begun. With dry_run 200: how many there are to redrive."""
        session = await self._consumers.session(request)
        consumer = self._consumers.managed(request, session.identity)
        body = await json_body(request, RedriveBody, session, self._settings, self._consumers.memory)
        redrive = Redrive(body.max, body.rate)
        if body.dry_run:
            count, gone = await self._redrives.preview(consumer, redrive, pace_of(request))
            return json_response({"dry_run": True, "events": count, "gone": gone})
        if not self._redrives.begin(consumer, redrive):
            raise Problem(409, "conflict", f"a redrive of {consumer.name} goes on: ask GET …/redrive, or DELETE it")
        return json_response(redrive.shown(), 202)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        session = await self._consumers.session(request)
        return json_response(self._of(self._consumers.consumer(request, session.identity)).shown())

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Stop it; what was redriven is."""
        session = await self._consumers.session(request)
        redrive = self._of(self._consumers.managed(request, session.identity))
        self._redrives.cancel(redrive)
        return json_response(redrive.shown())

    def _of(self, consumer: Consumer) -> Redrive:
        redrive = self._redrives.of(consumer)
        if redrive is None:
            raise Problem(404, "not-found", f"no redrive of {consumer.name} was begun since this node was started")
        return redrive


def _query(request: web.Request) -> tuple[int, Place | None]:
    query = request.rel_url.query
    limit = query.get("limit", "100")
    after = parse_event_id(query["after"]) if "after" in query else None
    if set(query) - {"after", "limit"} or not limit.isascii() or not limit.isdigit() or len(limit) > 4 or not (
            1 <= int(limit) <= LIST_MAX) or ("after" in query and after is None):
        raise Problem(400, "query-invalid", f"the query takes after (a dead letter's id) and limit (1 to {LIST_MAX})")
    return int(limit), after
