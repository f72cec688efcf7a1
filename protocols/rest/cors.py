"""Which web pages of other origins may use the API: Cross-Origin Resource Sharing, by configuration. No I/O.

Source: Fetch standard §3.2. Without [http.cors] no page from elsewhere is served (403), whatever it asks for. With it
the origins of the list are; an answer names the one origin that asked, never a reflection of what is not in the list,
and "null" (a sandboxed frame, a file) is nobody.
"""
from __future__ import annotations

from aiohttp import hdrs, web

from protocols.rest.cors_settings import CorsSettings
from protocols.web.fields import has, list_of

EXPOSED = ("ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate")
# Field names that a page may send beside the safelisted ones: what the API knows.
ALLOWED = frozenset((
    "accept", "authorization", "cache-control", "content-encoding", "content-type", "idempotency-key", "if-match",
    "if-none-match", "last-event-id", "prefer", "traceparent", "tracestate", "x-api-key",
))
ALLOWED_PREFIXES = ("meshgate-", "ce-")
NAMES_MAX = 64              # of one preflight


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
