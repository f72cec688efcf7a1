"""Request bodies: read in pieces, expanded (gzip, zstd) within bounds, in shares of one budget of memory.

A compressed body is measured after expansion, piece by piece, so that a bomb costs no more than what is allowed to
come out plus one piece. Sources: RFC 1952 (gzip), RFC 8878 and RFC 9659 (zstd; its window is bounded to 8 MiB there).
"""
from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import zstandard
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from protocols.rest.http.framing import MalformedRequest
from protocols.rest.http.guard import pace_of
from protocols.rest.problems import Problem
from protocols.rest.settings import RestSettings
from protocols.web.fields import has, tokens_of
from routing.fairness.shares import Share

if TYPE_CHECKING:
    from protocols.rest.auth import Session

PIECE_BYTES = 256 * 1024        # of plain text, at most, from one step of gzip
GZIP_STEP_BYTES = 4 * 1024      # of compressed text: what follows a member is copied for each member
GZIP_WINDOW_BYTES = 64 * 1024   # zlib: 32 KiB and what it needs around it
PART_BYTES = 64                 # of each piece of a body that lies here
IDLE_BYTES = 128 * 1024         # a body that holds less may take its time
ZSTD_STEP_BYTES = 64            # of compressed text; a block of 128 KiB may stand in 4 bytes, so 2 MiB come out at most
ZSTD_HEAD_BYTES_MAX = 18        # RFC 8878 §3.1.1
ZSTD_WINDOW_BYTES_MIN = 256 * 1024      # its decompressor takes about as much, whatever the window
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024     # RFC 9659 §3: what a receiver must be able to hold, and no more
CODINGS = "gzip, zstd"


class BodyMemory:
    """What the bodies that are being read may take, together and of one owner. Loop thread only."""

    def __init__(self, share: Share, limit_bytes: int) -> None:
        self._share = share
        self._limit_bytes = limit_bytes

    @property
    def used_bytes(self) -> int:
        return self._share.total

    @contextmanager
    def account(self, session: Session) -> Iterator[Account]:
        """Everything that was taken through the account is given back at its end."""
        account = Account(self, session.owner)
        try:
            yield account
        finally:
            account.release(account.held_bytes)

    def take(self, owner: str, size: int) -> bool:
        return self._share.take(owner, self._limit_bytes, size) is None

    def give(self, owner: str, size: int) -> None:
        self._share.give(owner, size)

    def has_room(self, size: int) -> bool:
        """For all together: what is refused is one owner's own fault."""
        return self._share.total + size <= self._limit_bytes


class Account:
    """One request's part of it."""

    __slots__ = ("_memory", "_owner", "held_bytes")

    def __init__(self, memory: BodyMemory, owner: str) -> None:
        self._memory = memory
        self._owner = owner
        self.held_bytes = 0

    def try_hold(self, size: int) -> bool:
        """False: there is no room, and nothing was taken."""
        if not self._memory.take(self._owner, size):
            return False
        self.held_bytes += size
        return True

    def hold(self, size: int) -> None:
        """Raises Problem (429, 503): the client, or the listener, has no memory left for it."""
        if self.try_hold(size):
            return
        if self._memory.has_room(size):
            raise Problem(429, "quota-exceeded", "your request bodies that are on their way have no room for this one; "
                          "nothing of it was taken", {"Connection": "close"})
        raise Problem(503, "overloaded", "too many request bodies are on their way; nothing of this one was taken",
                      {"Connection": "close"})

    def release(self, size: int) -> None:
        if size:
            self._memory.give(self._owner, size)
            self.held_bytes -= size


# -- content codings ------------------------------------------------------------------------------------------------

class Expander(Protocol):
    """Compressed pieces in, plain pieces out."""

    def feed(self, data: bytes, hold: Callable[[int], None]) -> Iterator[bytes]:
        """A piece for each step of work, also when nothing came out of it: members and frames may be empty, and many.

        hold: called with the memory that it needs from now on, before it is taken.
        """

    def finish(self) -> None:
        """The body has ended. Raises ValueError when the compressed text has not."""


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, data: bytes, hold: Callable[[int], None]) -> Iterator[bytes]:
        if not self._begun and data:
            hold(GZIP_WINDOW_BYTES)
        for start in range(0, len(data), GZIP_STEP_BYTES):
            rest = data[start:start + GZIP_STEP_BYTES]
            while rest:
                if self._member.eof:                    # RFC 1952 §2.2: members may follow each other
                    self._member = zlib.decompressobj(wbits=31)
                self._begun = True
                try:
                    piece = self._member.decompress(rest, PIECE_BYTES)
                except zlib.error as error:
                    raise ValueError(str(error)) from None
                rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
                yield piece

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise ValueError("the gzip text ends too early")


class _Zstd:
    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._begun = False
        self._head = b""                # of a frame whose window is not known yet
        self._in_head = True
        self._held_bytes = 0

    def feed(self, data: bytes, hold: Callable[[int], None]) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_STEP_BYTES):
            rest = data[start:start + ZSTD_STEP_BYTES]
            while rest:
                self._begun = True
                if self._in_head:
                    rest = self._head = self._head + rest
                    window_bytes = _window_bytes(rest)
                    if window_bytes is None:
                        break
                    hold(max(window_bytes - self._held_bytes, 0))
                    self._held_bytes = max(window_bytes, self._held_bytes)
                    self._head, self._in_head = b"", False
                    self._frame = self._decompressor.decompressobj()
                try:
                    piece = self._frame.decompress(rest)
                except zstandard.ZstdError as error:
                    raise ValueError(str(error)) from None
                self._in_head = self._frame.eof         # RFC 8878 §3: frames may follow each other
                rest = self._frame.unused_data if self._in_head else b""
                yield piece

    def finish(self) -> None:
        if self._begun and (self._head or not self._in_head):
            raise ValueError("the zstd text ends too early")


def _window_bytes(head: bytes) -> int | None:
    """What it takes to expand the frame that begins so; None: more of it is needed.      Source: RFC 8878 §3.1.1"""
    try:
        window_bytes: int = zstandard.get_frame_parameters(head).window_size
    except zstandard.ZstdError:
        return ZSTD_WINDOW_BYTES if len(head) >= ZSTD_HEAD_BYTES_MAX else None     # the decompressor says why
    return min(max(window_bytes, ZSTD_WINDOW_BYTES_MIN), ZSTD_WINDOW_BYTES)


def expander_of(request: web.Request) -> Expander | None:
    """None: the body is plain. Raises Problem (415)."""
    codings = [name for name in tokens_of(request.headers, hdrs.CONTENT_ENCODING) if name != "identity"]
    if not codings:
        return None
    if codings in (["gzip"], ["x-gzip"]):               # RFC 9110 §8.4.1.3
        return _Gzip()
    if codings == ["zstd"]:
        return _Zstd()
    raise Problem(415, "encoding-unsupported", f"send the body plain, or in one of {CODINGS}",
                  {"Accept-Encoding": CODINGS})         # RFC 9110 §12.5.3


# -- Expect: 100-continue ---------------------------------------------------------------------------------------------

async def check_expectation(request: web.Request) -> None:
    """aiohttp asks before the handler. A 100 is not sent yet: that the body is wanted is known when it is read, after
    all that the head alone is refused for. Raises Problem (417).                        Source: RFC 9110 §10.1.1
    """
    if request.version >= HttpVersion11 and set(tokens_of(request.headers, hdrs.EXPECT)) - {"100-continue"}:
        raise Problem(417, "expectation-failed", "the only expectation is 100-continue", {"Connection": "close"})


def waits_for_continue(request: web.Request) -> bool:
    """True: the client has sent the head only, and the body when it is told to."""
    return (has(request.headers, hdrs.EXPECT) and request.version >= HttpVersion11 and not request.content.is_eof()
            and not request.content.total_bytes)


async def _invite(request: web.Request) -> None:
    if waits_for_continue(request):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


# -- reading --------------------------------------------------------------------------------------------------------

async def read_body(request: web.Request, session: Session, settings: RestSettings, memory: BodyMemory) -> bytes:
    """The whole body, expanded, at most body_bytes_max. Raises Problem (400, 408, 413, 415, 429, 503).

    Call it when all that the head alone is refused for has been asked.
    """
    limit = settings.body_bytes_max
    length = request.content_length
    if length is not None and length > limit:
        raise too_large(limit)
    content = request.content
    if content.is_eof() and not has(request.headers, hdrs.CONTENT_ENCODING):   # it came with the head, as small ones do
        body = content.read_nowait(-1)
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts: list[bytes] = []
    part = b""
    size = 0
    with memory.account(session) as account:
        try:
            async with asyncio.timeout(settings.body_timeout_s):
                async for part in plain_parts(request, account, settings):
                    size += len(part)
                    if size > limit:
                        raise too_large(limit)
                    account.hold(len(part) + PART_BYTES)
                    parts.append(part)
            return b"".join(parts)
        except TimeoutError:
            raise too_slow() from None
        finally:
            parts.clear()       # the error of a lost connection keeps this frame until a collection
            part = b""


async def plain_parts(request: web.Request, account: Account, settings: RestSettings) -> AsyncIterator[bytes]:
    """The body in pieces, expanded, none of them empty. The caller bounds time and sum.

    What takes memory must come on: see Arrivals. Raises Problem (400, 408, 415, 429, 503).
    """
    expander = expander_of(request)
    await _invite(request)
    pace = pace_of(request)
    arrivals = Arrivals(request, account, settings)
    try:
        while part := await arrivals.part():
            if expander is None:
                yield part
            else:
                for piece in expander.feed(part, account.hold):
                    if piece:
                        yield piece
                    await pace.rest()
            await pace.rest()
        if expander is not None:
            expander.finish()
    except web.RequestPayloadError as error:
        raise MalformedRequest(str(error)[:200]) from None
    except ValueError as error:
        raise Problem(400, "body-invalid", f"the compressed body is broken: {error}", {"Connection": "close"}) from None
    finally:
        part = b""


class Arrivals:
    """The body as it comes. One that holds memory has body_stall_s, and a second more for body_rate_min_bytes each.

    So who sends little and stops, to have his share for as long as a body may take, loses it soon. As mod_reqtimeout
    of Apache does it; here without what holds less than IDLE_BYTES, such as an NDJSON client that awaits its answers.
    """

    __slots__ = ("_account", "_content", "_patience_s", "_settings")

    def __init__(self, request: web.Request, account: Account, settings: RestSettings) -> None:
        self._content = request.content
        self._account = account
        self._settings = settings
        self._patience_s = settings.body_stall_s

    async def part(self) -> bytes:
        """b"": the end. Raises Problem (408)."""
        settings = self._settings
        if self._account.held_bytes < IDLE_BYTES:
            self._patience_s = settings.body_stall_s
            return await self._content.readany()
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        try:
            async with asyncio.timeout(self._patience_s):
                part = await self._content.readany()
        except TimeoutError:
            raise too_slow() from None
        left_s = self._patience_s - (loop.time() - since_s) + len(part) / settings.body_rate_min_bytes
        self._patience_s = min(left_s, settings.body_stall_s)
        return part


def too_large(limit: int) -> Problem:
    return Problem(413, "payload-too-large", f"a request body has at most {limit} bytes", {"Connection": "close"})


def too_slow() -> Problem:
    return Problem(408, "request-timeout", "the body did not arrive in time", {"Connection": "close"})
