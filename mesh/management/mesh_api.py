"""The mesh in the management API: nodes, routes, interest, lag of replication, gossip. JSON, reads only.

    GET /api/v1/routes   interest[?topic=a/b]   mesh/lag   mesh/gossip
"""
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from mesh.management.answers import json_answer
from protocols.rest.problems import Problem
from routing.errors import TopicError
from routing.rights.policy import REPLY_PREFIX
from routing.topic import check_topic

if TYPE_CHECKING:
    from mesh.meshing import Meshing

Handler = Callable[[web.Request], Awaitable[web.Response]]

ROWS_MAX = 10_000               # flows in one answer


class MeshApi:
    def __init__(self, mesh: Meshing) -> None:
        self._mesh = mesh

    def add_routes(self, add: Callable[[str, Handler], None]) -> None:
        """add(path, handler): a read below /api/v1."""
        for name, handler in (
            ("routes", self.routes), ("interest", self.interest), ("mesh/lag", self.lag), ("mesh/gossip", self.gossip),
        ):
            add(f"/{name}", handler)

    async def routes(self, request: web.Request) -> web.Response:
        return json_answer({"node": self._mesh.me.name, "routes": self._mesh.snapshot()["routes"]})

    async def interest(self, request: web.Request) -> web.Response:
        """What each node wants; with ?topic= which nodes an event of that topic would go to."""
        topic = request.query.get("topic")
        if topic is None:
            found = self._mesh.snapshot()
            return json_answer({
                "node": found["node"], "wanted": found["wanted"], "widened": found["widened"],
                "interest": [{"node": node, "filters": filters} for node, filters in found["interest"].items()],
            })
        try:
            check_topic(topic)
        except TopicError as error:
            raise Problem(400, "query-invalid", str(error)) from error
        here = self._mesh.wanted_here(topic)
        nodes = list(self._mesh.overlay.wants(topic))
        if topic.startswith(REPLY_PREFIX):
            nodes = [name for name in self._mesh.overlay.nodes if topic.startswith(f"{REPLY_PREFIX}{name}/")]
        return json_answer({"topic": topic, "here": here, "nodes": nodes})

    async def lag(self, request: web.Request) -> web.Response:
        found = dict(self._mesh.replication.snapshot())
        for key in ("origins", "destinations"):
            found[f"{key}_total"] = len(found[key])
            found[key] = found[key][:ROWS_MAX]
        return json_answer(found)

    async def gossip(self, request: web.Request) -> web.Response:
        found = self._mesh.snapshot()
        wanted = ("node", "gossip", "state_bytes", "filters", "counts", "direct")
        return json_answer({key: found[key] for key in wanted})
