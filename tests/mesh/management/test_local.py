"""The Unix socket for who runs the node, and tokens for terminals: a real node with users."""
from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.management.test_api import CONFIG, PASSWORDS
from tests.support.node import HOST, Node
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("local"), extra=CONFIG).start()
    yield started
    started.kill9()


class Over(http.client.HTTPConnection):
    """A connection over a Unix socket; None: over TCP to the console."""

    def __init__(self, node: Node, path: Path | None = None) -> None:
        super().__init__("localhost" if path else HOST, node.ports["console"], timeout=30)
        self._path = path

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        self.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.getresponse()
        return answer.status, json.loads(answer.read())


def test_who_runs_the_node_needs_no_password_at_its_socket(node: Node) -> None:
    path = node.data / "management.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    over = Over(node, path)
    status, who = over.ask("GET", "/api/v1/whoami")
    assert status == 200 and who["user"].startswith("$local:") and who["may"]["manage"]
    status, _ = over.ask("POST", "/api/v1/clock/confirm", {"reason": "a look"})
    assert status == 200
    status, trail = over.ask("GET", "/api/v1/audit?filter=act=clock.confirm")
    assert trail["audit"][0]["user"] == who["user"] and trail["audit"][0]["address"] == f"process {os.getpid()}"
    assert Over(node).ask("GET", "/api/v1/whoami")[0] == 401, "over TCP the node wants a login"


def test_a_request_with_a_login_counts_as_that_login_also_at_the_socket(node: Node) -> None:
    token = Over(node).ask("POST", "/api/v1/login", {"user": "viewer", "password": PASSWORDS["viewer"]})[1]["token"]
    over = Over(node, node.data / "management.sock")
    status, who = over.ask("GET", "/api/v1/whoami", Authorization=f"Bearer {token}")
    assert (status, who["user"], who["may"]["operate"]) == (200, "viewer", False)
    assert over.ask("GET", "/api/v1/whoami", Authorization="Bearer mgs_no-such")[0] == 401


def test_a_socket_that_a_dead_node_left_is_taken_over_and_a_stop_takes_it_away(tmp_path: Path) -> None:
    node = Node(tmp_path / "n" / ("a-long-way-down" * 8)).start()       # longer than an address may be
    path = node.data / "management.sock"
    assert len(str(path)) > 108
    node.kill9()
    assert path.exists()
    node.start()
    folder = os.open(node.data, os.O_PATH)
    over = Over(node, Path(f"/proc/self/fd/{folder}/management.sock"))
    assert over.ask("GET", "/api/v1/whoami")[1]["user"] == "anonymous"
    os.close(folder)
    assert node.stop() == 0
    assert not path.exists()


def test_a_token_lives_until_logout_and_a_wrong_password_says_no_more_than_that(node: Node) -> None:
    over = Over(node)
    status, answer = over.ask("POST", "/api/v1/login", {"user": "operator", "password": PASSWORDS["operator"]})
    assert status == 200 and answer["token"].startswith("mgs_") and answer["idle_s"] == 1_800
    login = {"Authorization": f"Bearer {answer['token']}"}
    assert over.ask("POST", "/api/v1/clock/confirm", {}, **login)[0] == 200, "a token is no cookie: acts work"
    assert over.ask("POST", "/api/v1/logout", None, **login) == (200, {"ended": True})
    status, problem = over.ask("GET", "/api/v1/whoami", **login)
    assert (status, problem["detail"]) == (401, "the login has ended: log in again")
    for body in ({"user": "operator", "password": "no"}, {"user": "nobody", "password": "no"}):
        status, problem = over.ask("POST", "/api/v1/login", body)
        assert (status, problem["detail"]) == (401, "user name or password is wrong")
    for bad in ([], {"user": "ana"}, {"user": "", "password": ""}, {"user": 1, "password": 2}):
        assert over.ask("POST", "/api/v1/login", bad)[0] == 400
    assert over.ask("POST", "/api/v1/login", {"user": "a", "password": "b"}, Origin="http://evil.example")[0] == 403


def test_a_live_stream_ends_with_its_token(node: Node) -> None:
    over = Over(node)
    token = over.ask("POST", "/api/v1/login", {"user": "viewer", "password": PASSWORDS["viewer"]})[1]["token"]
    login = {"Authorization": f"Bearer {token}"}
    stream = Over(node)
    stream.request("GET", "/api/v1/stream?topics=overview", headers=login)
    answer = stream.getresponse()
    assert answer.readline() == b"event: state\n"
    over.ask("POST", "/api/v1/logout", None, **login)
    seen: list[bytes] = []

    def ended() -> bool:
        seen.append(answer.readline())
        return b'"login ended"' in seen[-1]
    wait_until(ended, "the stream says bye")
