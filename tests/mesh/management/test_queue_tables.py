"""Queues, exchanges, bindings, Kafka groups and transactions as an operator sees them; made by pika and aiokafka."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.console.test_pages import Browser
from tests.support.node import HOST, Node, meshgate
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("queues"), listeners=("mqtt", "http", "console", "amqp", "kafka")).start()
    yield started
    started.kill9()


def rows(node: Node, table: str, query: str = "") -> list[dict[str, Any]]:
    answer = node.get(f"/api/v1/{table}?{query}")
    assert answer.status == 200, answer.text
    found = answer.json[table]
    assert isinstance(found, list)
    return found


def one(node: Node, table: str, key: str) -> dict[str, Any]:
    found = rows(node, table, f"id={key}")
    assert len(found) == 1, (key, rows(node, table))
    return found[0]


@pytest.fixture
def channel(node: Node) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    connection = pika.BlockingConnection(pika.ConnectionParameters(HOST, node.ports["amqp"]))
    yield connection.channel()
    connection.close()


def test_a_queue_shows_what_is_ready_unacked_and_bound_and_who_reads(node: Node, channel: Any) -> None:
    channel.exchange_declare("orders", "topic", durable=True)
    channel.queue_declare("jobs", durable=True, arguments={"x-max-length": 100, "x-message-ttl": 600_000})
    channel.queue_bind("jobs", "orders", "eu.#", {"note": "first"})
    channel.confirm_delivery()
    for number in range(3):
        channel.basic_publish("orders", "eu.graz", str(number).encode(), mandatory=True)
    wait_until(lambda: one(node, "queues", "jobs")["ready"] == 3, "three wait")
    row = one(node, "queues", "jobs")
    assert (row["state"], row["members"], row["unacked"], row["bindings"]) == ("unread", 0, 0, 1)
    assert row["limits"] == {"max_length": 100, "message_ttl_ms": 600_000}
    assert row["topic"] == "$queue/jobs" and "unread" in json.dumps(rows(node, "queues", "filter=state=unread"))
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("jobs", lambda *_: None)
    channel.connection.process_data_events(0.2)
    wait_until(lambda: one(node, "queues", "jobs")["unacked"] == 1, "one is out")
    row = one(node, "queues", "jobs")
    assert (row["ready"], row["members"]) == (2, 1)
    client = next(row for row in rows(node, "clients") if row["protocol"] == "amqp")
    assert (client["channels"], client["subscriptions"], client["in_flight"]) == (1, 1, 1)


def test_exchanges_and_bindings(node: Node, channel: Any) -> None:
    channel.exchange_declare("by-region", "headers", arguments={"alternate-exchange": "amq.fanout"})
    channel.exchange_declare("inside", "fanout", internal=True)
    channel.exchange_bind("inside", "by-region", "", {"x-match": "all", "region": "eu"})
    channel.queue_declare("left", exclusive=True)
    channel.queue_bind("left", "inside")
    row = one(node, "exchanges", "by-region")
    assert (row["type"], row["alternate"], row["bindings"], row["protocol"]) == ("headers", "amq.fanout", 1, "amqp")
    assert one(node, "exchanges", "inside")["internal"] is True
    assert {"(AMQP default)", "amq.topic", "amq.direct"} <= {row["name"] for row in rows(node, "exchanges")}
    found = rows(node, "bindings", "filter=source=by-region")
    assert [(row["destination"], row["to"], row["arguments"]) for row in found] == [
        ("inside", "exchange", "x-match=all, region=eu")]
    assert [row["destination"] for row in rows(node, "bindings", "filter=source=inside")] == ["left"]
    keys = [row["id"] for row in rows(node, "bindings")]
    assert len(keys) == len(set(keys))


async def test_a_kafka_group_and_an_open_transaction(node: Node) -> None:
    server = f"{HOST}:{node.ports['kafka']}"
    producer = AIOKafkaProducer(bootstrap_servers=server, transactional_id="till-7", transaction_timeout_ms=50_000)
    await producer.start()
    consumer = AIOKafkaConsumer("sales", bootstrap_servers=server, group_id="billing", auto_offset_reset="earliest",
                                isolation_level="read_committed", client_id="billing-1", enable_auto_commit=False)
    try:
        await producer.begin_transaction()
        await producer.send_and_wait("sales", b"1")
        row = one(node, "transactions", "till-7")
        assert (row["state"], row["timeout_s"], row["partitions"]) == ("ongoing", 50.0, 1)
        assert row["age_s"] >= 0 and row["places"][0].startswith("sales/")
        await producer.commit_transaction()
        wait_until(lambda: one(node, "transactions", "till-7")["state"] == "complete commit", "it is over")
        assert one(node, "transactions", "till-7")["age_s"] is None
        await consumer.start()
        assert (await consumer.getone()).value == b"1"
        await consumer.commit()
        row = one(node, "groups", "billing")
        assert (row["state"], row["members"], row["topics"], row["protocol_type"]) == (
            "Stable", 1, ["sales"], "consumer")
        assert [member["client_id"] for member in row["detail"]] == ["billing-1"]
        async with producer.transaction():
            for number in range(4):
                await producer.send_and_wait("sales", str(number).encode())
        wait_until(lambda: (one(node, "groups", "billing")["lag_events"] or 0) >= 4, "four are not committed")
    finally:
        await consumer.stop()
        await producer.stop()
    wait_until(lambda: one(node, "groups", "billing")["state"] == "Empty", "nobody is in it")


def test_pages_and_csv_show_them(node: Node) -> None:
    browser = Browser(node)
    for page, wanted in (("queues", 'href="/consumers/jobs"'), ("exchanges", "by-region"), ("bindings", "eu.#"),
                         ("groups", "billing"), ("transactions", "till-7")):
        status, _, text = browser.send("GET", f"/{page}")
        assert status == 200 and wanted in text, page
    assert 'data-act="POST consumers/jobs/purge"' in browser.send("GET", "/queues")[2]
    purge = "/api/v1/consumers/jobs/purge"
    assert node.post(purge, b'{"dry_run": true}', listener="console").json["ready"] == 3, "what was out is ready again"
    assert node.post(purge, b'{"reason": "tried"}', listener="console").json["purged"] == 3
    assert one(node, "queues", "jobs")["ready"] == 0
    assert "max length 100" in browser.send("GET", "/queues")[2]
    for table, wanted in (("queues", "jobs"), ("exchanges", "by-region"), ("groups", "billing"),
                          ("transactions", "till-7"), ("bindings", "eu.#")):
        done = meshgate("get", table, "--url", node.url("console"))
        assert done.returncode == 0 and wanted in done.stdout.decode(), (table, done.stderr)
    lines = node.get("/api/v1/queues?format=csv&fields=name,ready").text.splitlines()
    assert lines[0] == "name,ready" and any(line.startswith("jobs,") for line in lines)
