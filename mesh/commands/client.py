"""A small HTTP client for the commands: JSON from the console listener, bytes and streams from the HTTP listener.

Standard library only, so that `meshgate status` starts in a tenth of a second. Addresses and credentials come from
the options, the environment (MESHGATE_CONSOLE, MESHGATE_HTTP, MESHGATE_USER, MESHGATE_PASSWORD) or the configuration
file; a password never from the command line, where other users of the machine could read it.
"""
from __future__ import annotations

import argparse
import base64
import getpass
import http.client
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mesh.configuration.address import parse_bind
from mesh.configuration.config import load_config
from mesh.configuration.settings import CONSOLE_PORT, HTTP_PORT
from routing.errors import ConfigError, MeshgateError

TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


class CommandError(MeshgateError):
    """What the user reads after "meshgate: "; exit code 1."""


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
    parser.set_defaults(listener=listener)


class Client:
    """One HTTP connection to a node, kept open between requests."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.url = _url(options)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandError(f"{self.url} is not a URL such as http://127.0.0.1:{CONSOLE_PORT}")
        try:
            port = parts.port
        except ValueError:
            raise CommandError(f"{self.url} has no valid port") from None
        self._prefix = parts.path.rstrip("/")
        self._headers = _credentials(options)
        self._connection = (
            http.client.HTTPSConnection(parts.hostname, port, timeout=TIMEOUT_S, context=_tls(options.ca))
            if parts.scheme == "https" else http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT_S)
        )

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> http.client.HTTPResponse:
        """Send and return the open response; CommandError for what does not succeed."""
        try:
            self._connection.timeout = timeout_s
            self._connection.request(method, self._prefix + path, body, {**self._headers, **(headers or {})})
            response = self._connection.getresponse()
        except ConnectionRefusedError:
            raise CommandError(
                f"nothing listens on {self.url}: is the node up? start it with `meshgate up`") from None
        except ssl.SSLCertVerificationError as error:
            raise CommandError(
                f"{self.url}: the node's certificate is not trusted: {error.verify_message.rstrip('.')}; name the "
                "authority that signed it with --ca FILE") from error
        except ssl.SSLError as error:
            raise CommandError(f"{self.url}: TLS failed: {error.reason or error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"{self.url}: {_describe(error)}") from error
        if response.status >= 400:
            raise CommandError(_problem(response))
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


def _url(options: argparse.Namespace) -> str:
    if options.url:
        return str(options.url) if "//" in options.url else f"http://{options.url}"
    listener = options.listener
    port = CONSOLE_PORT if listener == "console" else HTTP_PORT
    if options.config is None:
        return f"http://127.0.0.1:{port}"
    try:
        config = load_config(options.config)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    for name, settings in config.listeners.all():
        if name == listener:
            host, port = parse_bind(settings.bind)
            shown = f"[{host}]" if ":" in host else "127.0.0.1" if host in ("", "0.0.0.0") else host
            return f"{'https' if settings.tls else 'http'}://{shown}:{port}"
    raise CommandError(f"{options.config}: this node has no {listener} listener")


def _credentials(options: argparse.Namespace) -> dict[str, str]:
    if not options.user:
        return {}
    password = os.environ.get("MESHGATE_PASSWORD")
    if password is None:
        if not sys.stdin.isatty():
            raise CommandError("set MESHGATE_PASSWORD, or run this in a terminal to be asked for the password")
        password = getpass.getpass(f"password of {options.user}: ")
    token = base64.b64encode(f"{options.user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


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


def _problem(response: http.client.HTTPResponse) -> str:
    """The detail of a problem+json answer (RFC 9457), or the status line."""
    raw = response.read(65_536)
    try:
        detail = msgspec.json.decode(raw, type=dict[str, object]).get("detail")
    except msgspec.DecodeError:
        detail = None
    if response.status == 401:
        return f"{detail or 'login needed'} (use --user NAME)"
    return str(detail) if detail else f"the node answered {response.status} {response.reason}"
