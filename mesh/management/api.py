"""The management API: every table, every read, what may be done, the live streams. One list of them, and HTTP to it.

Clients see the node through it: the web console, the terminal dashboard, whoever writes a script, and other nodes. The
tables are tables/resources.py, their query language paging/table.py, the acts acts/.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import hdrs, web

from mesh.management.across.asking import Asking, NoAnswer
from mesh.management.across.collect import Collector
from mesh.management.across.overview import mesh_overview
from mesh.management.acts.act import Acts
from mesh.management.acts.bridges import BridgeActs
from mesh.management.acts.call import IDENTITY, Call, Endpoint, Values, Viewed, call_of
from mesh.management.acts.connections import ConnectionActs
from mesh.management.acts.consumers import ConsumerActs
from mesh.management.acts.deadletters import DeadLetterActs
from mesh.management.acts.groups import GroupActs
from mesh.management.acts.logins import LoginActs
from mesh.management.acts.moves import MoveActs
from mesh.management.acts.nodes import NodeActs
from mesh.management.acts.queues import QueueActs
from mesh.management.acts.streams import StreamActs
from mesh.management.answers import json_answer
from mesh.management.browse import Browser
from mesh.management.doors.guard import Guard, Rights
from mesh.management.figures.tail import Tail
from mesh.management.journey.journey import Journeys
from mesh.management.masking import Masks
from mesh.management.mesh_api import MeshApi
from mesh.management.openapi import document
from mesh.management.paging.table import Page, QueryError, Row
from mesh.management.reads import Reads
from mesh.management.security.documents_api import DocumentsApi
from mesh.management.security.drafts_api import DraftsApi
from mesh.management.security.explain_api import ExplainApi
from mesh.management.security.rows import security_resources
from mesh.management.security.simulation_api import SimulationApi
from mesh.management.tables.formats import choose_format, encode_page
from mesh.management.tables.resources import Resource, resources
from mesh.management.tables.taken import Tables
from protocols.rest.problems import Problem
from protocols.web.fields import list_of
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.management.acts.audit import Audit
    from mesh.management.figures.live import Live
    from mesh.management.figures.sampler import Sampler
    from mesh.management.sessions import Sessions
    from mesh.node import Node

PREFIX: Final = "/api/v1"
ACROSS: Final = frozenset((             # tables that all nodes have together, with ?scope=mesh
    "links", "streams", "consumers", "queues", "exchanges", "bindings", "groups", "transactions", "deadletters",
    "clients", "webhooks", "bridges", "policies", "denials", "listeners"))
SECURITY: Final = ("users", "keys", "roles", "peers", "policies", "drafts", "revisions", "conflicts", "masks", "quotas")
LOCAL: Final = frozenset((              # what only who logs in here may ask
    "audit", "logins", "logins/{id}", "logins/end", "sessions", "sessions/{id}", "whoami", "browse", "journey",
    *(name for name in SECURITY if name != "policies")))


class Api:
    """One per node. Handlers for aiohttp; table() and call() for the pages of the console: the same answers."""

    def __init__(self, node: Node, sampler: Sampler, audit: Audit, live: Live, sessions: Sessions,
                 viewed: Viewed) -> None:
        self._live = live
        self._viewed = viewed
        browser = Browser(node.router, Masks(lambda: node.masks))
        self._tail = Tail(node, live, browser)
        self.acts = acts = Acts(audit)
        self.tables = tables = Tables(
            [*resources(node, sampler, audit, sessions), *security_resources(node)], node.router.clock_s)
        self._node = node
        self._document: Values = {}
        self.asking = Asking(node, self._action_for_others, self._serve)
        self.collector = Collector(self.asking, lambda: node.mesh.overlay.nodes, node.router.clock_s)
        journeys = Journeys(node, self.collector, viewed, browser)
        sampler.on_sample.append(journeys.entries.second)
        drafts = DraftsApi(node, acts, self.security_changed)
        self._moves = MoveActs(node.router, acts, lambda: tables.forget("consumers"))
        parts = (
            audit, journeys, self._moves,
            Reads(node, sampler, viewed, browser), MeshApi(node.mesh),
            ConsumerActs(node, acts, lambda: tables.forget("consumers")),
            QueueActs(node, acts, lambda: tables.forget("consumers"), viewed, browser),
            BridgeActs(node, acts, lambda: tables.forget("bridges")),
            StreamActs(node, acts, lambda: tables.forget("streams")),
            GroupActs(node, acts, lambda: tables.forget("groups")),
            ConnectionActs(node, acts, tables.forget),
            DeadLetterActs(node.router, node.redrives, acts, lambda: tables.forget("deadletters"), viewed,
                           browser.masks),
            NodeActs(node, acts, lambda: tables.forget("nodes")),
            LoginActs(sessions, acts, lambda: tables.forget("logins")),
            DocumentsApi(node, acts, self.security_changed), drafts, SimulationApi(node, drafts),
            ExplainApi(node, drafts))
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
        self._document = document(self._node.version, self.tables.resources.values(), self.endpoints.values(),
                                  self._node.config.console.base_path + PREFIX)
        add(hdrs.METH_GET, "openapi.json", self.openapi, Action.VIEW)
        for endpoint in self.endpoints.values():
            path = endpoint.path.replace("}", ":.+}")           # a name may have slashes in it
            add(endpoint.method, path, self._handler(endpoint), endpoint.action)

    def close(self) -> None:
        self._moves.close()
        self.asking.close()
        self.tables.close()

    def security_changed(self) -> None:
        for name in SECURITY:
            self.tables.forget(name)

    # -- tables -----------------------------------------------------------------------------------------------

    async def table(self, name: str, call: Call) -> Values:
        """A page of a table with what stands beside it. Raises QueryError and Problem. Who asks was checked.

        ?node=: of that node.  ?scope=mesh: of all nodes as one.
        """
        page, extra = await self._page(name, call)
        return {"rows": page.rows, "total": page.total, "matched": page.matched, "next": page.next, **extra}

    async def _page(self, name: str, call: Call) -> tuple[Page, Values]:
        resource = self.tables.resources[name]
        asked = self.other(call)
        if asked and name not in LOCAL:
            found = await self._ask(asked, "GET", name, call)
            rows: list[Row] = [{**row, "at": asked} for row in found.get("rows", []) if isinstance(row, dict)]
            total, matched, following = (found.get(word) for word in ("total", "matched", "next"))
            return Page(rows, total if isinstance(total, int) else 0, matched if isinstance(matched, int) else 0,
                        following if isinstance(following, str) else ""), {"node": asked}
        if call.query.get("scope") == "mesh" and name in ACROSS:
            return await self.collector.table(
                name, resource.key, self._node.name, lambda params: self.tables.page(name, params), call,
                resource.order)
        page, age_s = await self.tables.page(name, call.query)
        return page, {**resource.extra(), "age_s": round(age_s, 3)}

    def _table_handler(self, resource: Resource) -> Any:
        async def answer(request: web.Request) -> web.Response:
            try:
                kind = choose_format(list_of(request.headers, hdrs.ACCEPT), request.query.get("format", ""))
                page, extra = await self._page(resource.name, await call_of(request))
            except QueryError as error:
                raise Problem(400, "query-invalid", str(error)) from error
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
        asked = self.other(call)
        if not asked and path == "overview" and call.query.get("scope") == "mesh":
            return await mesh_overview(await endpoint.answer(call), self.collector, call)
        if not asked:
            return await endpoint.answer(call)
        if endpoint.is_act and not call.dry_run:
            target = "/".join(call.names.values()) or asked
            await self.acts.forwarded(call, f"{method} {path}", f"{asked}: {target}")
        return await self._ask(asked, method, path, call)

    def _handler(self, endpoint: Endpoint) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return json_answer(await self.call(endpoint.method, endpoint.path, await call_of(request)))
        return answer

    # -- other nodes ------------------------------------------------------------------------------------------

    def other(self, call: Call) -> str:
        """The node that the call is for, "" for this one. Raises Problem."""
        name = call.query.get("node", "")
        if not name or name == self._node.name:
            return ""
        if name not in self._node.mesh.overlay.nodes:
            raise Problem(404, "not-found", f"no node {name[:100]} can be reached from {self._node.name}")
        return name

    async def _ask(self, node: str, method: str, path: str, call: Call) -> Values:
        try:
            return await self.asking.ask(node, method, path, call)
        except NoAnswer as error:
            raise Problem(504, "no-answer", f"{node}: {error.word}") from error

    def _action_for_others(self, method: str, path: str) -> Action | None:
        """What is asked of this node by people elsewhere; see across/asking.py."""
        resource = self.tables.resources.get(path)
        if resource is not None and method == "GET":
            return resource.action if path not in LOCAL else None
        endpoint = self.endpoints.get((method, path))
        if endpoint is not None and endpoint.action in (Action.AUDIT, Action.ADMINISTER):
            return None
        return endpoint.action if endpoint is not None and path not in LOCAL else None

    async def _serve(self, method: str, path: str, call: Call) -> Values:
        query = {name: text for name, text in call.query.items() if name not in ("node", "scope")}
        call = msgspec.structs.replace(call, query=query)           # nobody is asked on behalf of others
        try:
            if method == "GET" and path in self.tables.resources:
                return await self.table(path, call)
            return await self.endpoints[method, path].answer(call)
        except QueryError as error:
            raise Problem(400, "query-invalid", str(error)) from error

    async def openapi(self, request: web.Request) -> web.Response:
        return json_answer(self._document)

    # -- live -------------------------------------------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        assert self._guard is not None
        return await self._live.answer(request, self._guard.alive(request))

    async def tail(self, request: web.Request) -> web.StreamResponse:
        """Events as they are stored."""
        assert self._guard is not None
        await self._viewed(request[IDENTITY], "tail", request.query.get("filter", ""))
        return await self._tail.answer(request, request[IDENTITY], self._guard.alive(request))
