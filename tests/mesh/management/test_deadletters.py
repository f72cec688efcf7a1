"""Dead letters and topics over the management API of a real node: listed with their cause, redriven, let go."""
from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.mesh.management.test_api import CONFIG, LOGINS
from tests.support.node import HOST, Node
from tests.support.node import http as ask
from tests.support.wait import wait_until

OPTIONS = {"filters": ["orders/guest/#"], "max_deliveries": 1, "backoff_initial_s": 0, "start": "earliest"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("letters")).start()
    yield started
    started.kill9()


def buried(node: Node, name: str, payloads: list[bytes], login: dict[str, str] | None = None) -> None:
    """A consumer that gives these events up, under orders/guest/<number>."""
    headers = {"Content-Type": "application/json", **(login or {})}
    url = node.url("http", f"/v1/consumers/{name}")
    assert ask("PUT", url, json.dumps(OPTIONS).encode(), headers).status in (200, 201)
    for number, payload in enumerate(payloads):
        assert node.publish(f"orders/guest/{name}-{number}", payload, login).status == 200

    def given_up() -> bool:
        events = ask("POST", url + "/pull", json.dumps({"wait_s": 1}).encode(), headers).json["events"]
        if events:
            tokens = [event["token"] for event in events]
            assert ask("POST", url + "/nack", json.dumps({"tokens": tokens}).encode(), headers).status == 200
        told = ask("GET", url, headers=login or {}).json
        return bool(told["dead_lettered"] >= len(payloads) and not told["lag"]["events"])

    wait_until(given_up, "all were given up")


def letters(node: Node, name: str, query: str = "", login: dict[str, str] | None = None) -> Any:
    answer = node.get(f"/api/v1/deadletters/{name}{query}", login)
    assert answer.status == 200, answer.text
    return answer.json


def act(node: Node, name: str, what: str, body: object, login: dict[str, str] | None = None) -> Any:
    return node.post(f"/api/v1/deadletters/{name}/{what}", json.dumps(body).encode(), login, listener="console")


def waiting(node: Node, name: str) -> int:
    rows = node.get(f"/api/v1/deadletters?id={name}").json["deadletters"]
    return int(rows[0]["waiting"]) if rows else 0


def test_dead_letters_are_listed_with_cause_redriven_one_by_one_and_discarded(node: Node) -> None:
    buried(node, "billing", [b"one", b"two", b"three", b"four"])
    found = letters(node, "billing")
    assert [(row["topic"], row["payload"], row["reason"]) for row in found["dead_letters"]] == [
        (f"orders/guest/billing-{number}", text, "delivery limit reached")
        for number, text in enumerate(("one", "two", "three", "four"))]
    assert [group["count"] for group in found["groups"]] == [1, 1, 1, 1]
    page = letters(node, "billing", "?limit=3")
    rest = letters(node, "billing", f"?limit=3&after={quote(page['next'])}")
    assert (len(page["dead_letters"]), len(rest["dead_letters"]), rest["next"]) == (3, 1, None)
    third = found["dead_letters"][2]["id"]

    dry = act(node, "billing", "redrive", {"ids": [third, "events:0:999999"], "dry_run": True}).json
    assert (dry["redriven"], dry["not_found"]) == (1, 1) and waiting(node, "billing") == 4
    done = act(node, "billing", "redrive", {"ids": [third], "reason": "mended"}).json
    assert done["audit"] >= 0
    wait_until(lambda: waiting(node, "billing") == 3, "one is redriven")
    again = ask("POST", node.url("http", "/v1/consumers/billing/pull"), b'{"wait_s": 5}',
                {"Content-Type": "application/json"}).json["events"]
    assert [event["payload"] for event in again] == ["three"]
    assert act(node, "billing", "redrive", {"ids": [third], "dry_run": True}).json["redriven"] == 0, "it is done with"

    dry = act(node, "billing", "discard", {"max": 2, "dry_run": True}).json
    assert dry["discarded"] == 2 and waiting(node, "billing") == 3
    act(node, "billing", "discard", {"max": 2, "reason": "known bad"})
    wait_until(lambda: waiting(node, "billing") == 1, "two are let go")
    assert [row["payload"] for row in letters(node, "billing")["dead_letters"]] == ["four"]
    rows = node.get("/api/v1/audit?filter=act~deadletters&sort=id").json["audit"]
    assert [(row["act"], row["target"], row["reason"]) for row in rows] == [
        ("deadletters.redrive", "billing", "mended"), ("deadletters.discard", "billing", "known bad")]
    node.kill9()
    node.restart()
    assert [row["payload"] for row in letters(node, "billing")["dead_letters"]] == ["four"], "a kill changes nothing"


def test_what_is_no_request_for_dead_letters_is_refused(node: Node) -> None:
    assert node.get("/api/v1/deadletters/none").status == 404
    assert act(node, "none", "redrive", {}).status == 404
    buried(node, "hostile", [b"x"])
    for body in ({"ids": ["x"]}, {"max": 0}, {"rate": -1}, {"what": 1}, {"ids": ["events:0:1"] * 1_001}, [1]):
        assert act(node, "hostile", "redrive", body).status == 400, body
    for query in ("?limit=0", "?after=x", "?limit=x"):
        assert node.get(f"/api/v1/deadletters/hostile{query}").status == 400, query


def test_a_viewer_sees_where_and_why_and_no_byte_of_what_he_may_not_read(
        tmp_path_factory: pytest.TempPathFactory) -> None:
    reads = '[[policies]]\nallow = ["subscribe"]\nto = ["user:guest"]\ntopics = ["orders/guest/#"]\n'
    node = Node(tmp_path_factory.mktemp("guarded"), extra=CONFIG + reads).start()
    try:
        buried(node, "guests", [b"a secret order"], LOGINS["guest"])
        answer = node.get("/api/v1/deadletters/guests", LOGINS["viewer"])
        row, = answer.json["dead_letters"]
        assert row["readable"] is False and b"a secret order" not in answer.body
        assert row["topic"] == "orders/guest/guests-0"
        assert act(node, "guests", "discard", {}, LOGINS["viewer"]).status == 403
    finally:
        node.kill9()


def test_topics_are_a_tree_with_counts(node: Node) -> None:
    for number in range(6):
        assert node.publish(f"tree/{number % 3}/temperature", b"x").status == 200
    assert node.publish("tree", b"x").status == 200

    def level(under: str, query: str = "") -> dict[str, tuple[int, int, int]]:
        rows = node.get(f"/api/v1/topics?under={quote(under, safe='')}{query}").json["topics"]
        return {row["level"]: (row["events"], row["below"], row["topics"]) for row in rows}

    wait_until(lambda: level("").get("tree") == (1, 6, 4), "the first level")
    assert level("tree") == {str(number): (0, 2, 1) for number in range(3)}
    assert level("tree/1") == {"temperature": (2, 0, 1)}
    flat = node.get("/api/v1/topics?flat=1&filter=topic~tree/&sort=-topic&limit=2").json
    assert [row["topic"] for row in flat["topics"]] == ["tree/2/temperature", "tree/1/temperature"]
    assert flat["matched"] == 3 and flat["next"]
    assert node.publish("tree/1/temperature", b"x").status == 200
    wait_until(lambda: level("tree/1") == {"temperature": (3, 0, 1)}, "what is new is counted, too")
    assert node.get("/api/v1/topics?under=a%23").status == 400


def test_a_tail_shows_what_is_stored_from_now_on(node: Node) -> None:
    assert node.publish("tail/before", b"old").status == 200
    client = http.client.HTTPConnection(HOST, node.ports["console"], timeout=30)
    client.request("GET", "/api/v1/tail?filter=tail/%2B")
    answer = client.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    seen: list[dict[str, Any]] = []
    for number in range(3):
        node.publish(f"tail/{number}", base64.b64encode(bytes([number])))
    node.publish("elsewhere", b"x")
    while len(seen) < 3:
        line = answer.readline().decode().strip()
        if line.startswith("data: ["):
            seen += json.loads(line[6:])
    client.close()
    assert sorted(event["topic"] for event in seen) == ["tail/0", "tail/1", "tail/2"]
    assert node.get("/api/v1/tail?filter=a%23").status == 400
