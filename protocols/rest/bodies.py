"""Request bodies: read in pieces, expanded (gzip, zstd) within bounds, and all of them within one budget of memory.

A compressed body is measured after expansion, piece by piece, so that a bomb costs no more than what is allowed to
come out plus one piece. Sources: RFC 1952 (gzip), RFC 8878 and RFC 9659 (zstd; its window is bounded to 8 MiB there).
"""
from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Protocol

import zstandard
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11

from protocols.fields import has, tokens_of
from protocols.rest.guard import MalformedRequest
from protocols.rest.problems import Problem
from protocols.rest.settings import RestSettings

PIECE_BYTES = 256 * 1024        # of plain text, at most, from one step of gzip
ZSTD_STEP_BYTES = 64            # of compressed text; a block of 128 KiB may stand in 4 bytes, so 2 MiB come out at most
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024     # RFC 9659 §3: what a receiver must be able to hold, and no more
CODINGS = "gzip, zstd"


class BodyMemory:
    """What the bodies that are being read may take together. Loop thread only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Everything that was taken through the account is given back at its end."""
        account = Account(self)
        try:
            yield account
        finally:
            self.used_bytes -= account.held_bytes


class Account:
    """One request's share."""

    __slots__ = ("_memory", "held_bytes")

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.held_bytes = 0

    def hold(self, size: int) -> None:
        """Raises Problem (503) when the listener has no memory left for it."""
        memory = self._memory
        if memory.used_bytes + size > memory.limit_bytes:
            raise Problem(503, "overloaded", "too many request bodies are on their way; nothing of this one was taken",
                          {"Connection": "close"})
        memory.used_bytes += size
        self.held_bytes += size

    def release(self, size: int) -> None:
        self._memory.used_bytes -= size
        self.held_bytes -= size


# -- content codings ------------------------------------------------------------------------------------------------

class Expander(Protocol):
    """Compressed pieces in, plain pieces out."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...

    def finish(self) -> None:
        """The body has ended. Raises ValueError when the compressed text has not."""


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:                        # RFC 1952 §2.2: members may follow each other
                self._member = zlib.decompressobj(wbits=31)
            self._begun = True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise ValueError(str(error)) from None
            if piece:
                yield piece
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise ValueError("the gzip text ends too early")


class _Zstd:
    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        self._frame = self._decompressor.decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), ZSTD_STEP_BYTES):
            rest = data[start:start + ZSTD_STEP_BYTES]
            while rest:
                if self._frame.eof:                     # RFC 8878 §3: frames may follow each other
                    self._frame = self._decompressor.decompressobj()
                self._begun = True
                try:
                    piece = self._frame.decompress(rest)
                except zstandard.ZstdError as error:
                    raise ValueError(str(error)) from None
                if piece:
                    yield piece
                rest = self._frame.unused_data if self._frame.eof else b""

    def finish(self) -> None:
        if self._begun and not self._frame.eof:
            raise ValueError("the zstd text ends too early")


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

async def read_body(request: web.Request, settings: RestSettings, memory: BodyMemory) -> bytes:
    """The whole body, expanded, at most body_bytes_max. Raises Problem (400, 408, 413, 415, 503)."""
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
    size = 0
    with memory.account() as account:
        try:
            async with asyncio.timeout(settings.body_timeout_s):
                async for part in plain_parts(request, account):
                    size += len(part)
                    if size > limit:
                        raise too_large(limit)
                    account.hold(len(part))
                    parts.append(part)
        except TimeoutError:
            raise too_slow() from None
        return b"".join(parts)


async def plain_parts(request: web.Request, account: Account) -> AsyncIterator[bytes]:
    """The body in pieces, expanded. The caller bounds time and sum. Raises Problem (400, 415)."""
    expander = expander_of(request)
    await _invite(request)
    if isinstance(expander, _Zstd):
        account.hold(ZSTD_WINDOW_BYTES)
    try:
        async for part in request.content.iter_any():
            if expander is None:
                yield part
            else:
                for piece in expander.feed(part):
                    yield piece
        if expander is not None:
            expander.finish()
    except web.RequestPayloadError as error:
        raise MalformedRequest(str(error)[:200]) from None
    except ValueError as error:
        raise Problem(400, "body-invalid", f"the compressed body is broken: {error}", {"Connection": "close"}) from None


def too_large(limit: int) -> Problem:
    return Problem(413, "payload-too-large", f"a request body has at most {limit} bytes", {"Connection": "close"})


def too_slow() -> Problem:
    return Problem(408, "request-timeout", "the body did not arrive in time", {"Connection": "close"})
