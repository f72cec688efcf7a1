"""A small HTTP client for the commands: JSON from the console listener, bytes and streams from the HTTP listener.

Standard library only, so that `meshgate status` starts in a tenth of a second. Addresses and credentials come from
the options, the environment (MESHGATE_CONSOLE, MESHGATE_HTTP, MESHGATE_USER, MESHGATE_PASSWORD), the context of a login
or the configuration file (target.py); a password never from the command line, where other users could read it.
"""
from __future__ import annotations

import argparse
import http.client
import os
import re
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mesh.commands.client.errors import CommandError, RefusedError
from mesh.commands.client.target import http_target, target_of
from tui.api.target import CONSOLE_PORT, HTTP_PORT, Target

TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")      # OpenSSL 3.0, later ones


def add_options(parser: argparse.ArgumentParser, listener: str) -> None:
    """The options that every command has which talks to a node. listener: "console" or "http"."""
    port = CONSOLE_PORT if listener == "console" else HTTP_PORT
    parser.add_argument(
        "--url", default=os.environ.get(f"MESHGATE_{listener.upper()}"), metavar="URL",
        help=f"the node's {listener} listener (default: $MESHGATE_{listener.upper()} or http://127.0.0.1:{port})")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take the address from the node's configuration")
    parser.add_argument("--user", default=os.environ.get("MESHGATE_USER"), metavar="NAME",
                        help="log in; the password comes from $MESHGATE_PASSWORD or is asked for")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="PEM file with the authority of the node's certificate")
    parser.add_argument("--context", default=os.environ.get("MESHGATE_CONTEXT"), metavar="NAME",
                        help="a node that you have logged in to (meshgate login, meshgate contexts)")
    parser.set_defaults(listener=listener)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket. Through its folder: a path may be longer than an address can be (unix(7))."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


class Client:
    """One HTTP connection to a node, kept open between requests."""

    def __init__(self, options: argparse.Namespace) -> None:
        target = target_of(options) if options.listener == "console" else http_target(options)
        self.url = target.shown
        parts = urlsplit(target.url)
        self._prefix = "" if target.socket is not None else parts.path.rstrip("/")
        self._headers = {"Authorization": target.authorization} if target.authorization else {}
        self._hint = "" if target.authorization else "use --user NAME, or log in once: meshgate login"
        if target.context:
            user = f" --user {target.user}" if target.user else ""
            where = target.console or target.url
            self._hint = f"meshgate login {where}{user} --context {target.context}, or meshgate logout --forget"
        self._elsewhere = (f", if the HTTP listener of {target.console} is not there, name it with --url or "
                           "$MESHGATE_HTTP" if target.console else "")
        self._connection = _connection(target, str(parts.hostname), parts.port)

    def authorize(self, field: str) -> None:
        """Send this Authorization with every request."""
        self._headers["Authorization"] = field
        self._hint = ""

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> http.client.HTTPResponse:
        """Send and return the open response; CommandError for what does not succeed."""
        try:
            self._connection.timeout = timeout_s
            self._connection.request(method, self._prefix + path, body, {**self._headers, **(headers or {})})
            response = self._connection.getresponse()
        except (ConnectionRefusedError, FileNotFoundError):
            raise CommandError(
                f"nothing listens on {self.url}: is the node up? start it with `meshgate up`{self._elsewhere}"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise CommandError(
                f"{self.url}: the node's certificate is not trusted: {error.verify_message.rstrip('.')}; name the "
                "authority that signed it with --ca FILE") from error
        except ssl.SSLError as error:
            hint = ": does this listener have TLS? try http://" if error.reason in _NO_TLS else ""
            raise CommandError(f"{self.url}: TLS failed: {error.reason or error}{hint}") from error
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"{self.url}: {_describe(error)}") from error
        if response.status >= 400:
            raise RefusedError(_problem(response, "" if path.endswith("/login") else self._hint))
        return response

    def json(self, path: str, method: str = "GET", body: bytes | None = None) -> object:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        with self.request(method, path, body, headers) as response:
            try:
                return msgspec.json.decode(response.read(ANSWER_BYTES_MAX))
            except msgspec.DecodeError as error:
                raise CommandError(f"{self.url}{path} did not answer with JSON: is this a Meshgate node?") from error

    def close(self) -> None:
        self._connection.close()


def _connection(target: Target, host: str, port: int | None) -> http.client.HTTPConnection:
    if target.socket is not None:
        return _UnixConnection(target.socket)
    if target.url.startswith("https:"):
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=_tls(target.ca))
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    except OSError as error:
        raise CommandError(f"{ca}: {error.strerror or error}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "closed the connection without an HTTP answer: is this the right port?"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"not an HTTP answer ({type(error).__name__})"


def _problem(response: http.client.HTTPResponse, hint: str) -> str:
    """The detail of a problem+json answer (RFC 9457), or the status line."""
    raw = response.read(65_536)
    try:
        detail = msgspec.json.decode(raw, type=dict[str, object]).get("detail")
    except msgspec.DecodeError:
        detail = None
    if response.status == 401:
        return f"{detail or 'login needed'}" + (f" ({hint})" if hint else "")
    denial = re.search(r"\(denial (\d+)\)$", str(detail))
    if denial is not None:
        return f"{detail}\nwho may view the node reads what would allow it by: meshgate why {denial[1]}"
    return str(detail) if detail else f"the node answered {response.status} {response.reason}"
