"""The thin wrapper around aiohttp's connection handling: what aiohttp leaves open against hostile clients.

aiohttp's parser (llhttp, strict for requests) refuses CL+TE, two lengths, bare LF and folded fields by itself. Added
here, each with a test that sends raw bytes:

- a deadline for the head (408), a bound on the whole head (431), 414 and 431 instead of 400 where they fit;
- refusals as problem+json in HTTP/1.1, and a lingering close, so that a client that is still sending reads the answer;
- a broken chunk ends the body for the handler that waits for it (aiohttp leaves it waiting);
- HTTP/0.9, transfer codings in HTTP/1.0 and stacked transfer codings are refused (framing.py; RFC 9112 §6.1);
- a bound on connections; no log line or traceback for a client's fault;
- what is read is parsed in slices, and requests are handled when the turn of the loop has room for them, each step of
  a handler measured (reads.py, protocols/scheduling/pace.py).

Non-obvious: this reads private fields of aiohttp's RequestHandler (_messages, _request_count, _waiter, _upgraded,
_payload_parser, and those in answered()); tests/protocols/rest/test_hostile_http.py and test_express.py fail when a new
aiohttp changes them.
"""
from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from protocols.rest.counters import RestCounters
from protocols.rest.http.clients import Clients
from protocols.rest.http.framing import malformed
from protocols.rest.http.reads import Reads
from protocols.rest.problems import Problem, problem_response, raw_problem
from protocols.rest.settings import RestSettings
from protocols.scheduling.pace import Client, Pace
from routing.fairness.turns import Turns

log = logging.getLogger(__name__)


class TakesRequests(Protocol):
    """Answers requests that are many without aiohttp's cycle; see express.py."""

    def take(self, connection: GuardedHandler, message: object, payload: StreamReader) -> bool:
        """True: connection.answered() or connection.resume() follows, now or later. False: nothing was done."""
        ...


class Guards(Protocol):
    """What a connection needs of the server that accepted it; see server.py."""

    limits: RestSettings
    counters: RestCounters
    express: TakesRequests | None
    turns: Turns
    clients: Clients


class GuardedHandler(RequestHandler):
    """One HTTP connection."""

    __slots__ = (
        "_body", "_client", "_clients", "_counted", "_counters", "_discarding", "_express", "_head_bytes",
        "_head_handle", "_limits", "_lost", "_parked", "last_head", "lines_at_once",
        "on_writing", "outcome", "pace", "reads", "session",
    )

    def __init__(self, server: Guards, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(cast(web.Server, server), loop=loop, **options)
        self._limits = server.limits
        self._counters = server.counters
        self._clients = server.clients
        self._client = Client()                         # of nobody yet
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
        self.lines_at_once = 0                          # of a body of lines, what was right last; owned by ndjson.py
        self.pace = Pace(server.turns)
        self.reads = Reads(server.turns, self._parse, self.begin_next)
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
        self._client = self._clients.of(transport.get_extra_info("peername"))
        self._client.connections += 1
        self.reads.payer = self.pace.payer = self._client
        super().connection_made(transport)
        self.reads.transport = self.transport
        self._arm_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._counted:
            self._counted = False
            self._counters.connections -= 1
            self._client.connections -= 1
        self._disarm_head_timer()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        self.on_writing = None
        self.reads.drop_later()
        request = self._current_request
        super().connection_lost(exc)
        self.reads.transport = None
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
        problem = malformed(exc, message or "bad request")
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


def pace_of(request: BaseRequest) -> Pace:
    """For handlers whose work grows: await pace_of(request).rest() between its pieces."""
    return cast(GuardedHandler, request.protocol).pace


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
