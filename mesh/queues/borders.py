"""Which queues may be shared with a node, and what it may lend: by what passes on all links of the way there."""
from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mesh.replication.borders import EVERYTHING, may_enter, may_leave
from routing.queues.options import QUEUE_TOPICS

if TYPE_CHECKING:
    from mesh.replication.overlay import Overlay
    from routing.queues.queue import Queue


OPERATE = "operate"             # of `console` of a link


class Borders:
    """Loop thread only."""

    def __init__(self, overlay: Overlay) -> None:
        self.moved: set[str] = set()                    # nodes for which look() has found others than before
        self._overlay = overlay
        self._known: dict[str, tuple[object, ...]] = {}

    @property
    def may_manage(self) -> bool:
        """May who has sent the message that is looked at purge, delete and unbind what is here? The link by which it
        came says so, as it does for what a person asks over it (mesh/management/across).
        """
        came_by = self._overlay.came_by
        return came_by is not None and OPERATE in came_by.console

    def may_share(self, queue: Queue, node: str, *, more: Collection[str] = ()) -> bool:
        """more: filters that it has on that node."""
        own = [pattern for pattern in queue.consumer.filters if pattern != queue.topic]
        return self.may_pass(node, queue.topic, [*own, *more])

    def may_pass(self, node: str, straight: str, patterns: Collection[str]) -> bool:
        """All of it, both ways, under the same topics; and what is sent straight to the queue, which a link that is not
        for everything has to name.
        """
        edge = self._overlay.edge(node)
        if edge is None or edge.prefix:
            return False
        whole = EVERYTHING in edge.exports and EVERYTHING in edge.imports
        return (whole or (may_leave(edge, [straight]) and may_enter(edge, [straight]))) and (
            may_leave(edge, patterns) and may_enter(edge, patterns))

    def may_lend(self, node: str, queue: Queue, topic: str) -> bool:
        """May an event of this topic come into a part, out of that node's?"""
        if topic == queue.topic:
            return True
        edge = self._overlay.edge(node)
        return edge is not None and not topic.startswith(QUEUE_TOPICS) and (
            EVERYTHING in edge.imports or may_enter(edge, [topic]))

    def look(self, nodes: Collection[str]) -> None:
        """Which of these stand behind other borders than at the last look?"""
        self.moved.clear()
        for node in nodes:
            edge = self._overlay.edge(node)
            if edge is not None:
                borders = tuple(edge.exports), tuple(edge.imports), edge.prefix
                if self._known.get(node, borders) != borders:
                    self.moved.add(node)
                self._known[node] = borders
        for node in self._known.keys() - set(nodes):
            del self._known[node]
