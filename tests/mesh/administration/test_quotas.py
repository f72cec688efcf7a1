"""Quotas as documents: how many connections, consumers and queues a user may have, at once and on every protocol."""
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pika
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from pika.exceptions import AMQPError

from mesh.administration.documents import Stored, document_of
from mesh.administration.effective import Base, Place, combine
from mesh.configuration.settings import Config
from mesh.identity.auth_settings import UserSettings
from mesh.link.proof.prepare import PreparedLinks
from routing.fairness.shares import Quotas, Share
from tests.support.admin import ROOT, Admin, basic
from tests.support.node import HOST, Node, http
from tests.support.rawmqtt import CONNACK, RawMqtt, connect_packet, open_mqtt
from tests.support.wait import wait_until

PASSWORD = "the same for all of them"
JSON = {"Content-Type": "application/json"}


def test_of_several_quotas_the_lowest_counts_and_one_for_all_is_for_who_has_none() -> None:
    base = Base(Config(users=(UserSettings("root", None, ("admin",)),)), [], {}, PreparedLinks([], [], anonymous=False))
    made = [Stored("quota", name, body, 1, "n", {"n": 1}) for name, body in (
        ("all", {"connections": 5}), ("two", {"users": ["ana", "bob"], "connections": 9, "queues": 1}),
        ("ana", {"users": ["ana"], "connections": 7}), ("off", {"connections": 0, "enabled": False}))]
    quotas = Quotas()
    quotas.replace(combine(base, made, Place("n", "s"), 0).quotas)
    most, queues = quotas.cap("connections"), quotas.cap("queues")
    assert [most(user) for user in ("ana", "bob", "eve")] == [7, 9, 5]
    assert [queues(user) for user in ("ana", "eve")] == [1, None] and quotas.cap("consumers")("ana") is None


def test_a_share_keeps_to_the_quota_that_there_is_now() -> None:
    quotas = Quotas()
    share = Share("things", lambda: 0.5, quotas.cap("connections"))
    for _ in range(4):
        assert share.take("ana", 100) is None
    quotas.replace({"connections": {"ana": 2}})
    refusal = share.take("ana", 100)
    assert refusal is not None and "the quota is 2" in refusal.text and share.of("ana") == 4
    assert share.take("bob", 100) is None
    share.give("ana", 3)
    assert share.take("ana", 100) is None and share.take("ana", 100) is not None


@pytest.mark.parametrize("body", [{"connections": -1}, {"users": "ana", "connections": 1}, {"rate": 1}])
def test_a_quota_of_another_form_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        document_of("quota", body)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    node = Node(tmp_path_factory.mktemp("quotas"), listeners=("mqtt", "http", "console", "amqp", "kafka"),
                extra=ROOT).start()
    admin = Admin(node)
    for user in ("ana", "bob"):
        admin.must_put(f"users/{user}", password=PASSWORD, roles=["any"])
    admin.must_put("policies/any", allow=["publish", "subscribe"], to=["role:any"])
    yield admin
    node.kill9()
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)


def mqtt(admin: Admin, user: str, number: int) -> RawMqtt:
    return open_mqtt(admin.node.mqtt, f"{user}-{number}", username=user, password=PASSWORD.encode())


def test_connections(admin: Admin) -> None:
    version = admin.must_put("quotas/q", users=["ana"], connections=2)["version"]
    with contextlib.ExitStack() as stack:
        for number in range(2):
            stack.enter_context(mqtt(admin, "ana", number))
        third = stack.enter_context(RawMqtt(admin.node.mqtt))
        third.send(connect_packet("ana-2", username="ana", password=PASSWORD.encode()))
        assert third.expect(CONNACK).code == 0x97                       # quota exceeded, MQTT 5 §3.2.2.2
        stack.enter_context(mqtt(admin, "bob", 0))
        version = admin.must_put("quotas/q", version, users=["ana"], connections=3)["version"]
        stack.enter_context(mqtt(admin, "ana", 3))                      # at once
    parameters = pika.ConnectionParameters(HOST, admin.node.ports["amqp"],
                                           credentials=pika.PlainCredentials("ana", PASSWORD))
    version = admin.must_put("quotas/q", version, users=["ana"], connections=1)["version"]
    first = pika.BlockingConnection(parameters)
    with pytest.raises(AMQPError):
        pika.BlockingConnection(parameters)
    first.close()
    assert admin.ask("DELETE", "quotas/q", {"version": version}).status == 200


def test_kafka_connections(admin: Admin) -> None:
    version = admin.must_put("quotas/kafka", users=["ana"], connections=0)["version"]
    said: list[str] = []
    login = {"bootstrap.servers": f"{HOST}:{admin.node.ports['kafka']}", "security.protocol": "SASL_PLAINTEXT",
             "sasl.mechanism": "PLAIN", "sasl.username": "ana", "sasl.password": PASSWORD,
             "error_cb": lambda error: said.append(str(error)) if error.code() == KafkaError._AUTHENTICATION else None}
    client = AdminClient(login)
    wait_until(lambda: client.poll(0.1) and "the quota is 0" in "".join(said), "it is told why")
    admin.must_put("quotas/kafka", version, users=["ana"], connections=10)
    assert client.list_topics(timeout=30).topics        # it has tried again


def test_consumers_and_queues(admin: Admin) -> None:
    version = admin.must_put("quotas/few", consumers=2, queues=1)["version"]       # of everybody

    def consumer(user: str, number: int) -> int:
        body = json.dumps({"filters": ["a/#"], "mode": "shared"}).encode()
        return http("PUT", admin.node.url("http", f"/v1/consumers/{user}-{number}"), body,
                    {**JSON, **basic(user, PASSWORD)}).status

    assert [consumer("ana", number) for number in range(3)] == [201, 201, 429]
    assert [consumer("bob", number) for number in range(2)] == [201, 201]
    assert admin.ask("DELETE", "quotas/few", {"version": version}).status == 200
    assert consumer("ana", 2) == 201
    admin.must_put("quotas/bob", users=["bob"], queues=1)
    connection = pika.BlockingConnection(pika.ConnectionParameters(
        HOST, admin.node.ports["amqp"], credentials=pika.PlainCredentials("bob", PASSWORD)))
    connection.channel().queue_declare("one", durable=True)
    with pytest.raises(AMQPError):
        connection.channel().queue_declare("two", durable=True)
