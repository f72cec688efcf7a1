"""A node that answers what a test says, frozen: the shapes are those of mesh/management (test_real.py compares)."""
from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from textual.pilot import Pilot

from tui.api.target import Target
from tui.app import Dashboard

WAIT_MAX_S = 20.0
FIRST = b"event: state\ndata: {}\n\n"
NOW_MS = 1_796_014_800_000          # 2026-11-30T05:00:00Z


def link(node: str, state: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{node}:7420", "name": "7420", "direction": "in", "state": state, "node": node,
            "state_since_ms": NOW_MS - 130_000, "rtt_ms": 2.9, "backlog": {"bytes": 0, "seconds": 0.0},
            "sent": {"bytes_s": 4_096}, "received": {"bytes_s": 2_048}, "last_error": None, "remote": "10.0.0.7:4431",
            "tls": True, "connects": 1, "lag_events": 0, "lag_seconds": 0.0, "lag_state": "exact", "trend": None,
            "forecast": None, **more}


def consumer(name: str, lag: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "behind" if lag else "current", "lag_events": lag, "lag_seconds": lag / 10,
            "lag_state": "exact", "trend": "growing" if lag else None,
            "forecast": "never at this rate" if lag else None,
            "members": 1, "in_flight": 0, "redelivered": 0, "dead_lettered": 0, "mode": "shared", "user": "ana",
            "paused": False, "filters": ["plant/#"], **more}


def node_row(name: str, site: str, hops: int | None, links: list[tuple[str, str]]) -> dict[str, Any]:
    return {"name": name, "site": site, "hops": hops, "version": "0.1.0", "skew_ms": 0.4, "age_s": 1.5, "interest": 3,
            "started_ms": NOW_MS - 86_400_000, "next_hop": None, "cost": hops, "epoch": "a308c8b1",
            "links": [{"node": other, "state": state, "rtt_ms": 2.9} for other, state in links]}


def event(number: int, topic: str = "plant/graz/lamp", payload: str | None = '{"on": true}',
          **more: Any) -> dict[str, Any]:
    return {"id": f"events:0:{number}", "topic": topic, "time": f"2026-11-30T04:59:{number % 60:02}.000Z",
            "stream": "events", "partition": 0, "offset": number, "size_bytes": 12, "readable": True, "cut": False,
            "publisher": "ana", "payload": payload, "content_type": "application/json", **more}


ATTENTION = [
    {"severity": "broken", "kind": "link", "subject": "plant-lyon:7420", "since_ms": NOW_MS - 130_000,
     "what": "the link to plant-lyon is blocked: connected, but nothing gets through; 2 m 10 s wait",
     "affects": "events to plant-lyon wait in the log", "do": "look at the receiver and the network between",
     "url": "/links/plant-lyon%3A7420"},
    {"severity": "warning", "kind": "consumer", "subject": "billing", "since_ms": NOW_MS - 600_000,
     "what": "billing is 10 m behind (6,000 events), never at this rate", "affects": "whoever reads as billing",
     "do": "add members, or look why it does not ack", "url": "/consumers/billing"},
]


def tables() -> dict[str, list[dict[str, Any]]]:
    lyon = link("plant-lyon", "blocked", rtt_ms=None, backlog={"bytes": 65_536, "seconds": 130.0},
                last_error="no acknowledgement for 130 s", lag_events=6_200, lag_seconds=130.0, trend="growing",
                forecast="never at this rate")
    return {
        "nodes": [node_row("cloud-eu", "aws-eu", 0, [("plant-graz", "up"), ("plant-lyon", "blocked")]),
                  node_row("plant-graz", "works-graz", 1, [("cloud-eu", "up")]),
                  node_row("plant-lyon", "works-lyon", None, [("cloud-eu", "up")])],
        "links": [link("plant-graz", "up"), lyon],
        "streams": [{"name": "events", "capture": ["#"], "partitions": 1, "events": 143, "size_bytes": 46_782,
                     "retention_ms": 604_800_000, "retention_bytes": None, "compact": False, "durability": "fsync",
                     "failed": None}],
        "consumers": [consumer("billing", 6_000), consumer("archive"), consumer("wall-display", paused=True,
                                                                                 state="paused")],
        "queues": [{**consumer("jobs", 40), "state": "unread", "ready": 40, "unacked": 0, "members": 0,
                    "bound_to": ["orders/#"], "topic": "$queue/jobs", "limits": {}, "expired": 0, "dropped": 0}],
        "exchanges": [{"name": "orders", "type": "topic", "durable": True, "auto_delete": False, "internal": False,
                       "alternate": None, "user": "ana", "bindings": 1, "incoming": 0, "arguments": ""}],
        "bindings": [{"id": "orders/0/jobs", "source": "orders", "destination": "jobs", "to": "queue", "key": "eu.#",
                      "arguments": ""}],
        "groups": [{"group": "sales-etl", "state": "Stable", "user": "ana", "protocol_type": "consumer",
                    "assignor": "range", "generation": 3, "members": 2, "topics": ["sales"], "lag_events": 12,
                    "lag_seconds": 0.4, "lag_state": "exact"}],
        "transactions": [{"transactional_id": "till-7", "state": "ongoing", "user": "ana", "producer_id": 1_000,
                          "epoch": 2, "timeout_s": 60.0, "places": ["sales/0"], "partitions": 1, "age_s": 4.2,
                          "began_ms": NOW_MS - 4_200}],
        "topics": [{"topic": "plant", "level": "plant", "events": 0, "below": 140, "topics": 3, "streams": ["events"]}],
        "deadletters": [{"consumer": "billing", "topic": "dead-letter/billing", "waiting": 2, "given_up": 2,
                         "max_deliveries": 5, "user": "ana", "redrive": None, "state": "waiting"}],
        "clients": [{"client_id": "press-1", "protocol": "mqtt", "user": "ana", "address": "10.0.0.9:5511",
                     "connected": True, "connected_since_ms": NOW_MS - 60_000, "subscriptions": 1, "in_flight": 0,
                     "queued": 0, "protocol_version": "5.0", "session_expiry_s": 0, "write_buffer_bytes": 0}],
        "webhooks": [{"consumer": "orders-hook", "url": "https://erp.example/in", "state": "open", "lag_events": 3,
                      "delivered": 70, "failed": 4, "dead_lettered": 0, "last_problem": "connection refused",
                      "lag_state": "exact", "paused": False}],
        "bridges": [{"name": "erp/orders", "bridge": "erp", "route": "orders", "direction": "in", "from": "orders",
                     "to": "erp/{topic}", "state": "waiting", "paused": False, "lag_events": 12, "moved": 40,
                     "repeats": 0, "looped": 0, "refused": 0, "faults": 3, "last_problem": "no answer in time"}],
        "policies": [{"name": "tills", "source": "file", "state": "in force", "allow": ["publish"], "deny": [],
                      "to": ["role:till"], "topics": ["pos/%u/#"]}],
        "denials": [{"id": 7, "time": "2026-11-30T04:59:00Z", "user": "eve", "client_id": "x", "protocol": "mqtt",
                     "action": "publish", "topic": "orders/1", "rule": "no rule allows it"}],
        "audit": [{"id": 12, "time_ms": NOW_MS - 5_000, "user": "ana", "address": "10.0.0.1", "act": "consumer.pause",
                   "target": "billing", "outcome": "done", "reason": "night"}],
        "drafts": [{"name": "spring", "by": "ana", "time_ms": NOW_MS - 60_000, "reason": "new tills", "shadow": False,
                    "documents": ["policy/tills"], "simulated_ms": None}],
        "revisions": [{"revision": 7, "time_ms": NOW_MS - 60_000, "by": "ana", "reason": "a new one", "source": "",
                       "documents": ["user/bob", "policy/tills"]}],
        "conflicts": [{"name": "policy/tills", "kept_by": "ana", "gave_way_by": "bob", "time_ms": NOW_MS - 60_000}],
        "users": [{"name": "bob", "source": "managed", "state": "in force", "roles": ["till"], "password": True,
                   "version": "2@plant-graz", "by": "ana"}],
        "keys": [{"name": "till-7", "source": "managed", "state": "over", "user": "pos-7", "roles": ["till"],
                  "version": "1@plant-graz", "by": "ana", "until": "2026-01-01T00:00:00Z"}],
        "roles": [{"name": "chief", "source": "managed", "state": "in force", "held_by": ["office"],
                   "version": "1@plant-graz", "by": "ana"}],
        "peers": [{"name": "plant-linz", "source": "file", "state": "in force", "export": ["orders/#"],
                   "import": ["plant/#"], "console": ["view"], "administer": False, "entrust": True}],
        "masks": [{"name": "cards", "source": "file", "state": "in force", "topics": ["orders/#"],
                   "fields": ["card.number"], "headers": [], "key": False, "payload": False,
                   "shown_to": ["role:audit"]}],
        "quotas": [{"name": "tills", "source": "managed", "state": "in force", "users": ["pos-7"], "connections": 4,
                    "queues": 2, "version": "1@plant-graz", "by": "ana"}],
        "logins": [{"id": "0f3a", "user": "ana", "kind": "browser", "address": "10.0.0.1:50112", "roles": ["operator"],
                    "since_ms": NOW_MS - 600_000, "idle_s": 4.0}],
        "listeners": [{"address": "127.0.0.1:1883", "protocol": "mqtt", "tls": False}],
    }


def journey() -> dict[str, Any]:
    reader = {"name": "billing", "user": "ana", "protocol": "mqtt", "outcome": "acked", "why": ""}
    return {
        "id": "events:0:2", "event": event(2),
        "origin": {"node": "plant-graz", "stream": "events", "partition": 0, "offset": 17},
        "legs": [
            {"node": "plant-graz", "site": "works-graz", "state": "answered", "age_s": 0.0, "is_origin": True,
             "stored": {"stream": "events", "partition": 0, "offset": 17, "topic": "plant/graz/lamp"},
             "entry": {"protocol": "mqtt", "user": "press", "client_id": "press-1", "rule": "presses"},
             "destinations": [
                 {"node": "cloud-eu", "outcome": "taken", "why": "", "by_link": "cloud-eu"},
                 {"node": "plant-lyon", "outcome": "behind", "why": "by 3 records; plant-lyon cannot be reached",
                  "by_link": None}],
             "readers": [], "outcomes": {"no match": 2}, "live": {"matching": 1, "denied": []}, "refused": []},
            {"node": "cloud-eu", "site": "aws-eu", "state": "answered", "age_s": 0.0, "is_origin": False,
             "stored": {"stream": "events", "partition": 0, "offset": 2, "topic": "plant/graz/lamp"},
             "destinations": [], "readers": [
                 reader, {**reader, "name": "wall-display", "outcome": "denied", "why": "rule no-displays"},
                 {**reader, "name": "archive", "outcome": "waiting", "why": "for a member with room"}],
             "outcomes": {}, "live": {"matching": 0, "denied": []}, "refused": [
                 {"user": "eve", "client_id": "x", "protocol": "mqtt", "filter": "plant/#", "rule": "no rule allows it",
                  "time": "2026-11-30T04:59:00Z"}]},
            {"node": "plant-lyon", "state": "no answer", "age_s": None},
        ],
    }


def overview() -> dict[str, Any]:
    return {
        "node": "cloud-eu", "site": "aws-eu", "version": "0.1.0", "state": "ready", "healthy": False, "worst": "broken",
        "verdict": "2 things need attention; the worst: the link to plant-lyon is blocked: connected, but nothing gets "
                   "through; 2 m 10 s wait.",
        "attention": ATTENTION,
        "figures": {"events_in_s": 1_284.5, "lag_events": 6_000.0, "denied_s": 0.0, "dropped_s": 0.0,
                    "connections": 42.0, "memory_bytes": 71_131_136.0},
        "sparks": {"events_in_s": [float(n % 9) for n in range(60)], "lag_events": [float(n) for n in range(60)],
                   "denied_s": [0.0] * 60, "dropped_s": [0.0] * 60},
        "totals": {"nodes": 3, "links": 2, "streams": 1, "consumers": 3, "retained": 17, "published": 88_140,
                   "denied": 1},
        "uptime_s": 86_400.0, "time_ms": NOW_MS,
    }


class FakeNode:
    """Change what it answers at any time; beat() sends one frame to all who follow."""

    def __init__(self) -> None:
        self.tables = tables()
        self.overview = overview()
        self.browse: dict[str, Any] = {"events": [event(1), event(2)], "scanned": 2, "remaining": 0, "done": True,
                                       "cursor": None}
        self.journey = journey()
        self.status: dict[str, Any] = {"name": "cloud-eu", "site": "aws-eu", "environment": "production", "listeners": [
            {"protocol": "console", "addresses": ["10.0.0.1:8090"], "tls": True}]}
        self.answered: list[dict[str, Any]] = [{"node": "cloud-eu", "state": "answered", "age_s": 0.0}]
        self.letters: list[dict[str, Any]] = [
            {"id": "dead:0:7", "original": "events:0:3", "time": "2026-11-30T04:58:00.000Z", "topic": "orders/1",
             "reason": "rejected", "deliveries": 5, "size_bytes": 9, "history": [], "readable": True, "cut": False,
             "publisher": "ana", "payload": "bad order"}]
        self.whoami: dict[str, Any] = {"user": "ana", "roles": ["operator"], "may": {"view": True, "operate": True}}
        self.refuse: tuple[int, str] | None = None          # every request gets this
        self.silent = False                                 # the stream beats no more
        self.token = ""                                     # a request needs it; "" none does
        self.held: set[str] = set()                         # paths that are not answered yet
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.acts: list[tuple[str, str, dict[str, Any]]] = []
        self.port = 0
        self._beats: set[asyncio.Queue[bytes]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/api/v1/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        for queue in self._beats:
            queue.put_nowait(b"")
        if self._runner is not None:
            await self._runner.cleanup()

    def beat(self, frame: bytes = b"event: rates\ndata: {}\n\n") -> None:
        for queue in self._beats:
            queue.put_nowait(frame)

    def stored(self, *events: dict[str, Any], skipped: int = 0) -> None:
        """To who tails."""
        if skipped:
            self.beat(b"event: skipped\ndata: %d\n\n" % skipped)
        self.beat(b"event: tail\ndata: %b\n\n" % json.dumps(events).encode())

    @property
    def followers(self) -> int:
        return len(self._beats)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix("/api/v1/").partition("?")[0]
        params = dict(request.query)
        self.seen.append((request.method, path, params))
        while path in self.held:
            await asyncio.sleep(0.01)
        if self.refuse is not None:
            return web.json_response({"detail": self.refuse[1]}, status=self.refuse[0])
        if path == "login":
            body = await request.json()
            if body["password"] != "right":
                return web.json_response({"detail": "user name or password is wrong"}, status=401)
            self.token = "mgs_new"
            return web.json_response({"token": "mgs_new", "user": body["user"]})
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"detail": "the login has ended: log in again"}, status=401)
        if path in ("stream", "tail"):
            return await self._stream(request, b"event: tail\ndata: []\n\n" if path == "tail" else FIRST)
        return self._read(request.method, path, params, await request.text())

    def _read(self, method: str, path: str, params: dict[str, str], body: str) -> web.Response:
        if path == "can-i":
            asked = json.loads(body)
            return web.json_response({**asked, "allowed": asked["user"] == "ana", "rule": "tills", "runner_up": None,
                                      "change": "a rule that allows it"})
        if method != "GET":
            self.acts.append((method, path, json.loads(body)))
            if json.loads(body).get("dry_run"):
                return web.json_response({"dry_run": True, "act": path, "members": 2, "lag_events": 6_000})
            return web.json_response({"audit": 13})
        if path in self.tables:
            return web.json_response(self._page(path, params))
        found = {"overview": self.overview, "status": self.status, "whoami": self.whoami,
                 "browse": self.browse, "journey": self.journey}.get(path)
        if path.startswith("deadletters/"):
            found = {"consumer": "billing", "dead_letters": self.letters, "next": None, "groups": [], "redrive": None}
        if path == "history":
            found = {"series": params["series"], "step_ms": 1_000, "values": [1.0, None, 3.0, 2.0]}
        return web.json_response(found if found is not None else {"detail": f"there is no {path}"},
                                 status=200 if found is not None else 404)

    def _page(self, name: str, params: dict[str, str]) -> dict[str, Any]:
        """Filters and orders as the node does; whole pages only."""
        from mesh.management.paging.table import parse_query, select
        key = {"links": "id", "clients": "client_id", "webhooks": "consumer", "denials": "id", "audit": "id",
               "logins": "id", "revisions": "revision", "bindings": "id", "groups": "group",
               "transactions": "transactional_id",
               "listeners": "address", "topics": "topic", "deadletters": "consumer"}.get(name, "name")
        page = select(self.tables[name], parse_query(params, key), key)
        across = params.get("scope") == "mesh"
        rows = [{**row, "at": "cloud-eu"} for row in page.rows] if across else page.rows
        more = {"nodes": self.answered} if across else {"node": "cloud-eu"}
        return {name: rows, **more, "total": page.total, "matched": page.matched, "next": page.next or None}

    async def _stream(self, request: web.Request, first: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._beats.add(queue)
        try:
            await response.write(first)
            while frame := await queue.get():
                await response.write(frame)
        except ConnectionError:
            pass
        finally:
            self._beats.discard(queue)
        return response


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


class Terminal:
    """A dashboard with a hand on its keys and an eye on its screen."""

    def __init__(self, app: Dashboard, pilot: Pilot[None], clock: Clock) -> None:
        self.app = app
        self.pilot = pilot
        self.clock = clock

    @property
    def header(self) -> list[str]:
        return self.app.query_one("#header").text        # type: ignore[attr-defined, no-any-return]

    @property
    def body(self) -> list[str]:
        assert self.app.view is not None
        return self.app.view.text

    @property
    def text(self) -> str:
        return "\n".join([*self.header, *self.body, *self.app.query_one("#hints").text])     # type: ignore[attr-defined]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        names = {" ": "space", "$": "dollar_sign",
                 "/": "slash", ":": "colon", "=": "equals_sign", "#": "number_sign", "-": "minus",
                 ">": "greater_than_sign", "~": "tilde", "_": "underscore", ".": "full_stop", "!": "exclamation_mark"}
        await self.press(*(names.get(char, char) for char in text))

    async def until(self, *wanted: str, without: str = "\0") -> None:
        """Wait for pieces of the screen."""
        end = asyncio.get_running_loop().time() + WAIT_MAX_S
        while not (all(piece in self.text for piece in wanted) and without not in self.text):
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{wanted} is not on the screen:\n{self.text}")
            await self.pilot.pause(0.02)

    async def until_it(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait for anything."""
        end = asyncio.get_running_loop().time() + WAIT_MAX_S
        while not condition():
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(what or f"in vain; the screen:\n{self.text}")
            await self.pilot.pause(0.02)

    async def until_dialog(self, name: str, *wanted: str) -> None:
        """Wait for a dialog with these texts."""
        await self.until_it(lambda: type(self.app.screen).__name__ == name and self.app.screen.is_mounted
                            and all(piece in self.dialog for piece in wanted), f"no {name} with {wanted}")

    @property
    def dialog(self) -> str:
        return "\n".join(str(widget.render()) for widget in self.app.screen.query("Static"))

    def toasts(self) -> list[str]:
        return [note.message for note in self.app._notifications]


@asynccontextmanager
async def terminal(node: FakeNode, size: tuple[int, int] = (100, 30), target: Target | None = None,
                   **options: Any) -> AsyncIterator[Terminal]:
    clock = Clock()
    app = Dashboard(target or Target(node.url), clock=clock, period_s=0.0, **options)
    async with app.run_test(size=size) as pilot:
        yield Terminal(app, pilot, clock)
