"""Ending logins: one's own, anybody's, all of a user; in browsers and terminals; what was open says goodbye."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.configuration.settings import ConsoleSettings
from mesh.management.sessions import Sessions
from routing.rights.policy import Identity
from tests.console.test_pages import Browser
from tests.mesh.management.test_api import CONFIG, LOGINS, PASSWORDS
from tests.support.node import Node, http
from tests.support.sse import CurlSse


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("logins"), extra=CONFIG).start()
    yield started
    started.kill9()


def token_of(node: Node, name: str) -> dict[str, str]:
    body = json.dumps({"user": name, "password": PASSWORDS[name]}).encode()
    token = http("POST", node.url("console", "/api/v1/login"), body).json["token"]
    return {"Authorization": f"Bearer {token}"}


def rows(node: Node, user: str) -> list[dict[str, Any]]:
    found = node.get(f"/api/v1/logins?filter=user={user}", LOGINS["admin"]).json["logins"]
    assert isinstance(found, list)
    return found


def test_one_sees_where_one_is_logged_in_and_ends_one_of_them(node: Node) -> None:
    here, there = token_of(node, "viewer"), token_of(node, "viewer")
    mine = node.get("/api/v1/sessions", here).json["sessions"]
    assert [one["current"] for one in mine] == [True, False]
    assert {(one["user"], one["kind"]) for one in mine} == {("viewer", "terminal")}
    other = next(one["id"] for one in mine if not one["current"])
    stranger = token_of(node, "reader")
    path = node.url("console", f"/api/v1/sessions/{other}")
    assert http("DELETE", path, b"", stranger).status == 404, "of somebody else"
    assert http("DELETE", path, b'{"dry_run": true}', here).json["logins"] == 1
    assert node.get("/api/v1/status", there).status == 200, "a dry run ends nothing"
    assert http("DELETE", path, b"", here).json["ended"] == 1
    assert node.get("/api/v1/status", there).status == 401
    assert node.get("/api/v1/status", here).status == 200
    assert http("DELETE", path, b"", here).status == 404


def test_all_logins_of_a_user_end_with_a_record_and_an_open_stream_says_goodbye(node: Node) -> None:
    browser, terminal = Browser(node), token_of(node, "operator")
    browser.login("operator")
    assert {row["kind"] for row in rows(node, "operator")} == {"browser", "terminal"}
    field = f"Authorization: {terminal['Authorization']}"
    with CurlSse(node.url("console", "/api/v1/stream?topics=overview"), "-H", field) as stream:
        assert stream.next().kind == "state"
        answer = node.post("/api/v1/logins/end", b'{"user": "operator", "reason": "left the company"}', LOGINS["admin"],
                           listener="console")
        assert (answer.status, answer.json["ended"]) == (200, 2)
        event = stream.next()
        while event.kind != "bye":
            event = stream.next()
        assert event.json["why"] == "login ended"
    assert browser.send("GET", "/")[0] == 303 and node.get("/api/v1/status", terminal).status == 401
    record = node.get("/api/v1/audit", LOGINS["admin"]).json["audit"][0]
    assert (record["act"], record["target"], record["reason"]) == ("login.end", "operator", "left the company")
    assert rows(node, "operator") == []


def test_who_may_not_administer_ends_nobody(node: Node) -> None:
    session = token_of(node, "viewer")
    identifier = rows(node, "viewer")[0]["id"]
    for login in (LOGINS["operator"], LOGINS["viewer"], LOGINS["auditor"]):
        assert http("DELETE", node.url("console", f"/api/v1/logins/{identifier}"), b"", login).status == 403
        assert node.post("/api/v1/logins/end", b'{"user": "viewer"}', login, listener="console").status == 403
    assert node.get("/api/v1/status", session).status == 200
    for body, status in ((b"{}", 400), (b'{"user": 7}', 400), (b'{"user": "nobody"}', 404)):
        assert node.post("/api/v1/logins/end", body, LOGINS["admin"], listener="console").status == status


def test_a_page_ends_logins_and_shows_itself_to_who_may(node: Node) -> None:
    admin = Browser(node)
    admin.login("admin")
    status, _, text = admin.send("GET", "/logins")
    assert status == 200 and 'data-act="DELETE logins/' in text
    assert 'data-act="POST logins/end {&#34;user&#34;: &#34;admin&#34;}"' in text
    status, _, text = admin.send("GET", "/whoami")
    assert "(this one)" in text and 'data-act="DELETE sessions/' in text


def test_two_nodes_behind_one_host_have_cookies_of_their_own() -> None:
    names = {Sessions(float, int, ConsoleSettings(base)).cookie(secure) for base in ("", "/mesh/graz", "/mesh/paris")
             for secure in (True, False)}
    assert len(names) == 6 and "__Host-meshgate-session-mesh-graz" in names


def test_a_list_of_logins_lets_nobody_in() -> None:
    sessions = Sessions(float, int, ConsoleSettings())
    secret = sessions.open(Identity("ana", ("admin",), protocol="http"), "browser")
    assert secret not in json.dumps([sessions.row(one) for one in sessions])
