"""Acts on what is connected: clients and links; and the confirmation of a clock that has jumped."""
from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Values
from mesh.management.paging.steps import in_steps
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node

LINK_ACTS: Final = {
    "pause": "Hold it: nothing is sent, and what it has waits.", "resume": "Let it go on.",
    "drain": "Send what is queued, then close it.", "kick": "Close it; it is dialled anew.",
}


class ConnectionActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[str], None]) -> None:
        """changed: called with the name of the table that is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "clients/{name}/kick", Action.OPERATE, "Close a client's connection.", self.kick, body={}),
            Endpoint("POST", "clock/confirm", Action.OPERATE, "The wall clock is right after all: take its time.",
                     self.confirm_clock, body={}),
            *(Endpoint("POST", f"links/{{id}}/{name}", Action.OPERATE, about, self._link_act(name), body={})
              for name, about in LINK_ACTS.items()),
        ]

    async def kick(self, call: Call) -> Values:
        name = call.names["name"]

        def perform() -> Values:
            if not self._node.kick(name):
                raise Problem(404, "not-found", f"no client {name[:200]} is connected")
            self._changed("clients")
            return {"client_id": name, "kicked": True}
        known, _ = await in_steps(row["client_id"] == name for row in self._node.clients())
        if not any(known):
            raise Problem(404, "not-found", f"no client {name[:200]} is connected")
        return await self._acts.run(call, Act("client.kick", name, {"clients": 1}, perform))

    async def confirm_clock(self, call: Call) -> Values:
        def perform() -> Values:
            return {"confirmed": self._node.confirm_clock(), **self._node.clock_status()}
        preview = {"wall_ahead_s": self._node.clock_status()["wall_ahead_s"]}
        return await self._acts.run(call, Act("clock.confirm", self._node.name, preview, perform))

    def _link_act(self, action: str) -> Callable[[Call], Awaitable[Values]]:
        async def run(call: Call) -> Values:
            identifier = call.names["id"]
            link = self._node.links.links.get(identifier)
            if link is None:
                raise Problem(404, "not-found", f"there is no link {identifier[:200]}")
            row = link.snapshot(self._node.router.clock_s())

            def perform() -> Values:
                if not getattr(self._node.links, action)(identifier):
                    raise Problem(404, "not-found", f"there is no link {identifier[:200]} that is connected")
                self._changed("links")
                return {"link": identifier, action: True}
            preview = {"node": row["node"], "state": row["state"], "backlog": row["backlog"]}
            return await self._acts.run(
                call, Act(f"link.{action}", identifier, preview, perform, {"state": row["state"]}))
        return run
