"""Acts on routes of bridges: pause, resume."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Values
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node


class BridgeActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the table of bridges is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "bridges/{name}/pause", Action.OPERATE, "Move nothing until it is resumed.", self.pause,
                     body={}),
            Endpoint("POST", "bridges/{name}/resume", Action.OPERATE, "Go on from where it stopped.", self.resume,
                     body={}),
        ]

    async def pause(self, call: Call) -> Values:
        return await self._pause(call, True)

    async def resume(self, call: Call) -> Values:
        return await self._pause(call, False)

    async def _pause(self, call: Call, paused: bool) -> Values:
        name = call.names.get("name", "")
        route = self._node.bridges.find(name)
        if route is None:
            raise Problem(404, "not-found", f"there is no bridge {name[:200]}; they are named BRIDGE/ROUTE")

        async def perform() -> Values:
            await route.pause(paused)
            self._changed()
            return {"bridge": route.name, "paused": paused}
        act = "bridge.pause" if paused else "bridge.resume"
        return await self._acts.run(call, Act(
            act, route.name, {"lag_events": route.lag_events()}, perform, {"paused": route.paused}, {"paused": paused}))
