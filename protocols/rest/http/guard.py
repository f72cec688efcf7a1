"""The thin wrapper around aiohttp's connection handling: what aiohttp leaves open against hostile clients.

aiohttp's parser (llhttp, strict for requests) refuses CL+TE, two lengths, bare LF and folded fields by itself. Added
here, each with a test that sends raw bytes:

- a deadline for the head (408), a bound on the whole head (431), 414 and 431 instead of 400 where they fit;
- refusals as problem+json in HTTP/1.1, and a lingering close, so that a client that is still sending reads the answer;
- a broken chunk ends the body for the handler that waits for it (aiohttp leaves it waiting);
- HTTP/0.9, transfer codings in HTTP/1.0 and stacked transfer codings are refused (RFC 9112 §6.1);
- a bound on connections; no log line or traceback for a client's fault;
- what is read is parsed in slices, and requests are handled when the turn of the loop has room for them, each step of
  a handler measured (reads.py, protocols/pace.py).

Non-obvious: this reads private fields of aiohttp's RequestHandler (_messages, _request_count, _waiter, _upgraded,
_payload_parser, and those in answered()); tests/protocols/rest/test_hostile_http.py and test_express.py fail when a new
aiohttp changes them.
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, cast

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_writer import HttpVersion10
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _RequestHandler
from aiohttp.web_request import BaseRequest

from protocols.fields import has, tokens_of
from protocols.network import network_of_host
from protocols.pace import Client, Pace
from protocols.rest.counters import RestCounters
from protocols.rest.http.reads import Reads
from protocols.rest.problems import Problem, problem_response, raw_problem
from protocols.rest.settings import RestSettings
from routing.fairness.turns import Turns

log = logging.getLogger(__name__)

WITHOUT_BODY = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
CLIENTS_KEPT = 16_384   # beyond it those without connections are forgotten
CYCLE_S = 0.0002        # what aiohttp does around a handler, which nobody measures


class TakesRequests(Protocol):
    """Answers requests that are many without aiohttp's cycle; see express.py."""

    def take(self, connection: GuardedHandler, message: object, payload: StreamReader) -> bool:
        """True: connection.answered() or connection.resume() follows, now or later. False: nothing was done."""
        ...


class GuardedHandler(RequestHandler):
    """One HTTP connection."""

    __slots__ = (
        "_body", "_clients", "_counted", "_counters", "_discarding", "_express", "_head_bytes", "_head_handle",
        "_limits", "_lost", "_parked", "last_head", "on_writing", "outcome", "pace", "reads", "session",
    )

    def __init__(self, server: GuardedServer, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._limits = server.limits
        self._counters = server.counters
        self._clients = server.clients
        self._body: StreamReader = EMPTY_PAYLOAD        # body of the newest request; at its end the next head begins
        self._head_bytes = 0                            # of a head that has not ended yet
        self._head_handle: asyncio.TimerHandle | None = None
        self._discarding = False                        # refused: what still comes is read and dropped
        self._counted = False
        self._lost: asyncio.Future[None] | None = None
        self._express = server.express
        self._parked: asyncio.Future[None] | None = None    # aiohttp's _waiter, see _begin()
        self.outcome: object | None = None              # of a request that was resumed; owned by express.py
        self.last_head: object | None = None            # of the last publish request; owned by express.py
        self.session: object | None = None              # who authenticated on this connection; owned by auth.py
        self.pace = Pace(server.turns)
        self.reads = Reads(server.turns, self, self._parse)
        self.on_writing: Callable[[bool], None] | None = None   # called with True when the socket is full, then False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._counters.connections >= self._limits.connections_max:
            self._counters.connections_refused += 1
            self._discarding = True
            refused = cast(asyncio.Transport, transport)        # uvloop's class does not derive from it
            refused.write(raw_problem(503, "too-many-connections", "connections_max of the listener is reached"))
            refused.close()
            return
        self._counted = True
        self._counters.connections += 1
        self._counters.connections_opened += 1
        self.reads.client = self.pace.client = client = self._clients.of(transport.get_extra_info("peername"))
        client.connections += 1
        super().connection_made(transport)
        self._arm_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._counters.connections -= 1
            self.pace.client.connections -= 1
        self._disarm_head_timer()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self.on_writing = None
        self.reads.drop_later()
        request = self._current_request
        super().connection_lost(exc)
        buffer = getattr(request.content, "_buffer", None) if request is not None else None
        if buffer:
            buffer.clear()                      # of a body that nobody will read

    def data_received(self, data: bytes) -> None:
        """A read; or nothing, from aiohttp itself, when it goes on with what it has kept."""
        if self._discarding:
            return
        if not data:
            self._parse(data)
        elif self._payload_parser is not None and not self.reads.waits:
            super().data_received(data)                     # a WebSocket, which has slices of its own
        else:
            self.reads.take(data)

    def _parse(self, data: bytes) -> None:
        """One slice."""
        if self._discarding:
            return
        if self._upgraded or self._payload_parser is not None:
            super().data_received(data)
            return
        requests = self._request_count
        in_head = self._body.is_eof()
        idle, self._waiter = self._waiter, None             # so that aiohttp does not begin by itself
        super().data_received(data)
        self._waiter = idle
        if self._request_count != requests:
            self._head_ended()
            if idle is not None and not idle.done():
                self._begin(idle)
        elif in_head and data:
            self._head_goes_on(len(data))

    def _head_ended(self) -> None:
        message, payload = self._messages[-1]
        self._head_bytes = 0
        self._disarm_head_timer()
        if not hasattr(message, "headers"):                 # aiohttp's note of a parser error
            self._counters.malformed += 1
            self._discarding = True
            if not self._body.is_eof():
                self._body.set_exception(web.RequestPayloadError("the body breaks the rules of its transfer coding"))
        self._body = payload

    def _head_goes_on(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes_max:
            self._counters.malformed += 1
            self._refuse(431, "head-too-large", f"a request head has at most {self._limits.head_bytes_max} bytes")
        elif self._head_handle is None:
            self._arm_head_timer()

    def _arm_head_timer(self) -> None:
        self._head_handle = self._loop.call_later(self._limits.head_timeout_s, self._head_timed_out)

    def _disarm_head_timer(self) -> None:
        if self._head_handle is not None:
            self._head_handle.cancel()
            self._head_handle = None

    def _head_timed_out(self) -> None:
        self._head_handle = None
        if self._discarding or self.transport is None:
            return
        if self.reads.waits:                          # it is we who are slow
            self._arm_head_timer()
            return
        self._counters.head_timeouts += 1
        if self._head_bytes == 0:                           # nothing was sent at all: nothing to answer
            self.force_close()
            return
        self._refuse(408, "request-timeout", f"the request head took longer than {self._limits.head_timeout_s:g} s")

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        """Answer below aiohttp's request cycle and end the connection. Behind a request in progress: just end it."""
        self._discarding = True
        if self._waiter is None or self._messages or self.transport is None:
            self.close()
            return
        self._counters.answers[status // 100] += 1
        self._counters.problems[kind] += 1
        self.transport.write(raw_problem(status, kind, detail))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._loop.call_later(self._limits.linger_s, self.force_close)

    # -- requests without aiohttp's cycle ---------------------------------------------------------------------

    def _begin(self, idle: asyncio.Future[None]) -> None:
        """There are requests and none is under way: the first goes the short way when it can, else aiohttp's.

        Meanwhile aiohttp's loop, start(), sleeps on as if the connection were idle; it must not be seen as that, so
        the future that it sleeps on is put aside.
        """
        if self._express is not None and not self._paused:
            self._parked, self._waiter, self._request_in_progress = idle, None, True
            if self._express.take(self, *self._messages[0]):
                return
            self._parked, self._waiter, self._request_in_progress = None, idle, False
        if not idle.done():
            idle.set_result(None)

    def time_s(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def answered(self, answer: bytes) -> None:
        """The request that was taken is done: what start() does at the end of one, then the next."""
        idle, self._parked = self._parked, None
        self._request_in_progress = False
        if self._handler_waiter is not None:                # of shutdown()
            self._handler_waiter.set_result(None)
        transport, parser, server = self.transport, self._parser, self._manager
        if transport is None or parser is None or server is None or idle is None:
            return                                          # the client is gone
        server.requests_count += 1
        self._counters.answers[2] += 1
        self._messages.popleft()
        parser.message_consumed()
        transport.write(answer)
        if self._close or self._force_close:
            self._task_handler = None
            idle.cancel()
            transport.close()
            return
        self._next_keepalive_close_time = close_time = self._loop.time() + self._keepalive_timeout
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()
        self._waiter = idle
        if self._messages:
            self.reads.begin()

    def begin_next(self) -> None:
        """The turn has room for the next request."""
        if self._messages and self._waiter is not None and not self._waiter.done():
            self._begin(self._waiter)

    def resume(self, outcome: object) -> None:
        """Give the request that was taken to start() after all, which finds it where it was."""
        idle, self._parked = self._parked, None
        if idle is not None and not idle.done():
            self.outcome, self._waiter = outcome, idle
            idle.set_result(None)

    # ---------------------------------------------------------------------------------------------------------

    def _pause_transport_reading(self) -> None:
        self.reads.pause_reading()

    def _resume_transport_reading(self) -> None:
        self.reads.resume_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """aiohttp calls it twice per body, paused or not, which costs a POST 2 µs."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.on_writing is not None:
            self.on_writing(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.on_writing is not None:
            self.on_writing(False)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """aiohttp logs a traceback when a body breaks while it is read away after the answer: a client's fault."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None,
    ) -> web.StreamResponse:
        """aiohttp asks for the answer to a malformed request (400) or to an error of ours (500)."""
        if isinstance(exc, ConnectionError) and (self.transport is None or self.transport.is_closing()):
            raise exc                           # the client has gone while it was answered: no fault of ours
        if status >= 500:
            log.error("the handler of %s %s failed", request.method, request.path, exc_info=exc)
            if request.writer.output_size > 0:
                raise ConnectionError("the response was begun already")
            self._counters.answers[5] += 1
            return problem_response(Problem(500, "internal-error", "internal error"), close=True)
        self._counters.answers[4] += 1
        problem = _malformed(exc, message or "bad request")
        self._counters.problems[problem.kind] += 1
        return LingeringResponse(self, problem)

    async def linger(self) -> None:
        """Half-close and read on for a moment: closing with unread input would destroy the answer on its way."""
        self._discarding = True
        if self.transport is None or not self.transport.can_write_eof():
            return
        self.transport.write_eof()
        self._lost = self._loop.create_future()
        handle = self._loop.call_later(self._limits.linger_s, _resolve, self._lost)
        try:
            await self._lost
        finally:
            handle.cancel()


class LingeringResponse(web.Response):
    """The last answer on a connection whose client may still be sending. Always HTTP/1.1, whatever the client said."""

    def __init__(self, connection: GuardedHandler, problem: Problem) -> None:
        super().__init__(status=problem.status)
        self.force_close()
        self._connection = connection
        self._problem = problem

    async def prepare(self, request: BaseRequest) -> None:
        """aiohttp would write a head in the version of the request."""

    async def write_eof(self, data: bytes = b"") -> None:
        transport = self._connection.transport
        if transport is not None:
            transport.write(raw_problem(self._problem.status, self._problem.kind, self._problem.detail))
            await self._connection.linger()


class Clients:
    """Who shares a part of the loop, by address: what all connections of one have had, kept beyond their end."""

    def __init__(self) -> None:
        self._by_network: dict[str, Client] = {}

    def of(self, peername: object) -> Client:
        network = network_of_host(str(peername[0])) if isinstance(peername, tuple) else ""
        client = self._by_network.get(network)
        if client is None:
            if len(self._by_network) >= CLIENTS_KEPT:
                self._by_network = {name: known for name, known in self._by_network.items() if known.connections}
            client = self._by_network[network] = Client()
        return client


class GuardedServer(web.Server):
    """Makes a GuardedHandler for each accepted connection."""

    def __init__(
        self, inner: web.Server, limits: RestSettings, counters: RestCounters, express: TakesRequests | None,
        turns: Turns,
    ) -> None:
        options = {
            **inner._kwargs,
            "keepalive_timeout": limits.idle_timeout_s,
            "lingering_time": limits.linger_s,
            "max_line_size": limits.head_line_bytes_max,
            "max_field_size": limits.head_line_bytes_max,
            "max_headers": limits.head_fields_max,
            "auto_decompress": False,           # content codings are refused by publish.py, so there is no bomb
        }
        super().__init__(
            inner.request_handler, request_factory=inner.request_factory, handler_cancellation=True, **options,
        )
        self.limits = limits
        self.counters = counters
        self.express = express
        self.turns = turns
        self.clients = Clients()

    def __call__(self) -> GuardedHandler:
        return GuardedHandler(self, loop=self._loop, **self._kwargs)


# A function that an application may carry: it answers the requests that are many, past the application's routing and
# middleware (15 µs of 65 for a POST), and gives None for every other request.
Shortcut = Callable[[web.Request], Awaitable[web.StreamResponse] | None]
SHORTCUT: web.AppKey[Shortcut] = web.AppKey("shortcut", Callable)   # type: ignore[arg-type]  # for its name only


EXPRESS: web.AppKey[TakesRequests] = web.AppKey("express", object)     # type: ignore[arg-type]


class GuardedRunner(web.AppRunner):
    """An AppRunner whose connections are guarded; no access log."""

    __slots__ = ("_counters", "_limits", "_turns")

    def __init__(self, app: web.Application, limits: RestSettings, counters: RestCounters, turns: Turns) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=5.0)
        self._limits = limits
        self._counters = counters
        self._turns = turns

    async def _make_server(self) -> web.Server:
        express = self.app.get(EXPRESS)
        server = GuardedServer(await super()._make_server(), self._limits, self._counters, express, self._turns)
        shortcut = self.app.get(SHORTCUT)
        if shortcut is not None:
            server.request_handler = _shortened(shortcut, server.request_handler)
        server.request_handler = _paced(server.request_handler)
        return server


def _shortened(shortcut: Shortcut, handler: _RequestHandler) -> _RequestHandler:
    def handle(request: BaseRequest) -> Awaitable[web.StreamResponse]:
        return shortcut(cast(web.Request, request)) or handler(request)
    return handle


def _paced(handler: _RequestHandler) -> _RequestHandler:
    async def handle(request: BaseRequest) -> web.StreamResponse:
        pace = cast(GuardedHandler, request.protocol).pace
        await pace.admitted()
        pace.charge(CYCLE_S)
        return await pace.run(cast("Coroutine[Any, Any, web.StreamResponse]", handler(request)))
    return handle


def pace_of(request: BaseRequest) -> Pace:
    """For handlers whose work grows: await pace_of(request).rest() between its pieces."""
    return cast(GuardedHandler, request.protocol).pace


class MalformedRequest(Problem):
    """The end of the connection: what follows on it cannot be told apart from this request."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, "malformed-request", detail)


def check_framing(request: web.Request) -> None:
    """Raise MalformedRequest for framing that llhttp lets pass.         Source: RFC 9112 §2.3, §6.1; RFC 9110 §9.3.1"""
    if request.version < HttpVersion10:
        raise MalformedRequest("HTTP/0.9 is not spoken here")
    if request.method in WITHOUT_BODY and not request.content.is_eof():
        raise MalformedRequest(f"{request.method} takes no body here")      # it would lie here while the answer lasts
    if not has(request.headers, hdrs.TRANSFER_ENCODING):
        return
    if request.version == HttpVersion10:
        raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding")
    if tokens_of(request.headers, hdrs.TRANSFER_ENCODING) != ["chunked"]:
        raise MalformedRequest("the only transfer coding is chunked")


def _malformed(exc: BaseException | None, message: str) -> Problem:
    """Status and type for what the parser refused. The texts are llhttp's and aiohttp's; the first line says enough."""
    text = message.split("\n", 1)[0].rstrip(":")
    if isinstance(exc, LineTooLong):
        if isinstance(exc.args[0], bytearray):              # aiohttp keeps the request target in a bytearray
            return Problem(414, "uri-too-long", "the request target is too long")
        return Problem(431, "head-too-large", "a header field is too long")
    if text == "Too many headers received":
        return Problem(431, "head-too-large", "too many header fields")
    return Problem(400, "malformed-request", text[:200])


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
