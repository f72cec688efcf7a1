"""Shortest paths over the gossiped graph. Sans-IO, pure functions of the link states.

A link counts when both of its ends name each other; its cost is the larger of what they say. Of two paths of one cost
that with fewer hops is taken, then the one by the neighbour whose name sorts first, so that nothing flaps.
"""
from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from mesh.topology.linkstate.nodestate import LinkInfo

USABLE = frozenset(("up", "throttled"))

Graph = dict[str, dict[str, tuple[int, float | None]]]      # node → neighbour → (cost, skew of the neighbour in ms)


class Route:
    """How a node is reached from here."""

    __slots__ = ("before", "cost", "hops", "next_hop", "skew_ms")

    def __init__(self, cost: int, hops: int, next_hop: str, skew_ms: float | None, before: str) -> None:
        self.cost = cost
        self.hops = hops
        self.next_hop = next_hop            # name of the neighbour
        self.before = before                # the last node on the way there; we, for a neighbour
        self.skew_ms = skew_ms              # clock there minus clock here, None where a link on the way has no figure


def graph_of(links: Mapping[str, Iterable[LinkInfo]]) -> Graph:
    """links: node → what it says of its links. Parallel links: the cheapest one counts."""
    said: Graph = {}
    for node, infos in links.items():
        row: dict[str, tuple[int, float | None]] = {}
        for info in infos:
            if info.state in USABLE and info.node != node and (info.node not in row or info.cost < row[info.node][0]):
                row[info.node] = (info.cost, info.skew_ms)
        said[node] = row
    return {
        node: {
            other: (max(cost, said[other][node][0]), skew)
            for other, (cost, skew) in row.items() if node in said.get(other, ())
        }
        for node, row in said.items()
    }


def shortest_paths(graph: Graph, start: str) -> dict[str, Route]:
    """Routes to all that can be reached from start, without start itself."""
    routes: dict[str, Route] = {}
    heap: list[tuple[int, int, str, str, str]] = [(0, 0, "", start, "")]    # cost, hops, next hop, node, the one before
    while heap:
        cost, hops, next_hop, node, before = heapq.heappop(heap)
        if node in routes or (node == start and hops):
            continue
        if hops:
            known = 0.0 if before == start else routes[before].skew_ms
            step_skew = graph[before][node][1]
            skew = None if known is None or step_skew is None else known + step_skew
            routes[node] = Route(cost, hops, next_hop, skew, before)
        for other, (step, _) in graph.get(node, {}).items():
            if other != start and other not in routes:
                heapq.heappush(heap, (cost + step, hops + 1, next_hop or other, other, node))
    return routes


def sides(graph: Graph, without: str) -> dict[str, int]:
    """Node → number of the part it belongs to once `without` is taken out of the graph.

    A frame from a source can come from a neighbour only if both are in one part.
    """
    parts: dict[str, int] = {}
    number = 0
    for first in graph:
        if first in parts or first == without:
            continue
        number += 1
        parts[first] = number
        todo = [first]
        while todo:
            for other in graph.get(todo.pop(), ()):
                if other not in parts and other != without:
                    parts[other] = number
                    todo.append(other)
    return parts
