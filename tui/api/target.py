"""Where a node is, and what to show it: a URL or a Unix socket, and the login."""
from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from tui.api.errors import ApiError, Fault

CONSOLE_PORT, HTTP_PORT = 8090, 8080


@dataclass(frozen=True)
class Target:
    """socket: reach the node there instead of at the URL.  authorization: a whole header field, "" for none.

    console: where one logs in, when that is another listener.
    """

    url: str = f"http://127.0.0.1:{CONSOLE_PORT}"
    socket: Path | None = None
    authorization: str = ""
    user: str = ""
    ca: Path | None = None
    context: str = ""
    console: str = ""

    @property
    def shown(self) -> str:
        return str(self.socket) if self.socket is not None else self.url

    def with_token(self, token: str, user: str = "") -> Target:
        return replace(self, authorization=f"Bearer {token}", user=user or self.user)

    def with_password(self, user: str, password: str) -> Target:
        return replace(self, authorization=basic(user, password), user=user)


def basic(user: str, password: str) -> str:
    """RFC 7617"""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


def check_url(text: str) -> str:
    """A URL of a console listener, without a slash at its end. Raises ApiError."""
    url = (text if "//" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        parts.port      # noqa: B018 - raises for a port that is none
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise ApiError(Fault.SETUP, f"{text[:200]} is not a URL such as http://127.0.0.1:{CONSOLE_PORT}")
    return url
