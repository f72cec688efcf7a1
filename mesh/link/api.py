"""Links in the management API: GET /api/v1/links, POST /api/v1/links/{id}/pause, resume, drain, kick."""
from __future__ import annotations

from aiohttp import web

from mesh.link.manager import LinkManager
from mesh.management.answers import json_answer
from protocols.rest.problems import Problem

ACTIONS = ("pause", "resume", "drain", "kick")


class LinkApi:
    def __init__(self, links: LinkManager) -> None:
        self._links = links

    def add_routes(self, routes: web.UrlDispatcher, prefix: str) -> None:
        routes.add_get(f"{prefix}/links", self.show)
        for action in ACTIONS:
            routes.add_post(f"{prefix}/links/{{id}}/{action}", self.act)

    async def show(self, request: web.Request) -> web.Response:
        links = self._links.snapshot()
        return json_answer({"links": links, "total": len(links), "counters": dict(self._links.counters)})

    async def act(self, request: web.Request) -> web.Response:
        identifier, action = request.match_info["id"], request.path.rpartition("/")[2]
        done: bool = getattr(self._links, action)(identifier)
        if not done:
            connected = " that is connected" if action == "kick" else ""
            raise Problem(404, "not-found", f"there is no link {identifier[:200]}{connected}")
        return json_answer({"link": identifier, action: True})
