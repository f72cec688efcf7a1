"""The mesh in the management API: nodes, routes, interest, lag of replication, gossip. JSON, reads only.

    GET /api/v1/routes   interest[?topic=a/b]   mesh/lag   mesh/gossip
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.management.acts.call import Call, Endpoint, Param, Values
from protocols.rest.problems import Problem
from routing.errors import TopicError
from routing.rights.policy import REPLY_PREFIX, Action
from routing.topic import check_topic

if TYPE_CHECKING:
    from mesh.meshing import Meshing

ROWS_MAX = 10_000               # flows in one answer


class MeshApi:
    def __init__(self, mesh: Meshing) -> None:
        self._mesh = mesh

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "routes", Action.VIEW, "By which link each node is reached.", self.routes),
            Endpoint("GET", "interest", Action.VIEW, "What each node wants; with a topic, where an event would go.",
                     self.interest, (Param("topic", "a topic"),)),
            Endpoint("GET", "mesh/lag", Action.VIEW, "Replication: what is pulled from here, and by here.", self.lag),
            Endpoint("GET", "mesh/gossip", Action.VIEW, "What nodes tell each other, in numbers.", self.gossip),
        ]

    async def routes(self, call: Call) -> Values:
        return {"node": self._mesh.me.name, "routes": self._mesh.snapshot()["routes"]}

    async def interest(self, call: Call) -> Values:
        """What each node wants; with ?topic= which nodes an event of that topic would go to."""
        topic = call.query.get("topic")
        if topic is None:
            found = self._mesh.snapshot()
            return {
                "node": found["node"], "wanted": found["wanted"], "widened": found["widened"],
                "interest": [{"node": node, "filters": filters} for node, filters in found["interest"].items()],
            }
        try:
            check_topic(topic)
        except TopicError as error:
            raise Problem(400, "query-invalid", str(error)) from error
        here = self._mesh.wanted_here(topic)
        nodes = list(self._mesh.overlay.wants(topic))
        if topic.startswith(REPLY_PREFIX):
            nodes = [name for name in self._mesh.overlay.nodes if topic.startswith(f"{REPLY_PREFIX}{name}/")]
        return {"topic": topic, "here": here, "nodes": nodes}

    async def lag(self, call: Call) -> Values:
        found = dict(self._mesh.replication.snapshot())
        for key in ("origins", "destinations"):
            found[f"{key}_total"] = len(found[key])
            found[key] = found[key][:ROWS_MAX]
        return found

    async def gossip(self, call: Call) -> Values:
        found = self._mesh.snapshot()
        wanted = ("node", "gossip", "state_bytes", "filters", "counts", "direct")
        return {key: found[key] for key in wanted}
