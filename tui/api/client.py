"""The management API over HTTP, HTTPS or a Unix socket. What goes wrong comes out as ApiError with one line.

One per dashboard; close() at its end. aiohttp is imported when the first request is made: it takes a quarter of a
second, and the first picture need not wait for it.
"""
from __future__ import annotations

import asyncio
import os
import secrets
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from tui.api.errors import ApiError, Fault
from tui.api.events import EventReader, ServerEvent, StreamBroken
from tui.api.target import Target, check_url

if TYPE_CHECKING:
    import aiohttp

PREFIX = "/api/v1/"
ANSWER_MAX_S = 15.0             # a node that is slower does not answer
CONNECT_MAX_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
READ_BYTES = 65_536


class Client:
    """Coroutines; one event loop."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._session: aiohttp.ClientSession | None = None
        self._folder: int | None = None
        self.received_bytes = 0

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    async def use(self, target: Target) -> None:
        """Another node, or another login."""
        await self.close()
        self.target = target

    # -- requests ---------------------------------------------------------------------------------------------

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET /api/v1/{path}. Raises ApiError."""
        given = {name: value for name, value in (params or {}).items() if value}
        return await self._json("GET", f"{path}?{urlencode(given)}" if given else path)

    async def act(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An act, once: a key goes with it, so that an answer that got lost can be asked for again. Raises ApiError."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        raw = msgspec.json.encode(dict(body))
        try:
            return await self._json(method, path, raw, headers)
        except ApiError as error:
            if error.fault is not Fault.AWAY:
                raise
        await asyncio.sleep(0.5)
        return await self._json(method, path, raw, headers)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A question that takes a body. Raises ApiError."""
        return await self._json("POST", path, msgspec.json.encode(dict(body)))

    async def events(self, path: str) -> AsyncGenerator[ServerEvent, None]:
        """GET /api/v1/{path}, a live stream; comments are events without a name.

        Raises ApiError; ends when the node ends it.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_MAX_S, sock_read=None)
        reader = EventReader()
        try:
            async with self._open().get(
                    self._url(path), timeout=timeout,
                    headers={"Accept": "text/event-stream"}) as response:
                if response.status != 200:
                    raise _refused(response.status, await response.content.read(READ_BYTES))
                while data := await response.content.read(READ_BYTES):
                    self.received_bytes += len(data)
                    for event in reader.receive(data):
                        yield event
        except StreamBroken as error:
            raise ApiError(Fault.SETUP, f"{self.target.shown} is no Meshgate node: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._failed(error) from error

    async def _json(self, method: str, path: str, body: bytes | None = None,
                    headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=ANSWER_MAX_S, sock_connect=CONNECT_MAX_S)
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else dict(headers or {})
        try:
            async with self._open().request(
                    method, self._url(path), data=body, headers=sent, timeout=timeout,
                    allow_redirects=False) as response:
                raw = await _read(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        self.received_bytes += len(raw)
        if response.status != 200:
            raise _refused(response.status, raw)
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise ApiError(Fault.SETUP, f"{self.target.shown} did not answer with JSON: is this a Meshgate node?"
                           ) from error

    # -- the connection ---------------------------------------------------------------------------------------

    def _url(self, path: str) -> Any:
        import yarl

        base = "http://localhost" if self.target.socket is not None else check_url(self.target.url)
        return yarl.URL(base + PREFIX + path, encoded=True)

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            headers = {"Accept": "application/json", "User-Agent": "meshgate-tui"}
            if self.target.authorization:
                headers["Authorization"] = self.target.authorization
            self._session = aiohttp.ClientSession(
                connector=self._connector(), headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _connector(self) -> aiohttp.BaseConnector:
        import aiohttp

        path = self.target.socket
        if path is None:
            return aiohttp.TCPConnector(ssl=self._tls(), limit=4)
        try:        # through the folder: its path may be longer than an address can be
            self._folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ApiError(Fault.AWAY, f"{path}: {error.strerror}: is the node up?") from error
        return aiohttp.UnixConnector(f"/proc/self/fd/{self._folder}/{path.name}", limit=4)

    def _tls(self) -> ssl.SSLContext | bool:
        if not self.target.url.startswith("https:"):
            return True
        try:
            return ssl.create_default_context(cafile=str(self.target.ca) if self.target.ca is not None else None)
        except OSError as error:
            raise ApiError(Fault.SETUP, f"{self.target.ca}: {error.strerror or error}") from error

    def _failed(self, error: Exception) -> ApiError:
        import aiohttp

        where = self.target.shown
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return ApiError(Fault.SETUP, f"{where}: the node's certificate is not trusted: {why.rstrip('.')}; name the "
                                         "authority that signed it with --ca FILE")
        if isinstance(error, aiohttp.ClientSSLError):
            return ApiError(Fault.SETUP, f"{where}: TLS failed: is this the right port?")
        if isinstance(error, aiohttp.ClientConnectorError):
            if isinstance(error.os_error, ConnectionRefusedError | FileNotFoundError):
                return ApiError(Fault.AWAY, f"nothing listens on {where}: is the node up?")
            return ApiError(Fault.AWAY, f"{where}: {error.os_error.strerror or error.os_error}")
        if isinstance(error, TimeoutError):
            return ApiError(Fault.AWAY, f"{where}: no answer in time")
        if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
            return ApiError(Fault.SETUP, f"{where}: not an HTTP answer: is this the right port?")
        if isinstance(error, aiohttp.ClientError):
            return ApiError(Fault.AWAY, f"{where}: the connection was lost")
        return ApiError(Fault.AWAY, f"{where}: {getattr(error, 'strerror', None) or error}")


async def _read(content: aiohttp.StreamReader) -> bytes:
    chunks: list[bytes] = []
    left = ANSWER_BYTES_MAX
    async for chunk in content.iter_chunked(READ_BYTES):
        chunks.append(chunk)
        left -= len(chunk)
        if left < 0:
            raise ApiError(Fault.SETUP, f"an answer of more than {ANSWER_BYTES_MAX} bytes: is this a Meshgate node?")
    return b"".join(chunks)


def _refused(status: int, raw: bytes) -> ApiError:
    """Of an error status: the detail of its problem+json (RFC 9457)."""
    try:
        detail = str(msgspec.json.decode(raw, type=dict[str, Any]).get("detail") or "")
    except msgspec.MsgspecError:
        detail = ""
    text = detail[:500] or f"the node answered {status}"
    if status == 401:
        return ApiError(Fault.LOGIN, text)
    if status == 403:
        return ApiError(Fault.DENIED, text)
    if status == 404:
        return ApiError(Fault.MISSING, text)
    if status >= 500:
        return ApiError(Fault.AWAY, text)
    return ApiError(Fault.WRONG if status < 300 or status >= 400 else Fault.SETUP, text)
