"""Requests whose end cannot be told: what the parser refuses, and what it lets pass."""
from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_writer import HttpVersion10

from protocols.rest.problems import Problem
from protocols.web.fields import has, tokens_of

WITHOUT_BODY = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


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


def malformed(exc: BaseException | None, message: str) -> Problem:
    """Status and type for what the parser refused. The texts are llhttp's and aiohttp's; the first line says enough."""
    text = message.split("\n", 1)[0].rstrip(":")
    if isinstance(exc, LineTooLong):
        if isinstance(exc.args[0], bytearray):              # aiohttp keeps the request target in a bytearray
            return Problem(414, "uri-too-long", "the request target is too long")
        return Problem(431, "head-too-large", "a header field is too long")
    if text == "Too many headers received":
        return Problem(431, "head-too-large", "too many header fields")
    return Problem(400, "malformed-request", text[:200])
