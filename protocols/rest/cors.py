"""Which web pages of other origins may use the API: Cross-Origin Resource Sharing, by configuration. No I/O.

Source: Fetch standard §3.2. Without [http.cors] no page from elsewhere is served (403), whatever it asks for. With it
the origins of the list are; an answer names the one origin that asked, never a reflection of what is not in the list,
and "null" (a sandboxed frame, a file) is nobody.
"""
from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs, web

from protocols.fields import has, list_of

EXPOSED = ("ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate")
# Field names that a page may send beside the safelisted ones: what the API knows.
ALLOWED = frozenset((
    "accept", "authorization", "cache-control", "content-encoding", "content-type", "idempotency-key", "if-match",
    "if-none-match", "last-event-id", "prefer", "traceparent", "tracestate", "x-api-key",
))
ALLOWED_PREFIXES = ("meshgate-", "ce-")
NAMES_MAX = 64              # of one preflight


class CorsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[http.cors]"""

    origins: tuple[str, ...] = ()       # "https://app.example"; "*": every page, then without credentials
    credentials: bool = False           # pages may send cookies and client certificates, and Basic that a browser keeps
    expose: tuple[str, ...] = ()        # fields that pages may read beside EXPOSED
    max_age_s: float = 600.0            # how long a browser may remember a preflight; Chromium: at most 2 h


def check_cors(settings: CorsSettings) -> Iterator[str]:
    """Problems, each one line that begins with the path of the setting."""
    for index, origin in enumerate(settings.origins):
        if origin != "*" and not _is_origin(origin):
            yield (f"http.cors.origins[{index}]: expected an origin such as \"https://app.example:8443\", without a "
                   f"path, or \"*\"; got {origin!r}")
    if "*" in settings.origins and settings.credentials:
        yield "http.cors.credentials: not together with origins = [\"*\"]: any page could act as the visitor"
    for index, name in enumerate(settings.expose):
        if not name or not all(char.isascii() and (char.isalnum() or char in "-_") for char in name):
            yield f"http.cors.expose[{index}]: expected the name of a header field, got {name!r}"
    if not 0 <= settings.max_age_s <= 86_400:
        yield "http.cors.max_age_s: expected 0 to 86400 seconds"


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return (parts.scheme in ("http", "https") and bool(parts.hostname) and "*" not in text and text == f"{parts.scheme}://{parts.netloc}"
            and text == text.lower() and "@" not in text)


class Cors:
    """The rules of one listener."""

    def __init__(self, settings: CorsSettings) -> None:
        self._origins = frozenset(settings.origins)
        self._any = "*" in settings.origins
        self._credentials = settings.credentials
        self._exposed = ", ".join((*EXPOSED, *settings.expose))
        self._max_age = str(int(settings.max_age_s))

    @property
    def configured(self) -> bool:
        return bool(self._origins)

    def allows(self, origin: str) -> bool:
        return origin != "null" and (self._any or origin in self._origins)

    def fields(self, origin: str) -> dict[str, str]:
        """Fields of every answer to a page of an origin that is allowed."""
        found = {"Access-Control-Allow-Origin": "*" if self._any else origin,
                 "Access-Control-Expose-Headers": self._exposed}
        if not self._any:
            found["Vary"] = "Origin"
        if self._credentials:
            found["Access-Control-Allow-Credentials"] = "true"
        return found

    def preflight(self, request: web.Request, methods: set[str]) -> web.Response:
        """The answer to OPTIONS with Access-Control-Request-Method. methods: those of the path."""
        names = list_of(request.headers, "Access-Control-Request-Headers")[:NAMES_MAX]
        allowed = sorted({name for name in map(_plain, names) if name in ALLOWED or name.startswith(ALLOWED_PREFIXES)})
        return web.Response(status=204, headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": ", ".join(allowed),
            "Access-Control-Max-Age": self._max_age,
            "Cache-Control": "no-store", "Server": "meshgate",
        })


def is_preflight(request: web.Request) -> bool:
    return (request.method == "OPTIONS" and has(request.headers, hdrs.ORIGIN)
            and has(request.headers, "Access-Control-Request-Method"))


def _plain(name: str) -> str:
    """A field name in lower case; "" when it has characters that none has."""
    name = name.strip().lower()
    return name if all(char.isascii() and (char.isalnum() or char in "-_%.~") for char in name) else ""
