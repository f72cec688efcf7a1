"""The tables of the management API: what rows there are, where they come from, and who may see them.

A resource registers itself here by being in the list that resources() gives; its route, its CSV, its place in the
OpenAPI document and the test that no route is without a permission follow from that.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.management.tables.consumer_rows import consumer_rows
from mesh.management.tables.snapshots import denial_rows, policies_snapshot, stream_rows
from routing.rights.policy import Action

if TYPE_CHECKING:
    from mesh.management.figures.sampler import Sampler
    from mesh.management.tables.table import Row
    from mesh.node import Node


class Resource(msgspec.Struct, frozen=True):
    """One table. rows() is drawn from step by step; extra() goes beside the rows in a JSON answer."""

    name: str
    key: str                                    # the column that is unique; the order when none is asked for
    about: str
    rows: Callable[[], Iterable[Row]]
    action: Action = Action.VIEW
    extra: Callable[[], dict[str, Any]] = dict
    order: str = ""                             # the sort when none is asked for, if it is not by key


def resources(node: Node, sampler: Sampler) -> list[Resource]:
    """All tables of a node."""
    router = node.router
    return [
        Resource("nodes", "name", "Nodes of the mesh as this one knows them.",
                 lambda: node.mesh.snapshot()["nodes"],
                 extra=lambda: {"node": node.name, "problems": node.mesh.overlay.problems()}),
        Resource("links", "id", "Links of this node to its neighbours.",
                 lambda: _since(sampler, "link", node.links.snapshot(), "id"),
                 extra=lambda: {"counters": dict(node.links.counters)}),
        Resource("streams", "name", "Streams of the log.", lambda: stream_rows(router)),
        Resource("consumers", "name", "Durable and live readers of all protocols, with their lag.",
                 lambda: consumer_rows(router, sampler)),
        Resource("clients", "client_id", "Clients of all protocols, and MQTT sessions that are away.", node.clients),
        Resource("webhooks", "consumer", "Consumers that push to a URL.", node.webhooks.snapshot),
        Resource("policies", "name", "The rules in force.", lambda: policies_snapshot(router)),
        Resource("denials", "id", "The latest denials, newest first.", lambda: denial_rows(router), order="-id",
                 extra=lambda: {"counts": [
                     {"protocol": protocol, "action": action, "count": count}
                     for (protocol, action), count in sorted(router.policy.denied.items())]}),
        Resource("listeners", "address", "Where this node listens.", lambda: _listeners(node)),
    ]


def _since(sampler: Sampler, kind: str, rows: list[dict[str, Any]], key: str) -> Iterator[Row]:
    """Each row with the moment from which its state holds."""
    for row in rows:
        yield {**row, "state_since_ms": sampler.since_ms(kind, str(row[key]))}


def _listeners(node: Node) -> Iterator[Row]:
    for listener in node.listeners:
        for address in listener.texts:
            yield {"address": address, "protocol": listener.protocol, "tls": listener.secure}
