"""The management API as an administrator uses it."""
from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from mesh.identity.users import hash_password
from tests.support.node import Answer, Node, http

PASSWORD = "the admin password"
ROOT = f'''
[[users]]
name = "root"
password_hash = "{hash_password(PASSWORD)}"
roles = ["admin"]
'''


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


ROOT_LOGIN = basic("root", PASSWORD)
ROOT_ENVIRONMENT = {"MESHGATE_USER": "root", "MESHGATE_PASSWORD": PASSWORD}


class Admin:
    """Who administers a node; login: his fields."""

    def __init__(self, node: Node, login: dict[str, str] | None = None) -> None:
        self.node = node
        self.login = ROOT_LOGIN if login is None else login

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        headers = {**self.login, **{name.replace("_", "-"): value for name, value in fields.items()}}
        return http(method, self.node.url("console", f"/api/v1/{quote(path, safe='/?=&%')}"),
                    None if body is None else json.dumps(body).encode(), headers)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", table).json[table])

    def put(self, path: str, version: str = "", **document: Any) -> Answer:
        """A document; version: the one that was seen."""
        return self.ask("PUT", path, {"document": {name.rstrip("_"): value for name, value in document.items()},
                                      "version": version})

    def must_put(self, path: str, version: str = "", **document: Any) -> dict[str, Any]:
        answer = self.put(path, version, **document)
        assert answer.status == 200, answer.text
        found: dict[str, Any] = answer.json
        return found
