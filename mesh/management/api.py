"""The handlers of the management API: JSON snapshots, and what may be done to consumers and clients.

Lists are bounded: ?limit= up to LIMIT_MAX and, for consumers and clients, ?after=<last name> for the next
page and ?name=<a literal piece of the name>.
"""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from mesh.link.api import LinkApi
from mesh.management.answers import json_answer
from mesh.management.mesh_api import MeshApi
from mesh.management.snapshots import (
    consumers_snapshot,
    denials_snapshot,
    policies_snapshot,
    streams_snapshot,
)
from protocols.event_json import parse_rfc3339
from protocols.rest.problems import Problem
from routing.consumer import Consumer
from routing.registry import start_position

if TYPE_CHECKING:
    from mesh.node import Node
    from routing.log.partition import Partition

LIMIT_DEFAULT = 1_000
LIMIT_MAX = 10_000
ROWS_PER_TURN = 50      # of a list, about a millisecond; then others have their turn


class SeekBody(msgspec.Struct, forbid_unknown_fields=True):
    """to: "earliest", "latest", an RFC 3339 time, or an offset (of one partition: name it if there are more)."""

    to: int | str
    stream: str | None = None
    partition: int | None = None


class AdminApi:
    """All handlers share the node; there is no state of their own."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def add_routes(self, routes: web.UrlDispatcher) -> None:
        prefix = "/api/v1"
        for name in ("status", "streams", "consumers", "webhooks", "clients", "denials", "ledger", "policies"):
            routes.add_get(f"{prefix}/{name}", getattr(self, name))
        routes.add_post(f"{prefix}/consumers/{{name:.+}}/seek", self.seek)
        routes.add_post(f"{prefix}/consumers/{{name:.+}}/pause", self.pause)
        routes.add_post(f"{prefix}/consumers/{{name:.+}}/resume", self.resume)
        routes.add_delete(f"{prefix}/consumers/{{name:.+}}", self.delete)
        routes.add_post(f"{prefix}/clients/{{name:.+}}/kick", self.kick)
        LinkApi(self._node.links).add_routes(routes, prefix)
        MeshApi(self._node.mesh).add_routes(routes, prefix)

    # -- snapshots --------------------------------------------------------------------------------------------

    async def status(self, request: web.Request) -> web.Response:
        return json_answer(self._node.status())

    async def streams(self, request: web.Request) -> web.Response:
        return json_answer({"streams": streams_snapshot(self._node.router)})

    async def consumers(self, request: web.Request) -> web.Response:
        query = request.query
        rows = []
        for row in consumers_snapshot(
                self._node.router, part=query.get("name", ""), after=query.get("after", ""), limit=_limit(request)):
            rows.append(row)
            if len(rows) % ROWS_PER_TURN == 0:
                await asyncio.sleep(0)
        return json_answer({"consumers": rows, "total": len(self._node.router.consumers)})

    async def webhooks(self, request: web.Request) -> web.Response:
        return json_answer({"webhooks": self._node.webhooks.snapshot()})

    async def clients(self, request: web.Request) -> web.Response:
        rows = self._node.clients()
        after, part = request.query.get("after", ""), request.query.get("name", "")
        wanted = (row for row in rows if str(row["client_id"]) > after and part in str(row["client_id"]))
        page = sorted(wanted, key=lambda row: str(row["client_id"]))
        return json_answer({"clients": page[:_limit(request)], "total": len(rows)})

    async def denials(self, request: web.Request) -> web.Response:
        return json_answer(denials_snapshot(self._node.router, limit=_limit(request)))

    async def ledger(self, request: web.Request) -> web.Response:
        return json_answer({"losses": self._node.router.ledger.snapshot()})

    async def policies(self, request: web.Request) -> web.Response:
        return json_answer({"policies": policies_snapshot(self._node.router)})

    # -- actions ----------------------------------------------------------------------------------------------

    async def seek(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        try:
            body = msgspec.json.decode(await request.read(), type=SeekBody)
        except msgspec.MsgspecError as error:
            raise Problem(400, "body-invalid", str(error)) from error
        positions = _positions(consumer, body)
        consumer.seek(positions)
        placed = [
            {"stream": partition.stream, "partition": partition.index, "position": position}
            for partition, position in positions.items()
        ]
        return json_answer({"consumer": consumer.name, "positions": placed})

    async def pause(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        consumer.pause()
        return json_answer({"consumer": consumer.name, "paused": True})

    async def resume(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        consumer.resume()
        return json_answer({"consumer": consumer.name, "paused": False})

    async def delete(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        self._node.delete_consumer(consumer.name)
        return json_answer({"consumer": consumer.name, "deleted": True})

    async def kick(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not self._node.kick(name):
            raise Problem(404, "not-found", f"no client {name[:200]} is connected")
        return json_answer({"client_id": name, "kicked": True})

    def _consumer(self, request: web.Request) -> Consumer:
        name = request.match_info["name"]
        consumer = self._node.router.consumers.get(name)
        if consumer is None:
            raise Problem(404, "not-found", f"there is no consumer {name[:200]}")
        return consumer



def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIMIT_DEFAULT))
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= LIMIT_MAX:
        raise Problem(400, "query-invalid", f"limit is a number from 1 to {LIMIT_MAX}")
    return int(text)


def _positions(consumer: Consumer, body: SeekBody) -> dict[Partition, int]:
    """Where each partition that the request names is to be read on."""
    chosen = [
        partition for partition in consumer.cursors
        if body.stream in (None, partition.stream) and body.partition in (None, partition.index)
    ]
    if not chosen:
        raise Problem(404, "not-found", f"consumer {consumer.name} does not read such a partition")
    if isinstance(body.to, int):
        if len(chosen) > 1:
            raise Problem(400, "body-invalid", "an offset belongs to one partition: name stream and partition")
        if not 0 <= body.to < 2**63:
            raise Problem(400, "body-invalid", "an offset is not negative")
        start: str | int | dict[str, int] = body.to
    elif body.to in ("earliest", "latest"):
        start = body.to
    else:
        time_ms = parse_rfc3339(body.to)
        if time_ms is None:
            raise Problem(400, "body-invalid", "to is earliest, latest, an offset or an RFC 3339 time with its zone")
        start = {"time_ms": time_ms}
    return {partition: start_position(partition, start) for partition in chosen}
