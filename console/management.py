"""What the console asks of a node: the management API, called in the process. Rights are checked there.

The console imports nothing of the node. Whoever mounts it (mesh/management/) hands it an object of this shape.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web


class Refused(Exception):
    """The API's "no": an HTTP status and a text for people."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Management(Protocol):
    """One per node."""

    @property
    def node(self) -> str:
        """The name of the node that is asked."""

    @property
    def environment(self) -> str:
        """What the operator calls this mesh: "production"; "" when it has no name."""

    @property
    def sign_on(self) -> str:
        """What the link to another login is called; "" without one."""

    @property
    def open(self) -> bool:
        """Nobody has to log in."""

    async def get(self, request: web.Request, path: str, params: Mapping[str, str] = {}) -> dict[str, Any]:
        """The answer of GET /api/v1/{path}, with the rights of who sent the request. Raises Refused."""

    async def login(self, request: web.Request, user: str, password: str) -> str:
        """A new session. Returns the value of its cookie. Raises Refused."""

    def logout(self, request: web.Request) -> None: ...

    def cookie(self, request: web.Request) -> str:
        """The name of the session's cookie on this connection."""

    def cookie_value(self, request: web.Request, name: str) -> str:
        """What a cookie of the request holds; "" without it."""
