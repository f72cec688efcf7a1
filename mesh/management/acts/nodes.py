"""Acts on what this node knows of others: the key of a node that was made anew is forgotten, so its new one counts."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mesh.management.acts.act import Act, Acts
from mesh.management.acts.call import Call, Endpoint, Values
from protocols.rest.problems import Problem
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.node import Node


class NodeActs:
    def __init__(self, node: Node, acts: Acts, changed: Callable[[], None]) -> None:
        """changed: the table of nodes is not what it was."""
        self._node = node
        self._acts = acts
        self._changed = changed

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint("POST", "nodes/{name}/forget-key", Action.ADMINISTER,
                         "Forget the key of a node that was made anew: the next one that it shows counts.",
                         self.forget, body={})]

    async def forget(self, call: Call) -> Values:
        name = call.names["name"]
        key = self._node.known_nodes.get(name)
        if key is None:
            raise Problem(404, "not-found", f"no key of a node {name[:200]} is known here")

        def perform() -> Values:
            forgotten = self._node.mesh.overlay.seals.forget(name)
            self._changed()
            return {"node": name, "forgotten": forgotten}
        return await self._acts.run(call, Act("node.forget-key", name, {"key": key.hex()}, perform, {"key": key.hex()}))
