"""All bridges of a node, from its start or a reload to its end, and what people see of them.

Routes never hold the start of their node up: a cluster that does not answer is a row in the state "waiting".
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mesh.connectors.kafka.cluster import Cluster
from mesh.connectors.kafka.inward import Inward
from mesh.connectors.kafka.outward import Outward
from mesh.connectors.kafka.route import Home
from mesh.connectors.kafka.settings import KafkaBridge
from routing.errors import ConfigError
from routing.router import Router

logger = logging.getLogger(__name__)

Nodes = Callable[[], Iterable[tuple[str, str]]]


class PreparedBridges:
    """What a configuration gives, read and checked before anything is changed."""

    def __init__(self, tables: tuple[KafkaBridge, ...]) -> None:
        """Raises ConfigError."""
        self.clusters: dict[str, Cluster] = {}
        for index, table in enumerate(tables):
            try:
                self.clusters[table.name] = Cluster(table)
            except ConfigError as error:
                raise ConfigError(f"kafka_bridges[{index}].{error}") from error


class Bridges:
    """One per node. Event loop only."""

    def __init__(self, router: Router, node: str, nodes: Nodes, prepared: PreparedBridges) -> None:
        """nodes: name and log epoch of the other nodes that are known."""
        self._home = Home(router, node, nodes)
        self._prepared = prepared
        self._routes: dict[str, list[Inward | Outward]] = {}
        self._changing: asyncio.Task[None] | None = None

    def start(self) -> None:
        for name, cluster in self._prepared.clusters.items():
            if name not in self._routes:
                self._open(name, cluster)

    def apply(self, prepared: PreparedBridges) -> None:
        """Reload. Bridges that are as before do not notice."""
        before, self._prepared = self._prepared.clusters, prepared
        gone = [name for name, cluster in before.items()
                if name not in prepared.clusters or not cluster.is_as(prepared.clusters[name])]
        leaving = [route for name in gone for route in self._routes.pop(name, ())]
        kept = {name: before[name] for name in before if name not in gone}
        self._prepared.clusters.update(kept)
        last = self._changing

        async def change() -> None:
            if last is not None:
                await last
            await asyncio.gather(*(route.stop() for route in leaving))
            if self._prepared is prepared:
                self.start()

        self._changing = asyncio.get_running_loop().create_task(change())

    def _open(self, name: str, cluster: Cluster) -> None:
        table = cluster.settings
        routes: list[Inward | Outward] = [Inward(self._home, name, cluster, route) for route in table.inward]
        routes += [Outward(self._home, name, cluster, route) for route in table.outward]
        self._routes[name] = routes
        for route in routes:
            logger.info("bridge %s: %s → %s", route.name, *route.ends())
            route.start()

    async def shutdown(self) -> None:
        self._prepared = PreparedBridges(())
        if self._changing is not None:
            await self._changing
        await asyncio.gather(*(route.stop() for route in self))
        self._routes.clear()

    # -- for people -------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Inward | Outward]:
        return (route for routes in self._routes.values() for route in routes)

    def find(self, name: str) -> Inward | Outward | None:
        """By "<bridge>/<route>"."""
        return next((route for route in self if route.name == name), None)

    def snapshot(self) -> list[dict[str, Any]]:
        """For the management API, by name."""
        return sorted((route.snapshot() for route in self), key=lambda row: str(row["name"]))
