"""POST /v1/events, application/x-ndjson: an event per line in, an answer per line out, in order, while both stream.

    body ──► Lines ──► a group of whole lines ──► one publish ──► queue of groups ──► its ticket ──► answers

A group is what was there to read, so large bodies make large groups, and a client that waits for each answer gets it;
but no more lines than about a slice of the loop's turn has time for, whatever they cost (scheduling/pace.py). At most
GROUPS_MAX groups wait for the disk. Answers do not wait for the client to read them until ndjson_answers_bytes_max of
them lie here, or the client's share of memory is used, since most clients read only when they have sent everything.
"""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import msgspec
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from protocols.formats.location import event_id
from protocols.rest.auth import Session
from protocols.rest.counters import RestCounters
from protocols.rest.http.bodies import Account, BodyMemory, plain_parts, too_slow
from protocols.rest.http.framing import MalformedRequest
from protocols.rest.http.guard import GuardedHandler, pace_of
from protocols.rest.http.waiting import Waiting
from protocols.rest.json_body import FIELDS
from protocols.rest.problems import Problem, problem_body, problem_of
from protocols.rest.publishing.items import Items
from protocols.rest.settings import RestSettings
from protocols.scheduling.pace import Pace
from routing.event import Event
from routing.fairness.turns import Turns
from routing.router import Router
from routing.ticket import Ticket

MEDIA_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
GROUPS_MAX = 8
GROUP_LINES_START = 100
GROUP_LINES_MIN, GROUP_LINES_MAX = 16, 8_192
UNREAD_BYTES_FREE = 128 * 1024  # of answers in the socket: two writes of aiohttp
LINE_BYTES = 300                # of memory for a line beside its text, until it is answered
_NOWHERE = b'{"stream":null,"partition":null,"offset":null,"id":null}\n'


class _Group:
    """Lines that were published together: what became of each, and the bytes that they hold."""

    __slots__ = ("found", "plain", "size", "ticket")

    def __init__(self, found: list[Event | Problem], ticket: Ticket, size: int, *, plain: bool) -> None:
        """plain: all of them are events, see Router.publish."""
        self.found = found
        self.ticket = ticket
        self.size = size
        self.plain = plain


class NdjsonEndpoint:
    """The handler."""

    def __init__(self, router: Router, settings: RestSettings, counters: RestCounters, memory: BodyMemory) -> None:
        self._router = router
        self._settings = settings
        self._counters = counters
        self._memory = memory
        self._waiting = Waiting(settings.publish_timeout_s)

    async def post(self, request: web.Request, session: Session) -> web.StreamResponse:
        """One answer per line. What ends the body early is the last line, a problem; before any line it is the answer.

        Raises Problem (400, 408, 413, 415, 503).
        """
        with self._memory.account(session) as account:
            answers = _Answers(
                request, self._settings, self._waiting, self._counters, account,
                Pace(self._router.turns, pace_of(request).payer))
            writing = asyncio.create_task(answers.start())
            try:
                await self._publish_all(request, session, answers, account)
            except Problem as problem:
                if isinstance(problem, MalformedRequest):
                    problem = Problem(problem.status, problem.kind, problem.detail)
                if not answers.any:
                    writing.cancel()
                    raise problem from None
                self._counters.problems[problem.kind] += 1
                answers.close = True
                await answers.queue.put(problem)
            except BaseException as error:
                if answers.dead and not writing.cancelled() and (fault := writing.exception()) is not None:
                    raise fault from error
                writing.cancel()
                raise
            await answers.queue.put(None)
            return await writing

    async def _publish_all(
        self, request: web.Request, session: Session, answers: _Answers, account: Account,
    ) -> None:
        items = Items(session.identity.user)
        count = 0
        size = _GroupSize(self._settings.ndjson_group_bytes, self._router.turns, request.protocol)
        async for lines in self._groups(request, account, size):
            if self._router.pressure:
                await self._relief()
            await pace_of(request).rest()
            size.begin()
            found, plain = items.read(lines, self._router.clock_ms())
            count += len(found)
            if count > self._settings.ndjson_events_max:
                raise Problem(413, "payload-too-large",
                              f"a request has at most {self._settings.ndjson_events_max} events")
            events = cast(list[Event], found) if plain else [event for event in found if isinstance(event, Event)]
            plain = plain and len(lines) <= self._router.limits.payload_bytes_max
            self._counters.events_in += len(events)
            self._counters.payload_bytes_in += len(lines)
            ticket = self._router.publish(events, session.publisher, plain=plain)
            size.end(len(found), len(lines))
            held = len(lines) + LINE_BYTES * len(found)
            account.hold(LINE_BYTES * len(found))
            answers.any = True
            if answers.dead:
                raise ConnectionResetError("the answers cannot be written")
            await answers.queue.put(_Group(found, ticket, held, plain=plain))
            account.release(answers.released)
            answers.released = 0

    async def _groups(self, request: web.Request, account: Account, size: _GroupSize) -> AsyncIterator[bytes]:
        """Whole lines, as many as there are to read, in pieces of about that size."""
        line_max = self._settings.ndjson_line_bytes_max
        rest: list[bytes] = []                  # pieces of a line that has not ended
        rest_size = 0
        parts = plain_parts(request, account, self._settings)
        while True:
            try:
                async with asyncio.timeout(self._settings.body_timeout_s):
                    part = await anext(parts, None)
            except TimeoutError:
                raise too_slow() from None
            if part is None:
                break
            account.hold(len(part))
            start = 0
            while (end := part.rfind(b"\n", start, start + size.bytes(part, start))) >= 0 or (
                    end := part.find(b"\n", start)) >= 0:
                group = b"".join((*rest, part[start:end + 1]))
                rest, rest_size, start = [], 0, end + 1
                yield group
            if start < len(part):
                rest.append(part[start:])
                rest_size += len(part) - start
                if rest_size > line_max:
                    raise Problem(413, "payload-too-large", f"a line has at most {line_max} bytes")
        if rest_size:
            yield b"".join(rest)

    async def _relief(self) -> None:
        relieved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._router.on_relief(lambda: None if relieved.done() else relieved.set_result(None))
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s):
                await relieved
        except TimeoutError:
            raise Problem(503, "overloaded", "the disk does not keep up; this and what follows is not taken") from None


class _GroupSize:
    """How many lines go together: what about a slice has time for, by what the last ones took."""

    def __init__(self, bytes_max: int, turns: Turns, connection: object) -> None:
        """connection: remembers for the next request what was right for this one."""
        self._bytes_max = bytes_max
        self._turns = turns
        self._connection = connection if isinstance(connection, GuardedHandler) else None
        self._lines = (self._connection.lines_at_once if self._connection else 0) or GROUP_LINES_START
        self._line_bytes = 0            # mean of the last group; 0: not known
        self._since_s = self._since_cpu_s = 0.0

    def bytes(self, part: bytes, start: int) -> int:
        """How far to look for the end of the last line. What it counts is about what is taken then."""
        size = min(len(part) - start, self._bytes_max)
        if self._line_bytes:
            size = min(size, self._lines * self._line_bytes)
        lines = part.count(b"\n", start, start + size)
        return size if lines <= self._lines else max(size * self._lines // lines, 1)

    def begin(self) -> None:
        self._since_cpu_s = self._turns.ask_cpu_s()
        self._since_s = self._turns.clock_s()

    def end(self, lines: int, size: int) -> None:
        """A group of so many lines and bytes is with the router."""
        self._line_bytes = size // max(lines, 1) + 1
        seconds, aim_s = self._turns.used_s(self._since_s, self._since_cpu_s), self._turns.aim_s()
        if seconds > aim_s:
            self._lines = max(min(self._lines, int(lines * aim_s / seconds)), GROUP_LINES_MIN)
        elif seconds < aim_s / 2 and lines >= self._lines // 2:
            self._lines = min(2 * self._lines, GROUP_LINES_MAX)
        if self._connection is not None:
            self._connection.lines_at_once = self._lines


class _Answers:
    """Writes the answers of the groups, in order, as their tickets complete."""

    def __init__(
        self, request: web.Request, settings: RestSettings, waiting: Waiting, counters: RestCounters,
        account: Account, pace: Pace,
    ) -> None:
        self.queue: asyncio.Queue[_Group | Problem | None] = asyncio.Queue(GROUPS_MAX)
        self.any = False
        self.close = False
        self.dead = False
        self.released = 0                       # bytes of answered lines
        self._request = request
        self._settings = settings
        self._waiting = waiting
        self._counters = counters
        self._account = account
        self._pace = pace
        self._held_bytes = 0                    # of answers that nobody has read, in the account
        self._templates: dict[object, bytes] = {}

    async def start(self) -> web.StreamResponse:
        return await self._pace.run(self.run())

    async def run(self) -> web.StreamResponse:
        try:
            return await self._run()
        except BaseException:
            self.dead = True                            # the task ends with it, before anybody else runs
            while not self.queue.empty():               # whoever waits for room goes on, and finds out
                self.queue.get_nowait()
            raise

    async def _run(self) -> web.StreamResponse:
        response = web.StreamResponse(headers={**FIELDS, hdrs.CONTENT_TYPE: "application/x-ndjson"})
        if self._request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        else:
            response.force_close()
        while (group := await self.queue.get()) is not None:
            if isinstance(group, Problem):
                lines = problem_body(group.status, group.kind, group.detail) + b"\n"
            else:
                lines = await self._lines(group)
            if not response.prepared:
                if self.close:
                    response.force_close()
                await response.prepare(self._request)
            await self._write(lines)
            await self._pace.rest()
        if self._held_bytes:
            await self._drain()
        if not response.prepared:
            await response.prepare(self._request)
        if self.close:
            response.force_close()
            self._request.protocol.close()      # the body was not read to its end
        await response.write_eof()
        return response

    async def _lines(self, group: _Group) -> bytes:
        ticket = group.ticket
        if not ticket.done and not await self._waiting.durable(ticket):
            late = problem_body(503, "outcome-unknown", "the disk did not answer in time; the event may be stored. "
                                "Send it again with the same idempotency_key") + b"\n"
            return late * len(group.found)
        self.released += group.size
        if group.plain and group.found and not ticket.refusals:
            stored = _neighbours(group.found)
            if stored is not None:
                return stored
        refused = {id(ticket.events[index]): refusal for index, refusal in ticket.refusals.items()}
        lines: list[bytes] = []
        append = lines.append
        templates = self._templates
        for found in group.found:
            if isinstance(found, Event) and (not refused or id(found) not in refused):
                partition = found.partition
                if partition is None or not found.qos:
                    append(_NOWHERE)
                    continue
                template = templates.get(partition) or self._template(partition)
                append(template % (found.offset, found.offset))
            else:
                problem = found if isinstance(found, Problem) else problem_of(refused[id(found)])
                self._counters.problems[problem.kind] += 1
                append(problem_body(problem.status, problem.kind, problem.detail) + b"\n")
        self._counters.events_in -= len(refused)
        return b"".join(lines)

    def _template(self, partition: object) -> bytes:
        before, between = (text.replace("%", "%%") for text in _around_offsets(partition))
        template = self._templates[partition] = f'{before}%d{between}%d"}}\n'.encode()
        return template

    async def _write(self, lines: bytes) -> None:
        """Into the socket, and behind it into memory, up to the limit; then wait for the client to read."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        await self._request.writer.write(lines, drain=False)          # type: ignore[call-arg]  # aiohttp's own writer has it
        unread = transport.get_write_buffer_size()
        if unread <= UNREAD_BYTES_FREE:
            unread = 0
        more = unread - self._held_bytes
        if more < 0:
            self._account.release(-more)
        elif more > 0 and (unread > self._settings.ndjson_answers_bytes_max or not self._account.try_hold(more)):
            await self._drain()
            return
        self._held_bytes = unread

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                await self._request.writer.drain()
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client does not read its answers") from None
        self._account.release(self._held_bytes)
        self._held_bytes = 0


def _neighbours(found: list[Event | Problem]) -> bytes | None:
    """All answers at once, where the events stand one behind the other in one partition, as most groups do. What is
    published together to a partition does; so if one went elsewhere, the last has not come that far.
    """
    first, last = found[0], found[-1]
    assert isinstance(first, Event) and isinstance(last, Event)
    partition = first.partition
    if partition is None or last.partition is not partition or last.offset - first.offset != len(found) - 1:
        return None
    before, between = _around_offsets(partition)
    return "".join([f'{before}{offset}{between}{offset}"}}\n'
                    for offset in range(first.offset, last.offset + 1)]).encode()


def _around_offsets(partition: object) -> tuple[str, str]:
    """An answer up to the offset, and from there up to where it stands again."""
    stream, index = partition.stream, partition.index   # type: ignore[attr-defined]
    name = msgspec.json.encode(stream).decode()
    place = msgspec.json.encode(event_id(stream, index, 0)).decode()[:-2]
    return f'{{"stream":{name},"partition":{index},"offset":', f',"id":{place}'
