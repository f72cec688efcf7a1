"""The management API: every table, histories, the overview, the live stream, browsing, and what may be done.

Two clients see the node through it, the web console and the terminal dashboard, and whoever writes a script. The tables
are resources.py, their query language table.py, the acts acts.py.
"""
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import hdrs, web

from mesh.management.acts.act import Act, Acts, body_of
from mesh.management.answers import json_answer
from mesh.management.browse import Browser, parse_search
from mesh.management.doors.guard import IDENTITY, Guard, Rights
from mesh.management.figures.attention import overview
from mesh.management.figures.live import Live
from mesh.management.mesh_api import MeshApi
from mesh.management.tables.formats import choose_format, encode_page
from mesh.management.tables.resources import Resource, resources
from mesh.management.tables.steps import in_steps
from mesh.management.tables.table import Page, Query, QueryError, Row, parse_query, select
from protocols.event_json import parse_rfc3339
from protocols.fields import list_of
from protocols.rest.problems import Problem
from routing.consumers.consumer import Consumer
from routing.consumers.registry import start_position
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from mesh.management.acts.audit import Audit
    from mesh.management.figures.sampler import Sampler
    from mesh.node import Node
    from routing.log.partition import Partition

PREFIX: Final = "/api/v1"
FRESH_MAX_S: Final = 1.0            # a snapshot serves all who ask within so long, …
FRESH_PER_COST: Final = 50          # … or within so many times what it cost to take: 2 % of a core at the most
READS: Final = ("status", "overview", "ledger", "history", "browse", "whoami", "clock")
FEW_ROWS: Final = 100               # so many are taken anew for everybody: who has just made something sees it
LINK_ACTS: Final = ("pause", "resume", "drain", "kick")
MANY_ROWS: Final = 500              # more of them are filtered and encoded in a thread


class SeekBody(msgspec.Struct, forbid_unknown_fields=True):
    """to: "earliest", "latest", an RFC 3339 time, or an offset (of one partition: name it if there are more)."""

    to: int | str
    stream: str | None = None
    partition: int | None = None
    dry_run: bool = False
    reason: str = ""


class Taken(msgspec.Struct):
    """A table as it was at a moment."""

    rows: list[Row]
    at_s: float
    fresh_s: float          # for so long nobody takes it again


class Api:
    """One per node. Handlers for aiohttp, and table() for the pages of the console: the same answers."""

    def __init__(self, node: Node, sampler: Sampler, audit: Audit, live: Live) -> None:
        self._node = node
        self._sampler = sampler
        self._audit = audit
        self._live = live
        self.acts = Acts(audit)
        self.browser = Browser(node.router)
        self.resources: dict[str, Resource] = {resource.name: resource for resource in resources(node, sampler)}
        self.resources["audit"] = Resource(
            "audit", "id", "Who did what, newest first.", audit.rows, action=Action.AUDIT, order="-id")
        self._taken: dict[str, Taken] = {}
        self._taking: dict[str, asyncio.Task[Taken]] = {}
        self._pool = ThreadPoolExecutor(1, "management")
        self._guard: Guard | None = None

    def add_routes(self, routes: web.UrlDispatcher, rights: Rights, guard: Guard, base_path: str = "") -> None:
        self._guard = guard
        prefix = base_path + PREFIX

        def add(method: str, path: str, handler: Any, action: Action) -> None:
            resource = routes.add_route(method, prefix + path, handler).resource
            assert resource is not None
            rights.set(method, resource.canonical, action)

        for resource in self.resources.values():
            add(hdrs.METH_GET, f"/{resource.name}", self._table_handler(resource), resource.action)
        for name in READS:
            add(hdrs.METH_GET, f"/{name}", self._read_handler(name), Action.VIEW)
        add(hdrs.METH_GET, "/stream", self.stream, Action.VIEW)
        add(hdrs.METH_POST, "/can-i", self.can_i, Action.VIEW)
        for act in ("seek", "pause", "resume"):
            add(hdrs.METH_POST, f"/consumers/{{name:.+}}/{act}", getattr(self, act), Action.OPERATE)
        add(hdrs.METH_DELETE, "/consumers/{name:.+}", self.delete, Action.OPERATE)
        add(hdrs.METH_POST, "/clients/{name:.+}/kick", self.kick, Action.OPERATE)
        add(hdrs.METH_POST, "/clock/confirm", self.confirm_clock, Action.OPERATE)
        for act in LINK_ACTS:
            add(hdrs.METH_POST, f"/links/{{id}}/{act}", self.act_on_link, Action.OPERATE)
        MeshApi(self._node.mesh).add_routes(
            lambda path, handler: add(hdrs.METH_GET, path, handler, Action.VIEW))

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- tables -----------------------------------------------------------------------------------------------

    async def table(self, name: str, query: Query) -> tuple[Page, float]:
        """A page of a table, and how old it is in seconds. Raises QueryError. For the console; who asks was checked."""
        resource = self.resources[name]
        taken = await self._take(resource)
        page = await self._off_loop(len(taken.rows), select, taken.rows, _ordered(query, resource), resource.key)
        return page, self._node.router.clock_s() - taken.at_s

    def _table_handler(self, resource: Resource) -> Any:
        async def answer(request: web.Request) -> web.Response:
            try:
                query = parse_query(request.query, resource.key)
                kind = choose_format(list_of(request.headers, hdrs.ACCEPT), request.query.get("format", ""))
                page, age_s = await self.table(resource.name, query)
            except QueryError as error:
                raise Problem(400, "query-invalid", str(error)) from error
            extra = {**resource.extra(), "age_s": round(age_s, 3)}
            body = await self._off_loop(len(page.rows), encode_page, resource.name, page, extra, kind)
            headers = {"X-Total-Count": str(page.total)}
            if page.next:
                headers["X-Next"] = page.next.encode("ascii", "backslashreplace").decode()
            return web.Response(body=body, content_type=kind, charset="utf-8" if kind == "text/csv" else None,
                                headers=headers)
        return answer

    async def _off_loop(self, rows: int, work: Any, *arguments: Any) -> Any:
        if rows <= MANY_ROWS:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _take(self, resource: Resource) -> Taken:
        """The rows as they are now, or were a moment ago: taken once, in steps, for all who ask."""
        known = self._taken.get(resource.name)
        if known is not None and self._node.router.clock_s() - known.at_s < known.fresh_s:
            return known
        task = self._taking.get(resource.name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._collect(resource))
            self._taking[resource.name] = task
            task.add_done_callback(lambda _: self._taking.pop(resource.name, None))
        return await asyncio.shield(task)

    async def _collect(self, resource: Resource) -> Taken:
        rows, cost_s = await in_steps(resource.rows())
        fresh_s = min(cost_s * FRESH_PER_COST, FRESH_MAX_S) if len(rows) > FEW_ROWS else 0.0
        taken = Taken(rows, self._node.router.clock_s(), fresh_s)
        self._taken[resource.name] = taken
        return taken

    def forget(self, name: str) -> None:
        """A table that an act has changed is taken anew."""
        self._taken.pop(name, None)

    def tidy(self, now_s: float) -> None:
        """Snapshots that nobody looks at any more go. Called every second or so."""
        for name in [name for name, taken in self._taken.items() if now_s - taken.at_s > 10 * FRESH_MAX_S]:
            del self._taken[name]

    # -- reads ------------------------------------------------------------------------------------------------

    def _read_handler(self, name: str) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return json_answer(await self.read(name, request.query, request[IDENTITY]))
        return answer

    async def read(self, name: str, params: Mapping[str, str], identity: Identity) -> dict[str, Any]:
        """One of READS. Raises Problem. Who asks was checked."""
        if name == "status":
            return self._node.status()
        if name == "overview":
            return overview(self._node, self._sampler)
        if name == "ledger":
            return {"losses": self._node.router.ledger.snapshot()}
        if name == "clock":
            return self._node.clock_status()
        if name == "whoami":
            return self.rights_of(identity)
        if name == "history":
            return self.history(params)
        if name == "can-i":
            roles = [role.strip() for role in params.get("roles", "").split(",") if role.strip()]
            return self.decide({**params, "roles": roles})
        if name == "browse":
            try:
                return await self.browser.page(parse_search(params), params.get("cursor", ""), identity)
            except QueryError as error:
                raise Problem(400, "query-invalid", str(error)) from error
        raise Problem(404, "not-found", f"there is no {name[:100]}")

    def rights_of(self, identity: Identity) -> dict[str, Any]:
        decide = self._node.router.policy.decide
        actions = (Action.VIEW, Action.OPERATE, Action.AUDIT, Action.ADMINISTER, Action.MANAGE)
        decisions = {action.value: decide(identity, action) for action in actions}
        return {
            "user": identity.user, "roles": list(identity.roles), "address": identity.address,
            "may": {name: decision.allowed for name, decision in decisions.items()},
            "because": {name: decision.rule for name, decision in decisions.items()},
        }

    def history(self, params: Mapping[str, str]) -> dict[str, Any]:
        """?kind=consumer&id=billing&series=lag_events&from=&until=   Times: RFC 3339; from: 15 minutes ago."""
        kind, subject = params.get("kind", "node"), params.get("id", self._node.name)
        figure = params.get("series", "")
        figures = self._sampler.histories.figures(kind, subject)
        if not figures:
            raise Problem(404, "not-found", f"there is no history of {kind[:100]} {subject[:200]}")
        if not figure:
            return {"kind": kind, "id": subject, "series": figures}
        series = self._sampler.histories.get(kind, subject, figure)
        if series is None:
            raise Problem(404, "not-found", f"there is no series {figure[:100]}; there are {', '.join(figures)}")
        now_s = self._node.clock_ms() // 1000
        until_s = _time_s(params.get("until", ""), now_s)
        points = series.points(_time_s(params.get("from", ""), until_s - 900), until_s)
        return {"kind": kind, "id": subject, "series": figure, "start_ms": points.start_s * 1000,
                "step_ms": points.step_s * 1000, "values": points.values}

    async def stream(self, request: web.Request) -> web.StreamResponse:
        assert self._guard is not None
        return await self._live.answer(request, self._guard.alive(request))

    async def can_i(self, request: web.Request) -> web.Response:
        """{"user", "roles", "client_id", "action", "topic"}: may they, and which rule says so?"""
        body = await body_of(request)
        return json_answer(self.decide(body))

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            action = Action(body.get("action"))
        except ValueError:
            names = ", ".join(one.value for one in Action)
            raise Problem(400, "body-invalid", f"action is one of {names}") from None
        user, roles = body.get("user", ""), body.get("roles", [])
        client_id, topic = body.get("client_id", ""), body.get("topic", "")
        if not all(isinstance(text, str) for text in (user, client_id, topic)) or not (
                isinstance(roles, list) and all(isinstance(role, str) for role in roles)):
            raise Problem(400, "body-invalid", "user, client_id and topic are texts, roles a list of texts")
        identity = Identity(user or "anonymous", tuple(roles), client_id=client_id)
        answer = self._node.router.policy.can_i(identity, action, topic)
        return {"user": identity.user, "roles": roles, "action": action.value, "topic": topic,
                "allowed": answer.decision.allowed, "rule": answer.decision.rule, "runner_up": answer.runner_up,
                "change": answer.change.text if answer.change is not None else None}

    # -- acts -------------------------------------------------------------------------------------------------

    async def seek(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        try:
            body = msgspec.json.decode(await request.read(), type=SeekBody)
        except msgspec.MsgspecError as error:
            raise Problem(400, "body-invalid", str(error)) from error
        positions = _positions(consumer, body)
        placed = [
            {"stream": partition.stream, "partition": partition.index, "position": position,
             "from": _floor(consumer, partition), "moves": position - _floor(consumer, partition)}
            for partition, position in positions.items()
        ]

        def perform() -> dict[str, Any]:
            consumer.seek(positions)
            self.forget("consumers")
            return {"consumer": consumer.name, "positions": placed}
        before = {f"{one['stream']}/{one['partition']}": one["from"] for one in placed}
        after = {f"{one['stream']}/{one['partition']}": one["position"] for one in placed}
        act = Act("consumer.seek", consumer.name, {"positions": placed}, perform, before, after)
        return await self.acts.run(request, request[IDENTITY], act, {"dry_run": body.dry_run, "reason": body.reason})

    async def pause(self, request: web.Request) -> web.Response:
        return await self._pause(request, True)

    async def resume(self, request: web.Request) -> web.Response:
        return await self._pause(request, False)

    async def _pause(self, request: web.Request, paused: bool) -> web.Response:
        consumer = self._consumer(request)
        body = await body_of(request)

        def perform() -> dict[str, Any]:
            (consumer.pause if paused else consumer.resume)()
            self.forget("consumers")
            return {"consumer": consumer.name, "paused": paused}
        preview = _preview(consumer)
        name = "consumer.pause" if paused else "consumer.resume"
        act = Act(name, consumer.name, preview, perform, {"paused": consumer.paused}, {"paused": paused})
        return await self.acts.run(request, request[IDENTITY], act, body)

    async def delete(self, request: web.Request) -> web.Response:
        consumer = self._consumer(request)
        body = await body_of(request)

        def perform() -> dict[str, Any]:
            self._node.delete_consumer(consumer.name)
            self.forget("consumers")
            return {"consumer": consumer.name, "deleted": True}
        preview = _preview(consumer)
        act = Act("consumer.delete", consumer.name, preview, perform, preview)
        return await self.acts.run(request, request[IDENTITY], act, body)

    async def kick(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        body = await body_of(request)

        def perform() -> dict[str, Any]:
            if not self._node.kick(name):
                raise Problem(404, "not-found", f"no client {name[:200]} is connected")
            self.forget("clients")
            return {"client_id": name, "kicked": True}
        if all(row["client_id"] != name for row in self._node.clients()):
            raise Problem(404, "not-found", f"no client {name[:200]} is connected")
        return await self.acts.run(request, request[IDENTITY], Act("client.kick", name, {"clients": 1}, perform), body)

    async def confirm_clock(self, request: web.Request) -> web.Response:
        """The wall clock is right after all: take its time."""
        body = await body_of(request)

        def perform() -> dict[str, Any]:
            return {"confirmed": self._node.confirm_clock(), **self._node.clock_status()}
        preview = {"wall_ahead_s": self._node.clock_status()["wall_ahead_s"]}
        act = Act("clock.confirm", self._node.name, preview, perform)
        return await self.acts.run(request, request[IDENTITY], act, body)

    async def act_on_link(self, request: web.Request) -> web.Response:
        identifier, action = request.match_info["id"], request.path.rpartition("/")[2]
        body = await body_of(request)
        link = self._node.links.links.get(identifier)
        if link is None:
            raise Problem(404, "not-found", f"there is no link {identifier[:200]}")
        row = link.snapshot(self._node.router.clock_s())

        def perform() -> dict[str, Any]:
            if not getattr(self._node.links, action)(identifier):
                raise Problem(404, "not-found", f"there is no link {identifier[:200]} that is connected")
            self.forget("links")
            return {"link": identifier, action: True}
        preview = {"node": row["node"], "state": row["state"], "backlog": row["backlog"]}
        act = Act(f"link.{action}", identifier, preview, perform, {"state": row["state"]})
        return await self.acts.run(request, request[IDENTITY], act, body)

    def _consumer(self, request: web.Request) -> Consumer:
        name = request.match_info["name"]
        consumer = self._node.router.consumers.get(name)
        if consumer is None:
            raise Problem(404, "not-found", f"there is no consumer {name[:200]}")
        return consumer


def _preview(consumer: Consumer) -> dict[str, Any]:
    """What an act on it touches, in numbers."""
    return {"members": len(consumer.members), "in_flight": consumer.in_flight, "lag_events": consumer.lag().events}


def _floor(consumer: Consumer, partition: Partition) -> int:
    """The offset of the first event that it has not done with."""
    cursor = consumer.cursors[partition]
    first = cursor.first_unacked()
    return min(first.offset, cursor.position) if first is not None else cursor.position


def _ordered(query: Query, resource: Resource) -> Query:
    if query.sort or not resource.order:
        return query
    column = resource.order.removeprefix("-")
    return msgspec.structs.replace(query, sort=((column, resource.order.startswith("-")),))


def _time_s(text: str, default_s: int) -> int:
    if not text:
        return default_s
    found = parse_rfc3339(text)
    if found is None:
        raise Problem(400, "query-invalid", "a time is RFC 3339 with its zone, such as 2026-01-31T12:00:00Z")
    return max(found // 1000, 0)


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
