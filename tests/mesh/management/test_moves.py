"""What waits is moved elsewhere: out of a queue, and dead letters to another topic; with whose rights; over a kill."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pika
import pytest

from tests.mesh.management.test_api import CONFIG, LOGINS
from tests.mesh.management.test_deadletters import buried, letters
from tests.mesh.management.test_deadletters import waiting as letters_waiting
from tests.support.node import Answer, Node
from tests.support.node import http as ask
from tests.support.wait import wait_until

JSON = {"Content-Type": "application/json"}
RULES = '''
[[policies]]
allow = ["publish", "subscribe"]
to = ["role:admin"]
topics = ["#", "$queue/#"]
[[policies]]
allow = ["operate", "view"]
to = ["role:operator"]
[[policies]]
name = "operators publish to parked"
allow = ["publish", "subscribe"]
to = ["role:operator"]
topics = ["parked/#"]
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("moves"), listeners=("mqtt", "http", "console", "amqp")).start()
    yield started
    started.kill9()


def queue(node: Node, name: str, filters: list[str], login: dict[str, str] | None = None) -> None:
    body = json.dumps({"filters": filters, "queue": {}}).encode()
    answer = ask("PUT", node.url("http", f"/v1/consumers/{name}"), body, {**JSON, **(login or {})})
    assert answer.status == 201, answer.text


def ready(node: Node, name: str) -> list[str]:
    return [event["payload"] for event in node.get(f"/api/v1/consumers/{name}/events?limit=1000").json["events"]]


def move(node: Node, name: str, body: dict[str, Any], login: dict[str, str] | None = None) -> Answer:
    return node.post(f"/api/v1/consumers/{name}/move", json.dumps(body).encode(), login, listener="console")


def test_a_queue_is_moved_to_another_one_and_nothing_is_lost_or_doubled_over_a_kill(node: Node) -> None:
    queue(node, "work", ["work/#"])
    queue(node, "parked", [])
    sent = [str(number) for number in range(300)]
    lines = "\n".join(json.dumps({"topic": f"work/{int(number) % 3}", "payload": number}) for number in sent)
    answer = ask("POST", node.url("http", "/v1/events"), lines.encode(), {"Content-Type": "application/x-ndjson"})
    assert answer.status == 200, answer.text
    dry = move(node, "work", {"to": "$queue/parked", "dry_run": True}).json
    assert (dry["ready"], dry["moved"]) == (300, 300) and len(ready(node, "work")) == 300
    few = move(node, "work", {"to": "$queue/parked", "max": 10, "reason": "a look at some"}).json
    assert (few["state"], few["moved"]) == ("done", 10), few
    assert (len(ready(node, "work")), sorted(ready(node, "parked"), key=int)) == (290, sent[:10])
    begun = move(node, "work", {"to": "$queue/parked"}).json
    assert begun["state"] in ("running", "done")
    wait_until(lambda: node.get("/api/v1/consumers/work/move").json["state"] == "done", "all is moved")
    node.kill9()
    node.restart()
    assert ready(node, "work") == [] and sorted(ready(node, "parked"), key=int) == sent
    record = node.get("/api/v1/audit?filter=act=consumer.move").json["audit"]
    assert [(one["target"], one["reason"]) for one in record] == [("work", ""), ("work", "a look at some")]


def test_what_cannot_be_moved_is_refused_before_anything_happens(node: Node) -> None:
    queue(node, "stays", ["stays/#"])
    assert node.publish("stays/1", b"x").status == 200
    for body, status in (({"to": "$queue/nobody"}, 404), ({"to": "a/#"}, 400), ({"to": ""}, 400), ({}, 400),
                         ({"to": "a", "max": 0}, 400)):
        assert move(node, "stays", body).status == status, body
    assert node.post("/api/v1/consumers/stays/pause", b"{}", listener="console").status == 200
    assert move(node, "stays", {"to": "elsewhere"}).status == 409
    assert move(node, "none", {"to": "elsewhere"}).status == 404
    assert node.get("/api/v1/consumers/stays/move").status == 404
    assert ready(node, "stays") == ["x"]


def test_dead_letters_of_an_exchange_go_back_to_the_queues_that_gave_them_up(node: Node) -> None:
    """AMQP's x-dead-letter-exchange: they stand in a queue of their own, beside what was sent there straight."""
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", node.ports["amqp"])) as connection:
        channel = connection.channel()
        channel.queue_declare("dead", durable=True)
        for name in ("first", "second"):
            channel.queue_declare(name, durable=True, arguments={
                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
            for number in range(3):
                channel.basic_publish("", name, f"{name} {number}", pika.BasicProperties(
                    delivery_mode=2, headers={"n": number}))
        channel.basic_publish("", "dead", "no letter", pika.BasicProperties(delivery_mode=2))
        for name in ("first", "second"):
            for _ in range(3):
                method, _, _ = channel.basic_get(name)
                channel.basic_reject(method.delivery_tag, requeue=False)
        wait_until(lambda: len(ready(node, "dead")) == 7, "all are given up")
        assert move(node, "dead", {"back": True, "to": "x"}).status == 400
        done = move(node, "dead", {"back": True}).json
        assert (done["state"], done["moved"], done["left"]) == ("done", 6, 1), done
        for name in ("first", "second"):
            found = [channel.basic_get(name, auto_ack=True) for _ in range(4)]
            assert [body for _, _, body in found] == [f"{name} {number}".encode() for number in range(3)] + [None]
            assert found[2][1].headers["n"] == 2
        wait_until(lambda: ready(node, "dead") == ["no letter"], "the other one is there still")


def test_dead_letters_are_redriven_to_another_topic(node: Node) -> None:
    queue(node, "second-try", ["second/#"])
    buried(node, "spoiled", [b"one", b"two", b"three"])
    chosen = letters(node, "spoiled")["dead_letters"][1]["id"]

    def redrive(body: dict[str, Any]) -> Any:
        raw = json.dumps(body).encode()
        return node.post("/api/v1/deadletters/spoiled/redrive", raw, listener="console")

    assert redrive({"to": "$queue/nobody"}).status == 404
    dry = redrive({"to": "second/try", "ids": [chosen], "dry_run": True}).json
    assert (dry["redriven"], dry["to"]) == (1, "second/try") and ready(node, "second-try") == []
    assert redrive({"to": "second/try", "ids": [chosen]}).status == 200
    wait_until(lambda: letters_waiting(node, "spoiled") == 2, "one is moved")
    assert redrive({"to": "$queue/second-try"}).status == 200
    wait_until(lambda: letters_waiting(node, "spoiled") == 0, "all are")
    assert sorted(ready(node, "second-try")) == ["one", "three", "two"]
    event = node.get("/api/v1/browse?filter=second/%23").json["events"][0]
    assert event["payload"] == "two" and not any(name.startswith("dead-letter") for name in event.get("headers", {}))


def test_who_moves_must_be_allowed_to_read_it_and_to_publish_there(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An operator is no reader: moving is no way round that."""
    node = Node(tmp_path_factory.mktemp("guarded"), extra=CONFIG + RULES).start()
    try:
        admin, operator = LOGINS["admin"], LOGINS["operator"]
        queue(node, "secrets", ["orders/guest/1"], admin)
        assert node.post("/v1/events/orders/guest/1", b"secret", LOGINS["guest"]).status == 200
        assert move(node, "secrets", {"to": "parked/1"}, LOGINS["viewer"]).status == 403
        refused = move(node, "secrets", {"to": "parked/1"}, operator)
        assert refused.status == 403 and "read" in refused.text
        denied = move(node, "secrets", {"to": "orders/guest/2"}, operator)
        assert denied.status == 403 and "publish" in denied.text
        buried(node, "given-up", [b"secret, too"], admin)
        raw = json.dumps({"to": "parked/2"}).encode()
        node.post("/api/v1/deadletters/given-up/redrive", raw, operator, listener="console")
        found = wait_until(lambda: (one := letters(node, "given-up", "", admin)["redrive"])
                           and one["state"] != "running" and one, "it ended")
        assert found["state"] == "failed" and "may not read" in found["trouble"]
        assert node.get("/api/v1/browse?filter=parked/%23", admin).json["events"] == []
        assert move(node, "secrets", {"to": "parked/1"}, admin).json["moved"] == 1
    finally:
        node.kill9()


def test_what_other_readers_hold_stays_theirs_and_is_told(node: Node) -> None:
    queue(node, "shared-work", ["shared/#"])
    for number in range(3):
        assert node.publish("shared/1", str(number).encode()).status == 200
    pulled = ask("POST", node.url("http", "/v1/consumers/shared-work/pull"), b'{"max": 2}', JSON).json["events"]
    assert len(pulled) == 2
    moved = move(node, "shared-work", {"to": "moved/away"}).json
    assert (moved["state"], moved["moved"], moved["max"]) == ("done", 1, 1), "what is ready, and no more"
    row, = node.get("/api/v1/consumers?id=shared-work").json["consumers"]
    assert (row["ready"], row["unacked"]) == (0, 2)
