"""The HTTP client of webhooks: one request, one outcome. It connects only to addresses that the guard has seen.

    DNS ──► every answer is checked ──► the socket is made for one of those very addresses ──► checked once more

Redirects are not followed, no proxy and no cookie is used, a compressed answer is not unpacked, and of an answer's
body no more than response_bytes_max is read.
"""
from __future__ import annotations

import socket
import ssl
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from mesh.connectors.webhook_guard import Guard, TargetRefused
from mesh.connectors.webhook_settings import WebhookSettings
from mesh.system.names.names import Names
from mesh.system.names.resolver import NamesResolver

USER_AGENT = "meshgate-webhook/1"
RETRY_AFTER_DIGITS_MAX = 9


class Outcome:
    """What came of one request. status 0: no answer, and text says why."""

    __slots__ = ("allowed_origin", "allowed_rate", "refused", "retry_after_s", "status", "text")

    def __init__(self, status: int, text: str, retry_after_s: float | None = None, refused: bool = False) -> None:
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s
        self.refused = refused                  # by our own guard
        self.allowed_origin: str | None = None  # of a handshake
        self.allowed_rate: str | None = None

    @property
    def taken(self) -> bool:
        return 200 <= self.status < 300


def tls_context(ca: str) -> ssl.SSLContext:
    """The system's authorities, and those of the configuration. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context()
    context.load_verify_locations(ca)
    return context


class WebhookClient:
    """Of one webhook. close() must be called. tls: None for one that needs none."""

    def __init__(self, guard: Guard, settings: WebhookSettings, tls: ssl.SSLContext | None, names: Names, *,
                 connections: int, timeout_s: float) -> None:
        self._guard = guard
        self._settings = settings
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=settings.connect_timeout_s)
        connector = aiohttp.TCPConnector(
            resolver=NamesResolver(names, guard.check_address), use_dns_cache=False, limit=connections, ssl=tls or True,
            socket_factory=self._socket)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last gate: hosts that are literal addresses do not go through the resolver."""
        kind, sort, protocol, _, address = info
        self._guard.check_address(str(address[0]))
        return socket.socket(family=kind, type=sort, proto=protocol)

    async def post(self, url: URL, fields: dict[str, str], body: bytes) -> Outcome:
        return await self._ask("POST", url, fields, body)

    async def handshake(self, url: URL, origin: str, rate: str | None) -> Outcome:
        """Ask the receiver whether it wants our events.              Source: CloudEvents HTTP webhook 1.0 §4.1"""
        fields = {"WebHook-Request-Origin": origin}
        if rate is not None:
            fields["WebHook-Request-Rate"] = rate
        return await self._ask("OPTIONS", url, fields, None)

    async def _ask(self, method: str, url: URL, fields: dict[str, str], body: bytes | None) -> Outcome:
        try:
            async with self._session.request(
                    method, url, headers=fields, data=body, allow_redirects=False, timeout=self._timeout) as answer:
                outcome = Outcome(answer.status, answer.reason or "", self._retry_after(answer))
                outcome.allowed_origin = answer.headers.get("WebHook-Allowed-Origin")
                outcome.allowed_rate = answer.headers.get("WebHook-Allowed-Rate")
                await self._read_away(answer)
                return outcome
        except TargetRefused as error:
            return Outcome(0, str(error), refused=True)
        except TimeoutError:
            return Outcome(0, "no answer in time")
        except aiohttp.ClientConnectorError as error:
            inner = error.os_error
            return Outcome(0, str(inner), refused=isinstance(inner, TargetRefused))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(0, str(error)[:300] or type(error).__name__)

    async def _read_away(self, answer: aiohttp.ClientResponse) -> None:
        """So that the connection can be used again; a long answer costs its connection."""
        left = self._settings.response_bytes_max
        try:
            async for part in answer.content.iter_any():
                left -= len(part)
                if left < 0:
                    answer.close()
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            answer.close()                      # the status is what counts

    def _retry_after(self, answer: aiohttp.ClientResponse) -> float | None:
        """Seconds, or a date.                                                           Source: RFC 9110 §10.2.3"""
        text = answer.headers.get("Retry-After", "").strip()
        seconds: float | None = None
        if text.isascii() and text.isdigit() and len(text) <= RETRY_AFTER_DIGITS_MAX:
            seconds = float(text)
        elif text:
            try:
                date = parsedate_to_datetime(text)
                sent = parsedate_to_datetime(answer.headers.get("Date", ""))
                seconds = (date - sent).total_seconds()
            except (ValueError, TypeError, OverflowError):
                return None
        return None if seconds is None else min(max(seconds, 0.0), self._settings.retry_after_max_s)

    async def close(self) -> None:
        await self._session.close()
