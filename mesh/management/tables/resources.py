"""The tables of the management API: what rows there are, where they come from, and who may see them.

A resource registers itself here by being in the list that resources() gives; its route, its CSV, its place in the
OpenAPI document and the test that no route is without a permission follow from that.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mesh.management.figures.link_lag import lag_by_neighbour, link_row
from mesh.management.paging.table import QueryError
from mesh.management.tables.consumer_rows import consumer_rows
from mesh.management.tables.deadletter_rows import deadletter_rows
from mesh.management.tables.queue_rows import queue_rows, transaction_rows
from mesh.management.tables.snapshots import denial_rows, stream_rows
from mesh.management.tables.topics import TopicCounts
from routing.errors import TopicError
from routing.rights.policy import Action
from routing.topic import check_topic

if TYPE_CHECKING:
    from mesh.management.acts.audit import Audit
    from mesh.management.figures.sampler import Sampler
    from mesh.management.paging.table import Row
    from mesh.management.sessions import Sessions
    from mesh.node import Node

Rows = Iterable["Row | None"]


class Resource(msgspec.Struct, frozen=True):
    """One table. rows() is drawn from step by step (None: a step without a row); extra() goes beside the rows.

    variants: for a table that is another one for every value of a parameter: which of these (name → values, "": any
    topic) there are.  rows_of is then called with what the request has of them.
    """

    name: str
    key: str                                    # the column that is unique; the order when none is asked for
    about: str
    rows: Callable[[], Rows]
    action: Action = Action.VIEW
    extra: Callable[[], dict[str, Any]] = dict
    order: str = ""                             # the sort when none is asked for, if it is not by key
    variants: Callable[[Mapping[str, str]], str] | None = None
    varied: Callable[[str], Rows] | None = None
    own_params: tuple[tuple[str, str], ...] = ()    # (name, about) of those that variants reads

    def variant(self, params: Mapping[str, str]) -> str:
        """Raises QueryError."""
        return self.variants(params) if self.variants is not None else ""

    def rows_of(self, variant: str) -> Rows:
        return self.varied(variant) if self.varied is not None else self.rows()


def resources(node: Node, sampler: Sampler, audit: Audit, sessions: Sessions) -> list[Resource]:
    """All tables of a node."""
    router = node.router
    topics = TopicCounts(router)
    return [
        Resource("nodes", "name", "Nodes of the mesh as this one knows them.",
                 lambda: _with_keys(node),
                 extra=lambda: {"node": node.name, "problems": node.mesh.overlay.problems()}),
        Resource("links", "id", "Links of this node to its neighbours.",
                 lambda: _link_rows(node, sampler),
                 extra=lambda: {"counters": dict(node.links.counters)}),
        Resource("streams", "name", "Streams of the log.", lambda: stream_rows(router)),
        Resource("topics", "topic", "Topics of the stored events, as a tree with counts.", topics.rows,
                 extra=topics.extra, variants=_below, varied=lambda variant: _topic_rows(topics, variant),
                 own_params=(("under", "A topic: the levels below it."),
                             ("flat", "1: all topics instead of the next level."))),
        Resource("consumers", "name", "Durable and live readers of all protocols, with their lag.",
                 lambda: consumer_rows(router, sampler)),
        Resource("queues", "name", "Queues: what is ready and unacked, who reads, what is bound, limits.",
                 lambda: queue_rows(router, sampler)),
        Resource("exchanges", "name", "Exchanges of AMQP 0-9-1.", lambda: node.protocol_rows("exchanges")),
        Resource("bindings", "id", "Bindings of exchanges, to queues and to exchanges.",
                 lambda: node.protocol_rows("bindings")),
        Resource("groups", "group", "Kafka groups: state, members, lag.", lambda: group_rows(node)),
        Resource("transactions", "transactional_id", "Transactional ids of producers, and what is open.",
                 lambda: transaction_rows(router)),
        Resource("deadletters", "consumer", "Consumers that gave events up, and how many wait to be looked at.",
                 lambda: deadletter_rows(router, node.redrives), order="-waiting"),
        Resource("clients", "client_id", "Clients of all protocols, and MQTT sessions that are away.", node.clients),
        Resource("webhooks", "consumer", "Consumers that push to a URL.", node.webhooks.snapshot),
        Resource("bridges", "name", "Routes of bridges from and to Kafka clusters outside.", node.bridges.snapshot),
        Resource("denials", "id", "The latest denials, newest first.", lambda: denial_rows(router), order="-id",
                 extra=lambda: {"counts": [
                     {"protocol": protocol, "action": action, "count": count}
                     for (protocol, action), count in sorted(router.policy.denied.items())]}),
        Resource("listeners", "address", "Where this node listens.", lambda: _listeners(node)),
        Resource("logins", "id", "People who are logged in to this console.", lambda: _logins(sessions),
                 action=Action.ADMINISTER),
        Resource("audit", "id", "Who did what, newest first.", audit.rows, action=Action.AUDIT, order="-id"),
    ]


def _with_keys(node: Node) -> Iterator[Row]:
    """key: by which it signs what it says, "": it does not, or nobody has asked it yet."""
    for row in node.mesh.snapshot()["nodes"]:
        key = node.known_nodes.get(row["name"])
        yield {**row, "key": key.hex() if key is not None else ""}


def _link_rows(node: Node, sampler: Sampler) -> Iterator[Row]:
    lags = lag_by_neighbour(node, look=True)
    for row in node.links.snapshot():
        yield link_row(sampler.histories, row, sampler.since_ms("link", str(row["id"])), lags)


def group_rows(node: Node) -> Iterator[Row]:
    """With the lag of the consumer that has the group's name and follows its commits."""
    for row in node.protocol_rows("groups"):
        consumer = node.router.consumers.get(row["group"])
        lag = consumer.lag() if consumer is not None and not consumer.closed else None
        yield {**row, "lag_events": lag.events if lag is not None else None,
               "lag_seconds": lag.seconds if lag is not None else None,
               "lag_state": lag.state if lag is not None else "exact"}


def _listeners(node: Node) -> Iterator[Row]:
    for listener in node.listeners:
        for address in listener.texts:
            yield {"address": address, "protocol": listener.protocol, "tls": listener.secure}


def _logins(sessions: Sessions) -> Iterator[Row]:
    for session in sessions:
        yield sessions.row(session)


def _below(params: Mapping[str, str]) -> str:
    """ "=" and all topics, or "/" and the topic above. Raises QueryError."""
    under, flat = params.get("under", ""), params.get("flat", "") not in ("", "0", "false")
    if under:
        try:
            check_topic(under)
        except TopicError as error:
            raise QueryError(f"under: {error}") from error
    return ("=" if flat else "/") + under


def _topic_rows(topics: TopicCounts, variant: str) -> Rows:
    return topics.rows(variant[1:], flat=variant[0] == "=")
