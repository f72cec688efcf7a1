"""The HTTP listener: routes, problems, life. mesh/node.py makes one RestServer per node.

    server = RestServer(router, authenticator, settings, websocket)
    listening = await server.listen("127.0.0.1", 8080)          # or make_app() for an aiohttp runner of your own
    …
    await server.shutdown()

The WebSocket side lives in protocols/websocket and comes in as an object, because protocols do not import each other.
"""
from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from protocols.authentication.authenticator import Authenticator
from protocols.redrive import Redrives
from protocols.rest import problem_types
from protocols.rest.auth import Doorkeeper
from protocols.rest.consumers.consumers import ConsumersEndpoint
from protocols.rest.consumers.deadletters import DeadLettersEndpoint
from protocols.rest.consumers.pull import Pullers
from protocols.rest.consumers.pulling import PullingEndpoint
from protocols.rest.consumers.queues import QueuesEndpoint
from protocols.rest.contract.asyncapi import AsyncApiEndpoint
from protocols.rest.contract.openapi import OpenApiEndpoint
from protocols.rest.cors import is_preflight
from protocols.rest.counters import RestCounters
from protocols.rest.entry import Entry
from protocols.rest.http.bodies import BodyMemory, check_expectation, waits_for_continue
from protocols.rest.http.express import Post
from protocols.rest.http.framing import MalformedRequest, check_framing
from protocols.rest.http.guard import GuardedHandler, LingeringResponse
from protocols.rest.http.server import EXPRESS, SHORTCUT, GuardedRunner
from protocols.rest.problems import Problem, problem_response
from protocols.rest.publishing.publish import PREFIX, PublishEndpoint
from protocols.rest.publishing.requests import RequestsEndpoint
from protocols.rest.reading.retained import RetainedEndpoint
from protocols.rest.reading.sse import SseEndpoint
from protocols.rest.reading.streams import StreamsEndpoint
from protocols.rest.settings import RestSettings
from protocols.rest.upgrade import JSON_WEBSOCKET_PATH, JsonUpgrade, WebSocketRoute
from protocols.web.fields import FieldRepeated, has, one_of
from routing.direct.replies import Replies
from routing.router import Router

TLS_HANDSHAKE_TIMEOUT_S = 5.0       # hostile.md row 86
WEBSOCKET_PATHS = ("/mqtt", "/")    # Mosquitto and EMQX serve /mqtt, many clients default to /
AMQP_WEBSOCKET_PATHS = ("/amqp",)


class UpgradeEndpoint(Protocol):
    """What protocols/websocket gives us: a handler of upgrade requests."""

    async def handle(self, request: web.Request) -> web.StreamResponse: ...

    async def shutdown(self) -> None: ...


class RestServer:
    """The HTTP listener of one node. Event loop only."""

    def __init__(
        self, router: Router, authenticator: Authenticator, settings: RestSettings,
        websocket: UpgradeEndpoint | None = None, json_websocket: JsonUpgrade | None = None,
        replies: Replies | None = None, version: str = "0", redrives: Redrives | None = None,
        amqp_websocket: UpgradeEndpoint | None = None,
    ) -> None:
        self.counters = RestCounters()
        self._authenticator = authenticator
        self._settings = settings
        self._turns = router.turns
        self._entry = Entry(settings, authenticator)
        self._streams_over = [(paths, endpoint) for paths, endpoint in (
            (WEBSOCKET_PATHS, websocket), (AMQP_WEBSOCKET_PATHS, amqp_websocket)) if endpoint is not None]
        self._json_websocket = json_websocket
        doorkeeper = self._doorkeeper = Doorkeeper(router, authenticator, self._entry.count_user)
        self.memory = memory = BodyMemory(router.shares.bodies, settings.bodies_bytes_max)
        self._publish = PublishEndpoint(router, doorkeeper, authenticator, settings, self.counters, memory)
        self._sse = SseEndpoint(router, doorkeeper, settings, self.counters)
        self.pullers = Pullers(router, settings)
        self._consumers = ConsumersEndpoint(router, doorkeeper, settings, memory, self.pullers)
        self._queues = QueuesEndpoint(self._consumers)
        self._pulling = PullingEndpoint(self._consumers, self.counters)
        self.replies = replies = replies if replies is not None else Replies(router, "local")
        self._requests = RequestsEndpoint(router, doorkeeper, settings, self.counters, memory, replies)
        self._streams = StreamsEndpoint(router, doorkeeper, settings)
        self._retained = RetainedEndpoint(router, doorkeeper, settings)
        self.redrives = redrives if redrives is not None else Redrives(router)
        self._dead_letters = DeadLettersEndpoint(self._consumers, self.redrives)
        self._openapi = OpenApiEndpoint(version)
        self._asyncapi = AsyncApiEndpoint(router, doorkeeper, version)
        self._runner: GuardedRunner | None = None
        self._servers: list[asyncio.Server] = []

    def make_app(self) -> web.Application:
        """Routes and middleware. Under a runner other than ours the guards of guard.py are missing."""
        app = web.Application(middlewares=[self._answer], client_max_size=self._settings.body_bytes_max)
        router = app.router
        router.add_post("/v1/events/{topic:(?s:.*)}", self._publish.post, expect_handler=self._expect)
        router.add_get("/v1/events", self._sse.get, allow_head=False)
        router.add_post("/v1/events", self._publish.post_without_topic, expect_handler=self._expect)
        router.add_get("/v1/streams", self._streams.list, allow_head=False)
        router.add_get("/v1/streams/{name}", self._streams.get, allow_head=False)
        router.add_get("/v1/streams/{name}/events", self._streams.events, allow_head=False)
        router.add_get("/v1/retained/{filter:(?s:.*)}", self._retained.get, allow_head=False)
        router.add_post("/v1/requests/{topic:(?s:.*)}", self._requests.post, expect_handler=self._expect)
        self._add_consumer_routes(router)
        for paths, endpoint in self._streams_over:
            self._entry.websocket_paths |= frozenset(paths)
            for path in paths:
                router.add_get(path, endpoint.handle, allow_head=False)
        if self._json_websocket is not None:
            self._entry.websocket_paths |= {JSON_WEBSOCKET_PATH}
            WebSocketRoute(self._json_websocket, self._doorkeeper, self._authenticator).add_routes(router)
        router.add_get("/v1/openapi.json", self._openapi.get, allow_head=False)
        router.add_get("/v1/asyncapi.json", self._asyncapi.get, allow_head=False)
        router.add_get("/problems/{kind}", problem_types.show, allow_head=False)
        if self._entry.adds_fields:
            app.on_response_prepare.append(self._entry.add_fields)
        else:
            app[EXPRESS] = self._publish.express
        app[SHORTCUT] = self._shortcut
        return app

    def _add_consumer_routes(self, router: web.UrlDispatcher) -> None:
        consumers, pulling, path = self._consumers, self._pulling, "/v1/consumers/{name}"
        router.add_get("/v1/consumers", consumers.list, allow_head=False)
        router.add_get(path, consumers.get, allow_head=False)
        router.add_put(path, consumers.put, expect_handler=self._expect)
        router.add_delete(path, consumers.delete)
        for word in ("pause", "resume", "seek"):
            router.add_post(f"{path}/{word}", getattr(consumers, word), expect_handler=self._expect)
        router.add_get(f"{path}/events", self._queues.browse, allow_head=False)
        router.add_post(f"{path}/purge", self._queues.purge, expect_handler=self._expect)
        router.add_get(f"{path}/dead-letters", self._dead_letters.list, allow_head=False)
        router.add_post(f"{path}/redrive", self._dead_letters.redrive, expect_handler=self._expect)
        router.add_get(f"{path}/redrive", self._dead_letters.progress, allow_head=False)
        router.add_delete(f"{path}/redrive", self._dead_letters.cancel)
        for word in ("pull", "ack", "nack", "reject", "extend"):
            router.add_post(f"{path}/{word}", getattr(pulling, word), expect_handler=self._expect)

    def _shortcut(self, request: web.Request) -> Awaitable[web.StreamResponse] | None:
        """POST of one event, as the route does it; Expect needs aiohttp's own way."""
        connection = request.protocol
        if isinstance(connection, GuardedHandler) and isinstance(connection.outcome, Post):
            post, connection.outcome = connection.outcome, None
            return self._answer(request, lambda _: self._publish.resume(request, post))
        is_post = request.method == "POST" and request.rel_url.raw_path.startswith(PREFIX)
        if is_post and not has(request.headers, hdrs.EXPECT):
            return self._answer(request, self._publish.post)
        return None

    async def listen(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> asyncio.Server:
        """Bind and serve. port 0: any free port, see server.sockets."""
        if self._runner is None:
            self._runner = GuardedRunner(self.make_app(), self._settings, self.counters, self._turns)
            await self._runner.setup()
        assert self._runner.server is not None
        server = await asyncio.get_running_loop().create_server(
            self._runner.server, host, port, ssl=tls, backlog=1024,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S if tls is not None else None)
        self._servers.append(server)
        return server

    async def shutdown(self) -> None:
        """Stop accepting, say goodbye to readers, let requests in progress end, close."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._sse.shutdown()
        self.pullers.shutdown()
        self.redrives.shutdown()
        for upgrade in (*(endpoint for _, endpoint in self._streams_over), self._json_websocket):
            if upgrade is not None:
                await upgrade.shutdown()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn what a handler raises into a problem, and count."""
        try:
            check_framing(request)
            self._entry.admit(request)
            response = await handler(request)
        except MalformedRequest as problem:
            response = self._malformed(request, problem)
        except Problem as problem:
            response = self._refused(problem)
        except FieldRepeated as error:
            response = self._refused(Problem(400, "header-invalid", str(error)))
        except web.HTTPException as error:          # aiohttp's own: 404, 405, 417 and those of a WebSocket handshake
            response = self._of_http(request, error)
            error.__traceback__ = None              # aiohttp keeps the 404 with the request: a ring, for the collector
            if has(request.headers, hdrs.UPGRADE):  # what follows may be frames, which must not be read as a request
                response.force_close()
        if self._entry.adds_fields:
            self._entry.finish(request, response)
        if response.status >= 400 and waits_for_continue(request):
            response.force_close()                  # the body will not be asked for, nor sent
        self.counters.answers[response.status // 100] += 1
        return response

    def _of_http(self, request: web.Request, error: web.HTTPException) -> web.Response:
        if (isinstance(error, web.HTTPMethodNotAllowed) and is_preflight(request)
                and self._entry.cors.allows(one_of(request.headers, hdrs.ORIGIN) or "null")):
            return self._entry.cors.preflight(request, error.allowed_methods)
        return self._refused(_problem_of_http(error, request.path))

    def _malformed(self, request: web.Request, problem: MalformedRequest) -> web.StreamResponse:
        self.counters.malformed += 1
        if not isinstance(request.protocol, GuardedHandler):
            return problem_response(problem, close=True)
        self.counters.problems[problem.kind] += 1
        return LingeringResponse(request.protocol, problem)

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        """Called before the middleware, for requests with Expect. A response ends the request."""
        try:
            await check_expectation(request)
        except Problem as problem:
            response = self._refused(problem)
            response.force_close()
            self.counters.answers[response.status // 100] += 1
            return response
        return None

    def _refused(self, problem: Problem) -> web.Response:
        self.counters.problems[problem.kind] += 1
        closing = problem.headers is not None and problem.headers.get("Connection") == "close"
        return problem_response(problem, close=closing)


_KINDS = {400: "malformed-request", 403: "foreign-origin", 404: "not-found", 405: "method-not-allowed",
          417: "expectation-failed", 426: "upgrade-required", 503: "too-many-connections"}
_PASSED_ON = ("Allow", "Connection", "Sec-WebSocket-Version", "Upgrade")


def _problem_of_http(error: web.HTTPException, path: str) -> Problem:
    kind = _KINDS.get(error.status, "refused")
    if error.status == 404:
        text = "there is nothing at this path"
        if path.startswith("/api/"):
            text += ": console and management API have a listener of their own, 127.0.0.1:8090 by default"
        return Problem(404, kind, text)
    headers = {name: error.headers[name] for name in _PASSED_ON if name in error.headers}
    text = error.text or error.reason
    if isinstance(error, web.HTTPMethodNotAllowed):
        text = f"{error.method[:20]} is not possible here, only {', '.join(sorted(error.allowed_methods))}"
        if error.method == "GET" and path.startswith(PREFIX):
            text += "; events are read at /v1/events?filter="
    return Problem(error.status, kind, text, headers)
