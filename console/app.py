"""The web console: pages over the management API. aiohttp and jinja2; plain links and forms; live with JavaScript.

    add_routes(router, set_right, management)      mounted by mesh/management/ on the console listener

Every page is one GET of the API or two, drawn here. What may be done goes from the page to the API itself
(static/console.js), so there is one place that decides, previews and records.
"""
from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from aiohttp import web

from console.columns import TABLES, Row, leg_of
from console.management import Management, Refused
from console.pages import ZONE_COOKIE, Pages
from console.static import add_static
from console.topology import draw, matrix

PAGE_ROWS: Final = 100
EXAMPLE: Final = {"kind": "policy", "name": "operators read", "document": {
    "allow": ["subscribe"], "to": ["role:operator"], "topics": ["plant/#"]}}
HISTORIES: Final = {
    "node": (("events_in_s", "Events per second"), ("lag_events", "Events behind, all consumers"),
             ("denied_s", "Denied per second"), ("memory_bytes", "Memory")),
    "link": (("sent_bytes_s", "Sent, bytes per second"), ("received_bytes_s", "Received, bytes per second"),
             ("lag_events", "Events behind"), ("backlog_bytes", "Waiting, bytes"), ("rtt_ms", "Round trip, ms")),
    "stream": (("events_s", "Events per second"), ("size_bytes", "Size, bytes")),
    "consumer": (("lag_events", "Events behind"), ("lag_seconds", "Seconds behind"), ("acked_s", "Acked per second")),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Console:
    """The pages of one node."""

    def __init__(self, management: Management, base: str = "") -> None:
        self._api = management
        self._base = base
        self._pages = Pages(management, base)
        self.refused = self._pages.refused

    def add_routes(self, routes: web.UrlDispatcher, open_to_all: Callable[[str, str], None],
                   page: Callable[[str, str], None], prefix: str = "") -> None:
        """open_to_all, page: called with (method, path) of what needs no login, and of what needs the right to view.

        prefix: before the paths of the routes. Links have the base, under whatever prefix a page was asked for.
        """
        for path, handler in self._handlers():
            page("GET", _canonical(routes.add_get(prefix + path, self._drawn(handler))))
        if prefix:
            open_to_all("GET", _canonical(routes.add_get(prefix, self._home)))
        for method, path, handler in (
            ("GET", "/login", self.login_form), ("POST", "/login", self.login), ("POST", "/logout", self.logout),
            ("POST", "/settings", self.set_zone),
        ):
            open_to_all(method, _canonical(routes.add_route(method, prefix + path, self._drawn(handler))))
        add_static(routes, prefix, open_to_all)

    def _handlers(self) -> list[tuple[str, Handler]]:
        found: list[tuple[str, Handler]] = [
            ("/", self.overview), ("/topology", self.topology), ("/browse", self.browse), ("/can-i", self.can_i),
            ("/topics", self.topics), ("/tail", self.tail), ("/journey", self.journey),
            ("/connect", self.connect), ("/whoami", self.whoami), ("/settings", self.settings), ("/help", self.help),
        ]
        found += [(f"/{name}", self._table(name)) for name in TABLES]
        found += [("/deadletters/{key:.+}", self.dead_letters), ("/draft", self.new_draft),
                  ("/drafts/{key:.+}", self.draft)]
        for name in ("nodes", "links", "streams", "consumers"):
            found.append((f"/{name}/{{key:.+}}", self._detail(name)))
        return found

    def _drawn(self, handler: Handler) -> Handler:
        async def drawn(request: web.Request) -> web.StreamResponse:
            await self._pages.ready()
            return await handler(request)

        return drawn

    async def _home(self, request: web.Request) -> web.StreamResponse:
        return go_to(f"{self._base}/")

    # -- pages ------------------------------------------------------------------------------------------------

    async def overview(self, request: web.Request) -> web.Response:
        found = await self._api.get(request, "overview", {"scope": "mesh"})
        drawn = await self._drawing(request)
        return await self._pages.answer(request, "overview.html", "Overview", "overview,topology",
                                        overview=found, drawing=drawn)

    async def topology(self, request: web.Request) -> web.Response:
        nodes = await self._api.get(request, "nodes", {"limit": "1000"})
        drawn = await self._drawing(request, nodes)
        names, cells = matrix(nodes["rows"][:60])
        return await self._pages.answer(request, "topology.html", "Topology", "topology", drawing=drawn,
                                        nodes=nodes["rows"], names=names, cells=cells)

    async def _drawing(self, request: web.Request, nodes: dict[str, Any] | None = None) -> str:
        nodes = nodes or await self._api.get(request, "nodes", {"limit": "1000"})
        links = await self._api.get(request, "links", {"limit": "1000"})
        return draw(nodes["rows"], links["rows"], self._api.node, base=self._base,
                    unfolded=request.query.get("site", ""))

    def _table(self, name: str) -> Handler:
        async def show(request: web.Request) -> web.Response:
            params = _given(request, "filter", "sort", "after", "node")
            if TABLES[name].everywhere and "node" not in params:
                params["scope"] = "mesh"
            found = await self._api.get(request, name, {**params, "limit": str(PAGE_ROWS)})
            found["rows"] = [Row(row) for row in found["rows"]]
            following = urlencode({**params, "after": found["next"]}) if found["next"] else ""
            export = urlencode({key: value for key, value in params.items() if key != "after"})
            return await self._pages.answer(
                request, "table.html", TABLES[name].title, name if name in ("links", "consumers", "streams") else "",
                table=TABLES[name], name=name, found=found, params=params, following=following, export=export)
        return show

    def _detail(self, name: str) -> Handler:
        kind = name.removesuffix("s")

        async def show(request: web.Request) -> web.Response:
            key = request.match_info["key"]
            column = TABLES[name].key
            where = _given(request, "node")
            found = await self._api.get(request, name, {"id": key, "limit": "2", **where})
            rows = [Row(row) for row in found["rows"] if str(row.get(column)) == key]
            if not rows:
                raise Refused(404, f"there is no {kind} {key[:200]} (any more)")
            charts = []
            if kind != "node" or key == self._api.node:
                charts = await self._charts(request, kind, key, where)
            return await self._pages.answer(
                request, "detail.html", key, "links" if kind == "link" else "consumers" if kind == "consumer" else "",
                table=TABLES[name], name=name, kind=kind, key=key, row=rows[0], charts=charts)
        return show

    async def _charts(self, request: web.Request, kind: str, key: str, where: dict[str, str],
                      ) -> list[tuple[str, dict[str, Any], str]]:
        charts = []
        for series, title in HISTORIES[kind]:
            params = {"kind": kind, "id": key, "series": series, **where}
            try:
                charts.append((title, await self._api.get(request, "history", params), urlencode(params)))
            except Refused:
                continue                        # no samples of it yet
        return charts

    async def browse(self, request: web.Request) -> web.Response:
        params = _given(request, "filter", "from", "until", "match", "cursor")
        found: dict[str, Any] | None = None
        problem = ""
        if request.query:
            try:
                found = await self._api.get(request, "browse", {**params, "limit": str(PAGE_ROWS)})
            except Refused as refused:
                problem = refused.text
        following = urlencode({**params, "cursor": found["cursor"]}) if found is not None and found["cursor"] else ""
        return await self._pages.answer(request, "browse.html", "Browse", "", params=params, found=found,
                                        following=following, problem=problem)

    async def topics(self, request: web.Request) -> web.Response:
        params = _given(request, "under", "flat", "filter", "sort", "after")
        found = await self._api.get(request, "topics", {"sort": "topic", **params, "limit": str(PAGE_ROWS)})
        following = urlencode({**params, "after": found["next"]}) if found["next"] else ""
        levels = params.get("under", "").split("/") if params.get("under") else []
        above = [("/".join(levels[:count + 1]), level) for count, level in enumerate(levels)]
        return await self._pages.answer(request, "topics.html", "Topics", "streams", found=found, params=params,
                                        above=above, following=following)

    async def tail(self, request: web.Request) -> web.Response:
        return await self._pages.answer(request, "tail.html", "Tail", "", filter=request.query.get("filter", ""),
                                        match=request.query.get("match", ""))

    async def journey(self, request: web.Request) -> web.Response:
        """Of one event by its id; without one, candidates by topic and content."""
        params = _given(request, "id", "filter", "match")
        found: dict[str, Any] | None = None
        events: list[dict[str, Any]] = []
        problem = ""
        try:
            if "id" in params:
                found = await self._api.get(request, "journey", {"id": params["id"]})
                found["legs"] = [leg_of(leg) for leg in found["legs"]]
            elif params:
                events = (await self._api.get(request, "browse", {**params, "limit": "50"}))["events"]
        except Refused as refused:
            problem = refused.text
        return await self._pages.answer(request, "journey.html", "Journey", "", params=params, found=found,
                                        events=events, problem=problem)

    async def dead_letters(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        where = _given(request, "node")
        found = await self._api.get(request, f"deadletters/{key}", {**_given(request, "after"), **where, "limit": "50"})
        return await self._pages.answer(request, "deadletters.html", f"Dead letters of {key}", "", found=found, key=key,
                                        where=where, at=where.get("node", ""))

    async def new_draft(self, request: web.Request) -> web.Response:
        """An editor with an example; `like`: with a managed rule as it is. For those who may read drafts only."""
        await self._api.get(request, "drafts", {"limit": "1"})
        example = EXAMPLE
        like = request.query.get("like", "")
        if like:
            found = await self._api.get(request, f"policies/{like}")
            example = {"kind": "policy", "name": like, "document": found["document"]}
        return await self._pages.answer(request, "draft.html", "New draft", "", draft=None, found=None, problem="",
                                        hours="", text=json.dumps({"changes": [example]}, indent=2))

    async def draft(self, request: web.Request) -> web.Response:
        """What it changes, what stands in its way; with `hours` what it would have done to what people did."""
        key = request.match_info["key"]
        draft = await self._api.get(request, f"drafts/{key}")
        found: dict[str, Any] | None = None
        problem, hours = "", request.query.get("hours", "")
        if hours:
            try:
                found = await self._api.get(request, f"simulate/{key}", {"hours": hours})
            except Refused as refused:
                problem = refused.text
        changes = [{name: one[name] for name in ("kind", "name", "document")} for one in draft["changes"]]
        text = json.dumps({"changes": changes, "shadow": draft["shadow"]}, indent=2)
        return await self._pages.answer(request, "draft.html", f"Draft {key}", "", draft=draft, found=found,
                                        problem=problem, hours=hours, text=text)

    async def can_i(self, request: web.Request) -> web.Response:
        query = request.query
        answer: dict[str, Any] | None = None
        problem = ""
        if query.get("action"):
            try:
                answer = await self._api.get(request, "can-i", query)
            except Refused as refused:
                problem = refused.text
        return await self._pages.answer(request, "can_i.html", "Can I?", "", answer=answer, params=query,
                                        problem=problem)

    async def connect(self, request: web.Request) -> web.Response:
        listeners = await self._api.get(request, "listeners")
        places = {row["protocol"]: row for row in reversed(listeners["rows"])}
        topic = request.query.get("topic", "plant/graz/lamp")
        return await self._pages.answer(request, "connect.html", "Connect", "", places=places, topic=topic,
                                        quoted=quote(topic, safe="/"))

    async def whoami(self, request: web.Request) -> web.Response:
        return await self._pages.answer(request, "whoami.html", "Who am I?", "",
                                        sessions=(await self._api.get(request, "sessions"))["sessions"])

    async def settings(self, request: web.Request) -> web.Response:
        return await self._pages.answer(request, "settings.html", "Settings", "",
                                        status=await self._api.get(request, "status"))

    async def help(self, request: web.Request) -> web.Response:
        return await self._pages.answer(request, "help.html", "Help", "")

    # -- login ------------------------------------------------------------------------------------------------

    async def login_form(self, request: web.Request) -> web.Response:
        return self._pages.login(self.target(request.query.get("to", "")), "", 200)

    async def login(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        user, password, to = (_text(form, name) for name in ("user", "password", "to"))
        target = self.target(to)
        try:
            secret = await self._api.login(request, user, password)
        except Refused as refused:
            return self._pages.login(target, refused.text, refused.status)
        response = go_to(target)
        response.set_cookie(self._api.cookie(request), secret, path="/", httponly=True, samesite="Lax",
                            secure=request.secure)
        return response

    async def logout(self, request: web.Request) -> web.StreamResponse:
        self._api.logout(request)
        response = go_to(f"{self._base}/login")
        response.del_cookie(self._api.cookie(request), path="/")
        return response

    async def set_zone(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        response = go_to(f"{self._base}/settings")
        response.set_cookie(ZONE_COOKIE, quote(_text(form, "zone")[:64], safe=""), path="/", httponly=True,
                            samesite="Lax", max_age=365 * 86_400)
        return response

    def target(self, to: str) -> str:
        """Where to go after the login: a page of ours, whatever was asked for."""
        path = to.removeprefix(self._base)
        own = (to.startswith(f"{self._base}/") and not path.startswith(("//", "/\\"))
               and not any(mark in to for mark in "\r\n"))
        return to if own else f"{self._base}/"


def _canonical(route: web.AbstractRoute) -> str:
    """The path as rights know it."""
    assert route.resource is not None
    return route.resource.canonical


def _given(request: web.Request, *names: str) -> dict[str, str]:
    """What of the query is not empty."""
    return {name: request.query[name] for name in names if request.query.get(name)}


def go_to(target: str) -> web.Response:
    """303: see there, with GET."""
    return web.Response(status=303, headers={"Location": target})


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


