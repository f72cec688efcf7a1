"""The mesh: sites and nodes as boxes, links between them, and who is linked with whom as a matrix."""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tui import show
from tui.views.view import View, at, message_lines
from tui.widgets.drawing import Edge, Spot, draw, keys, matrix, worse
from tui.widgets.line import BLANK, DIM, TEXT, WARN, Line

if TYPE_CHECKING:
    from tui.api.client import Client

NODES_MAX = 1_000
MATRIX_MAX = 60


class Map(View):
    NAME = "map"
    TITLE = "Map"
    TOPIC = "topology"
    ABOUT = "Sites as boxes, links between them; below it the matrix of who is linked with whom."

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[dict[str, Any]] = []
        self.links: list[dict[str, Any]] = []
        self.here = ""
        self.cursor = 0

    async def load(self, client: Client) -> Any:
        limit = {"limit": str(NODES_MAX)}
        return await asyncio.gather(client.get("nodes", limit), client.get("links", limit))

    def take(self, data: Any) -> None:
        nodes, links = data
        self.nodes, self.links, self.here = nodes["nodes"], links["links"], nodes.get("node", "")

    @property
    def path(self) -> str:
        return "/topology"

    def headline(self) -> list[tuple[str, str]]:
        lost = sum(row["hops"] is None for row in self.nodes)
        found = [(f"{len(self.nodes)} nodes", TEXT)]
        if lost:
            found.append((f"  △ {lost} cannot be reached", WARN))
        return found

    # -- data -------------------------------------------------------------------------------------------------

    def spots(self) -> list[Spot]:
        found = []
        for row in self.nodes:
            if row["hops"] is None:
                found.append(Spot(str(row["name"]), str(row["site"]), "unreachable",
                                  f"heard {show.duration(row['age_s'])} ago"))
                continue
            bad = any(link["state"] not in ("up", "paused") for link in row.get("links", ()))
            note = "this node" if row["hops"] == 0 else ""
            found.append(Spot(str(row["name"]), str(row["site"]), "warning" if bad else "well", note))
        return found

    def edges(self) -> list[Edge]:
        """One for each pair: the worse of what its two ends say; our own links with their figures."""
        states: dict[tuple[str, str], str] = {}
        for (sender, receiver), state in self.says().items():
            pair = (min(sender, receiver), max(sender, receiver))
            states[pair] = worse(states.get(pair, state), state)
        notes: dict[tuple[str, str], str] = {}
        for link in self.links:
            other = str(link["node"] or "")
            if not other:
                continue
            pair = (min(self.here, other), max(self.here, other))
            states[pair] = worse(states.get(pair, str(link["state"])), str(link["state"]))
            notes[pair] = self._note(link)
        return [Edge(*pair, state, notes.get(pair, "")) for pair, state in sorted(states.items())]

    def _note(self, link: dict[str, Any]) -> str:
        delay = link["backlog"]["seconds"]
        parts = [] if link["rtt_ms"] is None else [f"{link['rtt_ms']:,.1f} ms"]
        if link["state"] in ("up", "throttled"):
            parts.append(f"{show.size(link['sent']['bytes_s'] + link['received']['bytes_s'])}/s")
        if delay is not None and delay >= 1:
            parts.append(f"{show.duration(delay)} wait")
        return "  ".join(parts)

    def says(self) -> dict[tuple[str, str], str]:
        """(sender, receiver) → what the sender says of the link; unknown where the sender cannot be heard."""
        return {
            (str(row["name"]), str(link["node"])): str(link["state"]) if row["hops"] is not None else "unknown"
            for row in self.nodes for link in row.get("links", ())
        }

    # -- drawing ----------------------------------------------------------------------------------------------

    def lines(self, width: int, height: int) -> list[Line]:
        if not self.loaded:
            return message_lines("asking the node …", DIM)
        spots = self.spots()
        names = keys(spots, height)
        self.cursor = max(min(self.cursor, len(names) - 1), 0)
        found = [BLANK, *draw(spots, self.edges(), width, height, names[self.cursor] if names else "")]
        if len(self.nodes) == 1 and not self.links:
            found += [BLANK, *(Line([(f"   {text}", DIM)]) for text in (
                "One node alone. Two lines of configuration join it to a mesh, here or there:",
                "", "[[links]]", 'to = "ws://other-node:7420"'))]
        else:
            ordered = sorted(str(row["name"]) for row in self.nodes)[:MATRIX_MAX]
            found += [BLANK, *matrix(ordered, self.says(), width)]
        return found

    # -- keys -------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return keys(self.spots(), self.size.height)

    def move(self, lines: int) -> None:
        """The cursor over the nodes; beyond the last one the picture scrolls."""
        last = len(self._names()) - 1
        if 0 <= self.cursor + lines <= last:
            self.cursor += lines
            marked = next((y for y, line in enumerate(self.lines(*self.size)) if line.marked), 0)
            self.top = max(min(self.top, marked - 1), marked - self.size.height + 2, 0)
        else:
            self.cursor = max(min(self.cursor + lines, last), 0)
            self.top = max(self.top + lines, 0)
        self.repaint()

    def subject(self) -> str:
        names = self._names()
        return names[self.cursor] if names else ""

    def enter(self) -> None:
        subject = self.subject()
        if any(row["name"] == subject for row in self.nodes):
            self.post_message(self.Go(at("nodes", subject)))
        elif subject:
            self.post_message(self.Go(f'nodes site="{subject}"'))
