"""`meshgate topology`: the mesh as a running node sees it: nodes and links, routes, interest, lag of replication."""
from __future__ import annotations

import argparse
from urllib.parse import quote

import msgspec

from mesh.commands.client.errors import CommandError
from mesh.commands.client.http import Client
from mesh.commands.client.managed import act, add_common, done
from mesh.commands.client.table import format_table
from mesh.process.logs import one_line
from mesh.values.units import format_duration, format_size

VIEWS = ("nodes", "routes", "interest", "lag")
FORGET = "forget"


class LinkRow(msgspec.Struct):
    node: str
    cost: int
    state: str
    rtt_ms: float | None


class NodeRow(msgspec.Struct):
    """What the tables show of a node; the answer has more (--json)."""

    name: str
    site: str
    version: str
    protocol: int
    hops: int | None
    next_hop: str | None
    cost: int | None
    skew_ms: float | None
    age_s: float
    interest: int
    links: list[LinkRow]


class NodesAnswer(msgspec.Struct):
    node: str
    nodes: list[NodeRow]
    problems: list[str]


class RouteRow(msgspec.Struct):
    to: str
    next_hop: str
    hops: int
    cost: int


class RoutesAnswer(msgspec.Struct):
    routes: list[RouteRow]


class InterestRow(msgspec.Struct):
    node: str
    filters: list[str]


class InterestAnswer(msgspec.Struct):
    interest: list[InterestRow]
    wanted: int
    widened: bool


class TopicAnswer(msgspec.Struct):
    topic: str
    here: bool
    nodes: list[str]


class FlowRow(msgspec.Struct):
    """Of an origin or of a destination."""

    node: str
    stream: str
    partition: int
    flow: int
    end: int
    lag_seconds: float
    events_per_s: float
    trouble: str
    state: str = ""
    pulling: bool = True
    reachable: bool = True
    floor: int = 0
    confirmed: int = 0
    lag_offsets: int = 0
    lag_events: int = 0


class Disk(msgspec.Struct):
    held_bytes: int
    full_in_s: float | None


class LagAnswer(msgspec.Struct):
    origins: list[FlowRow]
    destinations: list[FlowRow]
    disk: Disk


def add_topology(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("view", nargs="?", choices=(*VIEWS, FORGET), default="nodes",
                        help="nodes with their links (default), routes, interest, lag of replication; or forget: the "
                             "key of a node that was made anew")
    parser.add_argument("topic", nargs="?", help="with interest: which nodes get events of this topic; with forget: "
                                                 "the node")
    add_common(parser, act=True)
    parser.set_defaults(run=show_topology)


def show_topology(options: argparse.Namespace) -> int:
    if options.view == FORGET:
        if options.topic is None:
            raise CommandError("which node? meshgate topology forget NODE")
        path = f"nodes/{quote(options.topic, safe='')}/forget-key"
        return done(options, act(Client(options), "POST", path, options), f"forgot the key of {options.topic}")
    path = {"lag": "mesh/lag"}.get(options.view, options.view)
    if options.topic is not None:
        if options.view != "interest":
            raise CommandError(f"a topic goes with interest: meshgate topology interest {options.topic}")
        path += f"?topic={quote(options.topic, safe='')}"
    answer = Client(options).json(f"/api/v1/{path}")
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return 0
    show = {"nodes": _nodes, "routes": _routes, "interest": _interest, "lag": _lag}[options.view]
    try:
        print(show(answer))
    except msgspec.ValidationError as error:
        raise CommandError("the node's answer is not what this version expects") from error
    return 0


def _nodes(answer: object) -> str:
    found = msgspec.convert(answer, NodesAnswer)
    rows = [
        [node.name, node.site, node.version, "lost" if node.hops is None else node.hops, node.next_hop, node.cost,
         node.skew_ms, node.interest, format_duration(node.age_s)]
        for node in found.nodes
    ]
    text = format_table(["node", "site", "version", "hops", "via", "cost", "skew ms", "filters", "heard"], rows)
    links = _links(found.nodes)
    if links:
        text += "\n\n" + format_table(["link", "cost", "state", "rtt ms"], links)
    return "\n".join([text, *(f"problem: {one_line(problem)}" for problem in found.problems)])


def _links(nodes: list[NodeRow]) -> list[list[object]]:
    """Each link once. "one-sided": only one end speaks of it, it carries nothing; "lost": nobody there is heard of."""
    told = {node.name: {link.node for link in node.links} for node in nodes}
    lost = {node.name for node in nodes if node.hops is None}
    rows: list[list[object]] = []
    for node in nodes:
        for link in node.links:
            both = node.name in told.get(link.node, ())
            if not both or node.name < link.node:
                state = "one-sided" if not both else "lost" if node.name in lost else link.state
                rows.append([f"{node.name} ─ {link.node}", link.cost, state, link.rtt_ms])
    return sorted(rows, key=str)


def _routes(answer: object) -> str:
    routes = msgspec.convert(answer, RoutesAnswer).routes
    return format_table(["to", "via", "hops", "cost"], [[one.to, one.next_hop, one.hops, one.cost] for one in routes])


def _interest(answer: object) -> str:
    if isinstance(answer, dict) and "topic" in answer:
        found = msgspec.convert(answer, TopicAnswer)
        nodes = (["this node"] if found.here else []) + found.nodes
        return f"{one_line(found.topic)}: {', '.join(nodes) if nodes else 'nobody wants it'}"
    all_nodes = msgspec.convert(answer, InterestAnswer)
    rows = [[row.node, pattern] for row in all_nodes.interest for pattern in row.filters]
    text = format_table(["node", "wants"], rows)
    return text + (f"\nThe {all_nodes.wanted} filters of this node were joined into wider ones." if all_nodes.widened
                   else "")


def _lag(answer: object) -> str:
    found = msgspec.convert(answer, LagAnswer)
    origins = [
        [one.node, one.stream, one.partition, one.flow or "live", one.state if one.reachable else "unreachable",
         one.floor, one.end, one.lag_offsets, format_duration(one.lag_seconds), one.events_per_s, one.trouble or None]
        for one in found.origins
    ]
    destinations = [
        [one.node, one.stream, one.partition, one.flow or "live", "pulls" if one.pulling else "away", one.confirmed,
         one.end, one.lag_events, format_duration(one.lag_seconds), one.events_per_s, one.trouble or None]
        for one in found.destinations
    ]
    headings = ["stream", "part", "flow", "state", "at", "end", "lag", "behind", "events/s", "trouble"]
    text = "This node pulls\n" + format_table(["from", *headings], origins)
    text += "\n\nOthers pull from this node\n" + format_table(["to", *headings], destinations)
    text += f"\n\nkept for nodes that are away: {format_size(found.disk.held_bytes)}"
    if found.disk.full_in_s is not None:
        text += f"; at this rate the disk is full in {format_duration(found.disk.full_in_s)}"
    return text
