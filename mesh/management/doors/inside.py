"""The management API for the console: the same reads with the same rights, called in the process."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from console.management import Refused
from mesh.management.acts.call import IDENTITY, Call
from mesh.management.doors.guard import secret_of
from mesh.management.paging.table import QueryError
from mesh.management.sessions import BROWSER
from protocols.rest.problems import Problem, problem_of
from protocols.web.fields import cookie_of
from routing.rights.policy import Action, Identity

if TYPE_CHECKING:
    from mesh.management.api import Api
    from mesh.management.sessions import Sessions
    from mesh.node import Node
    from protocols.rest.auth import Doorkeeper


class Inside:
    """See console/management.py."""

    def __init__(self, node: Node, api: Api, keeper: Doorkeeper, sessions: Sessions) -> None:
        self._node = node
        self._api = api
        self._keeper = keeper
        self._sessions = sessions
        self.node = node.name
        self.environment = node.config.node.environment
        self.sign_on = node.config.oidc.name if node.config.oidc is not None else ""

    @property
    def open(self) -> bool:
        return self._node.authenticator.open

    async def get(self, request: web.Request, path: str, params: Mapping[str, str] = {}) -> dict[str, Any]:
        identity = request[IDENTITY]
        try:
            resource = self._api.tables.resources.get(path)
            action = resource.action if resource is not None else self._right_of(path)
            refusal = self._node.router.policy.refuse(identity, action, "", self._node.clock_ms())
            if refusal is not None:
                raise problem_of(refusal)
            if resource is not None:
                return plain(await self._api.table(path, Call(identity, query=dict(params))))
            return plain(await self._read(path, params, identity))
        except QueryError as error:
            raise Refused(400, str(error)) from error
        except Problem as problem:
            raise Refused(problem.status, problem.detail) from problem

    def _right_of(self, path: str) -> Action:
        """What the endpoint needs over HTTP."""
        method, name, _ = self._place(path)
        endpoint = self._api.endpoints.get((method, name))
        return endpoint.action if endpoint is not None else Action.VIEW

    def _place(self, path: str) -> tuple[str, str, dict[str, str]]:
        """(method, endpoint, names). A name stands behind the first part of the path: "deadletters/billing"."""
        if path == "can-i":
            return "POST", path, {}
        first, _, name = path.partition("/")
        if first == "simulate" and name:
            return "POST", "drafts/{name}/simulate", {"name": name}
        if name and ("GET", f"{first}/{{name}}") in self._api.endpoints:
            return "GET", f"{first}/{{name}}", {"name": name}
        return "GET", path, {}

    async def _read(self, path: str, params: Mapping[str, str], identity: Identity) -> dict[str, Any]:
        method, name, names = self._place(path)
        if method == "GET":
            return await self._api.call(method, name, Call(identity, names, dict(params)))
        body: dict[str, Any] = dict(params)
        if path == "can-i":
            body["roles"] = [role.strip() for role in params.get("roles", "").split(",") if role.strip()]
        return await self._api.call(method, name, Call(identity, names, body=body))

    async def login(self, request: web.Request, user: str, password: str) -> str:
        try:
            identity = await self._keeper.login(request, user, password.encode())
        except Problem as problem:
            raise Refused(problem.status, problem.detail) from problem
        old = secret_of(request, self._sessions)
        if old:
            self._sessions.close(old)           # a new secret for a new login
        return self._sessions.open(identity, BROWSER)

    def logout(self, request: web.Request) -> None:
        self._sessions.close(secret_of(request, self._sessions))

    def cookie(self, request: web.Request) -> str:
        return self._sessions.cookie(request.secure)

    def cookie_value(self, request: web.Request, name: str) -> str:
        return cookie_of(request.headers, name)


def plain(value: Any) -> dict[str, Any]:
    """Structs and enums as dictionaries and texts, as JSON would have them."""
    found = msgspec.to_builtins(value, enc_hook=str)
    assert isinstance(found, dict)
    return found
