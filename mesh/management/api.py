"""The management API: every table, every read, what may be done, the live streams. One list of them, and HTTP to it.

Clients see the node through it: the web console, the terminal dashboard, whoever writes a script, and other nodes. The
tables are tables/resources.py, their query language tables/table.py, the acts acts/.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web

from mesh.management.acts.act import Acts
from mesh.management.acts.call import IDENTITY, Call, Endpoint, Values, call_of
from mesh.management.acts.connections import ConnectionActs
from mesh.management.acts.consumers import ConsumerActs
from mesh.management.acts.deadletters import DeadLetterActs
from mesh.management.answers import json_answer
from mesh.management.doors.guard import Guard, Rights
from mesh.management.figures.tail import Tail
from mesh.management.mesh_api import MeshApi
from mesh.management.reads import Reads
from mesh.management.tables.formats import choose_format, encode_page
from mesh.management.tables.resources import Resource, resources
from mesh.management.tables.table import QueryError
from mesh.management.tables.taken import Tables
from protocols.fields import list_of
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.management.acts.audit import Audit
    from mesh.management.doors.sessions import Sessions
    from mesh.management.figures.live import Live
    from mesh.management.figures.sampler import Sampler
    from mesh.node import Node

PREFIX: Final = "/api/v1"


class Api:
    """One per node. Handlers for aiohttp; table() and call() for the pages of the console: the same answers."""

    def __init__(self, node: Node, sampler: Sampler, audit: Audit, live: Live, sessions: Sessions) -> None:
        self._live = live
        self._tail = Tail(node, live)
        self.acts = acts = Acts(audit)
        self.tables = tables = Tables(resources(node, sampler, audit, sessions), node.router.clock_s)
        parts = (
            Reads(node, sampler), MeshApi(node.mesh),
            ConsumerActs(node, acts, lambda: tables.forget("consumers")),
            ConnectionActs(node, acts, tables.forget),
            DeadLetterActs(node.router, node.redrives, acts, lambda: tables.forget("deadletters")))
        self.endpoints: dict[tuple[str, str], Endpoint] = {
            (endpoint.method, endpoint.path): endpoint for part in parts for endpoint in part.endpoints()}
        self._guard: Guard | None = None

    def add_routes(self, routes: web.UrlDispatcher, rights: Rights, guard: Guard, base_path: str = "") -> None:
        self._guard = guard
        prefix = base_path + PREFIX

        def add(method: str, path: str, handler: Any, action: Action) -> None:
            resource = routes.add_route(method, f"{prefix}/{path}", handler).resource
            assert resource is not None
            rights.set(method, resource.canonical, action)

        for resource in self.tables.resources.values():
            add(hdrs.METH_GET, resource.name, self._table_handler(resource), resource.action)
        add(hdrs.METH_GET, "stream", self.stream, Action.VIEW)
        add(hdrs.METH_GET, "tail", self.tail, Action.VIEW)
        for endpoint in self.endpoints.values():
            path = endpoint.path.replace("}", ":.+}")           # a name may have slashes in it
            add(endpoint.method, path, self._handler(endpoint), endpoint.action)

    def close(self) -> None:
        self.tables.close()

    # -- tables -----------------------------------------------------------------------------------------------

    async def table(self, name: str, params: Mapping[str, str]) -> Values:
        """A page of a table with what stands beside it. Raises QueryError. For the console; who asks was checked."""
        page, age_s = await self.tables.page(name, params)
        return {"rows": page.rows, "total": page.total, "matched": page.matched, "next": page.next, "age_s": age_s,
                **self.tables.resources[name].extra()}

    def _table_handler(self, resource: Resource) -> Any:
        async def answer(request: web.Request) -> web.Response:
            try:
                kind = choose_format(list_of(request.headers, hdrs.ACCEPT), request.query.get("format", ""))
                page, age_s = await self.tables.page(resource.name, request.query)
            except QueryError as error:
                raise Problem(400, "query-invalid", str(error)) from error
            extra = {**resource.extra(), "age_s": round(age_s, 3)}
            body = await self.tables.off_loop(len(page.rows), encode_page, resource.name, page, extra, kind)
            headers = {"X-Total-Count": str(page.total)}
            if page.next:
                headers["X-Next"] = page.next.encode("ascii", "backslashreplace").decode()
            return web.Response(body=body, content_type=kind, charset="utf-8" if kind == "text/csv" else None,
                                headers=headers)
        return answer

    # -- reads and acts ---------------------------------------------------------------------------------------

    async def call(self, method: str, path: str, call: Call) -> Values:
        """Raises Problem. Who calls has the right of the endpoint."""
        endpoint = self.endpoints.get((method, path))
        if endpoint is None:
            raise Problem(404, "not-found", f"there is no {path[:100]}")
        return await endpoint.answer(call)

    def _handler(self, endpoint: Endpoint) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return json_answer(await endpoint.answer(await call_of(request)))
        return answer

    # -- live -------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        assert self._guard is not None
        return await self._live.answer(request, self._guard.alive(request))

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Events as they are stored."""
        assert self._guard is not None
        return await self._tail.answer(request, request[IDENTITY], self._guard.alive(request))
