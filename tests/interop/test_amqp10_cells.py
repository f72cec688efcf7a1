"""What one protocol writes and another one reads: every cell between AMQP 1.0 and 0-9-1, MQTT 5 and HTTP."""
from __future__ import annotations

import json
import os
import queue
from importlib.util import find_spec

import paho.mqtt.client as paho
import pika
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.node import Node, http

if find_spec("proton") is None and os.environ.get("MESHGATE_REQUIRE_PEERS") != "1":
    pytest.skip("proton is not installed", allow_module_level=True)
from proton import Message, symbol
from proton.utils import BlockingConnection

WAIT_S = 20


class Amqp10:
    typed = True

    def __init__(self, node):
        self._connection = BlockingConnection(f"amqp://127.0.0.1:{node.ports['amqp']}", timeout=WAIT_S)
        self._receiver = self._connection.create_receiver("topic://cells/#", credit=20)

    def write(self, topic):
        self._connection.create_sender(f"topic://{topic}").send(Message(
            body=b"payload", durable=True, content_type=symbol("text/x"), correlation_id="corr", reply_to="topic://back/here",
            ttl=100.0, properties={"n": 7, "f": 2.5, "yes": True, "s": "grün"}))

    def read(self):
        message = self._receiver.receive(timeout=WAIT_S)
        self._receiver.accept()
        correlation = message.correlation_id
        topic = message.instructions["x-opt-topic"] if message.instructions else message.address.removeprefix("topic://")
        return {"topic": topic, "payload": bytes(message.body),
                "type": str(message.content_type),
                "correlation": bytes(correlation) if not isinstance(correlation, str) else correlation.encode(),
                "reply": message.reply_to.removeprefix("topic://"), "expires": message.ttl > 0,
                "headers": dict(message.properties)}


class Amqp091:
    typed = True

    def __init__(self, node):
        self._channel = pika.BlockingConnection(
            pika.ConnectionParameters("127.0.0.1", node.ports["amqp"])).channel()
        self._channel.queue_declare("cells-091", durable=True)
        self._channel.queue_bind("cells-091", "amq.topic", "cells.#")
        self._channel.confirm_delivery()

    def write(self, topic):
        self._channel.basic_publish("amq.topic", topic.replace("/", "."), b"payload", pika.BasicProperties(
            content_type="text/x", correlation_id="corr", reply_to="back/here", expiration="100000", delivery_mode=2,
            headers={"n": 7, "yes": True, "s": "grün"}))

    def read(self):
        for _method, properties, body in self._channel.consume("cells-091", auto_ack=True, inactivity_timeout=WAIT_S):
            self._channel.cancel()
            return {"topic": _method.routing_key.replace(".", "/"), "payload": body, "type": properties.content_type,
                    "correlation": properties.correlation_id.encode(), "reply": properties.reply_to,
                    "expires": int(properties.expiration) > 0, "headers": properties.headers}


class Mqtt5:
    typed = False

    def __init__(self, node):
        self._found = queue.Queue()
        ready = queue.Queue()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.on_message = lambda client, _, message: self._found.put(message)
        self._client.on_subscribe = lambda *_: ready.put(1)
        self._client.connect(*node.mqtt)
        self._client.loop_start()
        self._client.subscribe("cells/#", 1)
        ready.get(timeout=WAIT_S)

    def write(self, topic):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType, properties.CorrelationData, properties.ResponseTopic = "text/x", b"corr", "back/here"
        properties.MessageExpiryInterval = 100
        properties.UserProperty = [("n", "7"), ("f", "2.5"), ("yes", "true"), ("s", "grün")]
        self._client.publish(topic, b"payload", 1, properties=properties).wait_for_publish(WAIT_S)

    def read(self):
        message = self._found.get(timeout=WAIT_S)
        found = message.properties
        return {"topic": message.topic, "payload": message.payload, "type": found.ContentType,
                "correlation": found.CorrelationData, "reply": found.ResponseTopic,
                "expires": found.MessageExpiryInterval > 0,
                "headers": {name: value for name, value in found.UserProperty
                            if not name.startswith("meshgate-") and not name.endswith(";type")}}


class Http:
    typed = False

    def __init__(self, node):
        self._node = node
        answer = http("PUT", node.url("http", "/v1/consumers/cells"), json.dumps({"filters": ["cells/#"]}).encode(),
                      {"Content-Type": "application/json"})
        assert answer.status < 300, answer.body

    def write(self, topic):
        answer = http("POST", self._node.url("http", f"/v1/events/{topic}"), b"payload", {
            "Content-Type": "text/x", "Meshgate-Correlation-Id": "corr", "Meshgate-Reply-To": "back/here",
            "Meshgate-TTL": "100000", "Meshgate-Header-n": "7", "Meshgate-Header-f": "2.5",
            "Meshgate-Header-yes": "true",
            "Meshgate-Header-s": "grün".encode().decode("latin-1")})
        assert answer.status < 300, answer.body

    def read(self):
        answer = http("POST", self._node.url("http", "/v1/consumers/cells/pull"), json.dumps(
            {"max": 1, "wait_s": WAIT_S}).encode(), {"Content-Type": "application/json"})
        assert answer.status == 200, answer.body
        (event,) = answer.json["events"]
        done = http("POST", self._node.url("http", "/v1/consumers/cells/ack"), json.dumps(
            {"tokens": [event["token"]]}).encode(), {"Content-Type": "application/json"})
        assert done.status < 300, done.body
        return event


@pytest.fixture(scope="module")
def protocols(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("cells"), listeners=("mqtt", "amqp", "http", "console")).start()
    yield {"amqp10": Amqp10(node), "amqp091": Amqp091(node), "mqtt5": Mqtt5(node), "http": Http(node)}
    node.kill9()


@pytest.mark.parametrize("writer", ["amqp10", "amqp091", "mqtt5", "http"])
def test_fields_and_typed_headers_come_through(protocols, writer):
    topic = f"cells/of/{writer}"
    protocols[writer].write(topic)
    for name in ("amqp10", "amqp091", "mqtt5"):
        found = protocols[name].read()
        headers = found.pop("headers")
        assert found == {"topic": topic, "payload": b"payload", "type": "text/x", "correlation": b"corr",
                         "reply": "back/here", "expires": True}, f"{writer} to {name}"
        wanted = {"n": 7, "f": 2.5, "yes": True, "s": "grün"}
        if "amqp091" in (writer, name):                 # pika cannot write a double, and reads one as an integer
            del wanted["f"]
            headers.pop("f", None)
        if protocols[writer].typed and protocols[name].typed:
            assert headers == wanted and {k: type(v) for k, v in headers.items()} == {
                k: type(v) for k, v in wanted.items()}, f"{writer} to {name}"
        else:
            text = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in wanted.items()}
            assert {key: str(value) if not isinstance(value, bool) else str(value).lower()
                    for key, value in headers.items()} == text, f"{writer} to {name}"
    found = protocols["http"].read()
    assert (found["topic"], found["payload"], found["content_type"], found["correlation_id"], found["reply_to"]) == (
        topic, "payload", "text/x", "corr", "back/here"), f"{writer} to http"
    assert "expires" in found
    wanted = {"n": 7, "f": 2.5, "yes": True, "s": "grün"}
    if writer == "amqp091":
        del wanted["f"]
    text = {"n": "7", "f": "2.5", "yes": "true", "s": "grün"}
    assert dict(found["headers"]) == (wanted if protocols[writer].typed else text), f"{writer} to http"
