"""GET /v1/retained/{filter}: the last retained event of each topic that the filter matches, with an ETag.

In the order of the topics, level by level, a page at a time: ?limit=&after=<topic>. A page is found in steps, so that
one which few topics belong to does not hold the loop.
"""
from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec
from aiohttp import hdrs, web

from protocols.formats.event_json import event_json
from protocols.rest.auth import Doorkeeper
from protocols.rest.http.guard import pace_of
from protocols.rest.json_body import FIELDS
from protocols.rest.problems import Problem, problem_of
from protocols.rest.settings import RestSettings
from protocols.rest.translation.convert import filter_of, percent_decoded
from protocols.scheduling.pace import Pace
from protocols.web.fields import list_of
from routing.rights.policy import Identity
from routing.router import Router

if TYPE_CHECKING:
    from routing.event import Event

PREFIX = "/v1/retained/"
LIMIT_DEFAULT = 100
STEP_EVENTS = 200               # looked at between two looks at the clock, some 1 ms


class RetainedEndpoint:
    """The handler."""

    def __init__(self, router: Router, doorkeeper: Doorkeeper, settings: RestSettings) -> None:
        self._router = router
        self._doorkeeper = doorkeeper
        self._settings = settings

    async def get(self, request: web.Request) -> web.StreamResponse:
        session = await self._doorkeeper.session(request)
        pattern = filter_of(request.rel_url.raw_path[len(PREFIX):])
        refusal = self._router.check_subscribe(session.identity, pattern)
        if refusal is not None:
            raise problem_of(refusal)
        limit, after = self._query(request)
        pace = pace_of(request)
        events = await self._found(pattern, session.identity, limit, after, pace)
        lines: list[bytes] = []
        size = 0
        for event in events[:limit]:
            lines.append(event_json(event))
            size += len(lines[-1])
            await pace.rest()
            if size >= self._settings.page_bytes_max:
                break
        following = events[len(lines) - 1].topic if len(events) > len(lines) else None
        body = b'{"events":[%b],"next":%b}' % (b",".join(lines), msgspec.json.encode(following))
        return _tagged(request, body)

    async def _found(self, pattern: str, identity: Identity, limit: int, after: str,
                     pace: Pace) -> list[Event]:
        """The first limit + 1 behind topic `after`, readable and not expired."""
        retained = self._router.retained
        cursor = retained.open_present(pattern)
        if after:
            cursor.skip(after)
        found: list[Event] = []
        while not cursor.done and len(found) <= limit:
            found += retained.take(cursor, identity, min(STEP_EVENTS, limit + 1 - len(found)), STEP_EVENTS)
            await pace.rest()
        return found

    def _query(self, request: web.Request) -> tuple[int, str]:
        limit, after = "", ""
        for part in request.rel_url.raw_query_string.split("&") if request.rel_url.raw_query_string else ():
            name, _, value = part.partition("=")
            if name == "limit" and not limit:
                limit = value
            elif name == "after" and not after:
                after = percent_decoded(value)
            else:
                raise Problem(400, "query-invalid", "the query takes limit (one) and after (one topic)")
        most = self._settings.page_events_max
        limit = limit or str(min(LIMIT_DEFAULT, most))
        if not limit.isascii() or not limit.isdigit() or len(limit) > 6 or not 1 <= int(limit) <= most:
            raise Problem(400, "query-invalid", f"limit is a number from 1 to {most}")
        return int(limit), after


def _tagged(request: web.Request, body: bytes) -> web.Response:
    """With its ETag, or 304 when the client has it.                            Source: RFC 9110 §8.8.3, §13.1.2"""
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    fields = {**FIELDS, hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: tag}
    known = list_of(request.headers, hdrs.IF_NONE_MATCH)
    if "*" in known or tag in known or f"W/{tag}" in known:
        del fields["Content-Type"]
        return web.Response(status=304, headers=fields)
    return web.Response(body=body, headers=fields)
