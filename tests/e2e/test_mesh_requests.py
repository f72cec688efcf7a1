"""Requests and live events over two hops between real nodes, with MQTT 5 clients of another project."""
from __future__ import annotations

import threading

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.node import Node, stop_all
from tests.support.wait import DEADLINE_S, wait_until

STREAMS = """
[[streams]]
name = "events"
capture = ["kept/#"]
"""


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """graz ─ vienna ─ linz; vienna takes both links. Only kept/# is on a log."""
    folder = tmp_path_factory.mktemp("line")
    listeners = ("mqtt", "http", "console", "link")
    vienna = Node(folder / "vienna", name="vienna", listeners=listeners, extra=STREAMS)
    link = f'{STREAMS}\n[[links]]\nto = "ws://127.0.0.1:{vienna.ports["link"]}"\n'
    graz = Node(folder / "graz", name="graz", listeners=listeners, extra=link)
    linz = Node(folder / "linz", name="linz", listeners=listeners, extra=link)
    nodes = [vienna, graz, linz]
    try:
        for node in nodes:
            node.start()
        wait_until(lambda: [route["hops"] for route in graz.get("/api/v1/routes").json["routes"]] == [2, 1], "routes")
        yield graz, linz
    finally:
        stop_all(nodes)


class Client:
    """Connected; what comes is in received."""

    def __init__(self, node: Node, name: str) -> None:
        self.received = []
        self.arrived = threading.Event()
        ready = threading.Event()
        self.subscribed = threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self.mqtt.on_connect = lambda *_: ready.set()
        self.mqtt.on_subscribe = lambda *_: self.subscribed.set()
        self.mqtt.on_message = self.on_message
        self.mqtt.connect(*node.mqtt)
        self.mqtt.loop_start()
        assert ready.wait(DEADLINE_S)

    def on_message(self, client, userdata, message) -> None:
        self.received.append(message)
        self.arrived.set()

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


class Responder(Client):
    def on_message(self, client, userdata, message) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        self.mqtt.publish(message.properties.ResponseTopic, b"re:" + message.payload, 1, properties=properties)


def wants(node: Node, topic: str) -> list[str]:
    return node.get(f"/api/v1/interest?topic={topic}").json["nodes"]


def test_a_client_that_subscribes_and_asks_at_once_gets_its_answer(line):
    graz, linz = line
    responder = Responder(linz, "responder")
    responder.mqtt.subscribe("svc/#", 1)
    wait_until(lambda: wants(graz, "svc/time") == ["linz"], "the interest of the responder is known")
    try:
        for number in range(10):
            client = Client(graz, f"asker-{number}")
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic, properties.CorrelationData = f"replies/{number}", b"%d" % number
            client.mqtt.subscribe(f"replies/{number}", 1)
            client.mqtt.publish("svc/time", b"now?", 1, properties=properties)
            assert client.arrived.wait(DEADLINE_S), f"request {number} has no answer"
            answer = client.received[0]
            assert (answer.payload, answer.properties.CorrelationData) == (b"re:now?", b"%d" % number)
            client.close()
    finally:
        responder.close()


def test_a_request_over_http_is_answered_by_a_client_two_hops_away(line):
    graz, linz = line
    responder = Responder(linz, "http-responder")
    responder.mqtt.subscribe("http/svc", 1)
    wait_until(lambda: wants(graz, "http/svc") == ["linz"], "the interest of the responder is known")
    try:
        answer = graz.post("/v1/requests/http/svc", b"hello")
        assert (answer.status, answer.body) == (200, b"re:hello")
    finally:
        responder.close()


def test_a_live_event_that_no_stream_keeps_is_delivered_two_hops_away(line):
    graz, linz = line
    reader = Client(linz, "reader")
    reader.mqtt.subscribe("live/+", 0)
    wait_until(lambda: wants(graz, "live/1") == ["linz"], "the interest is known")
    try:
        assert graz.publish("live/1", b"x").status < 300
        assert reader.arrived.wait(DEADLINE_S)
        assert (reader.received[0].topic, reader.received[0].payload) == ("live/1", b"x")
    finally:
        reader.close()
