"""Requests and live events over two hops between real nodes, with MQTT 5 clients of another project, without users and
with.
"""
from __future__ import annotations

import base64
import json
import threading

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from websockets.sync.client import ClientConnection, connect

from tests.support.node import Node, meshgate, stop_all
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


# --- nodes that have users ---------------------------------------------------------------------------------------
PASSWORD = "correct horse"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"ana:{PASSWORD}".encode()).decode()}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """graz ─ linz, both with users and rules, the link with a token. Only kept/# is on a log."""
    folder = tmp_path_factory.mktemp("guarded")
    hashed = meshgate("passwd", input=PASSWORD.encode() + b"\n").stdout.decode().strip()
    users = STREAMS + "".join(
        f'[[users]]\nname = "{name}"\npassword_hash = "{hashed}"\nroles = ["{role}"]\n'
        for name, role in (("ana", "worker"), ("ben", "guest"), ("root", "admin"))) + """
[[policies]]
allow = ["publish", "subscribe"]
to = ["role:worker"]
topics = ["live/#", "svc/#"]

[[policies]]
allow = ["publish", "subscribe"]
to = ["role:guest"]
topics = ["live/open/#"]
"""
    listeners = ("mqtt", "http", "console", "link")
    linz = Node(folder / "linz", name="linz", listeners=listeners,
                extra=users + '[[link_peers]]\nnode = "graz"\ntoken = "a-token-of-graz-1"\n')
    graz = Node(folder / "graz", name="graz", listeners=listeners, extra=users + (
        f'[[links]]\nto = "ws://127.0.0.1:{linz.ports["link"]}"\ntoken = "a-token-of-graz-1"\n'))
    try:
        linz.start(), graz.start()
        yield graz, linz
    finally:
        stop_all([graz, linz])


class User(Client):
    def __init__(self, node: Node, user: str, name: str) -> None:
        self.received = []
        self.arrived, ready = threading.Event(), threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
        self.mqtt.username_pw_set(user, PASSWORD)
        self.mqtt.on_connect = lambda client, userdata, flags, reason, properties: reason == 0 and ready.set()
        self.mqtt.on_message = self.on_message
        self.mqtt.connect(*node.mqtt)
        self.mqtt.loop_start()
        assert ready.wait(DEADLINE_S)


class Answering(User, Responder):
    """As a user who may."""

    on_message = Responder.on_message


def open_websocket(node: Node) -> ClientConnection:
    socket = connect(f"ws://127.0.0.1:{node.ports['http']}/v1/ws", additional_headers=BASIC)
    assert json.loads(socket.recv(DEADLINE_S))["op"] == "welcome"
    return socket


def hear(socket: ClientConnection, op: str) -> dict:
    message = json.loads(socket.recv(DEADLINE_S))
    assert message["op"] == op, message
    return message


def test_events_that_no_stream_keeps_pass_between_nodes_with_users_over_every_protocol(guarded):
    """QoS 0 over MQTT, POST, /v1/ws: each is denied by the rules that its user has, and by none of the link's."""
    graz, linz = guarded
    ana, ben = User(linz, "ana", "reader-ana"), User(linz, "ben", "reader-ben")
    asker = User(graz, "ana", "publisher")
    socket, far = open_websocket(linz), open_websocket(graz)
    try:
        ana.mqtt.subscribe("live/#", 0), ben.mqtt.subscribe("live/open/#", 0)
        socket.send(json.dumps({"op": "subscribe", "id": "s", "subscription": "all", "filters": ["live/#"]}))
        hear(socket, "subscribed")

        def reaches() -> bool:
            asker.mqtt.publish("live/probe", b"", 0).wait_for_publish(DEADLINE_S)
            return bool(ana.received)

        wait_until(reaches, "the interest of linz is known at graz")
        asker.mqtt.publish("live/open/mqtt", b"1", 0)
        asker.mqtt.publish("live/closed/mqtt", b"2", 0)
        assert graz.publish("live/open/rest", b"3", BASIC).status < 300
        assert graz.publish("forbidden/rest", b"4", BASIC).status == 403
        far.send(json.dumps({"op": "publish", "id": 1, "topic": "live/open/ws", "payload": "5"}))
        hear(far, "published")
        expected = {"live/open/mqtt", "live/closed/mqtt", "live/open/rest", "live/open/ws"}
        wait_until(lambda: expected <= {message.topic for message in ana.received}, "all that ana may read")
        wait_until(lambda: len(ben.received) == 3, "all that ben may read")
        seen = set()
        while not expected <= seen:
            seen.add(hear(socket, "event")["event"]["topic"])
        assert {message.topic for message in ben.received} == {"live/open/mqtt", "live/open/rest", "live/open/ws"}
    finally:
        ana.close(), ben.close(), asker.close(), socket.close(), far.close()


def test_a_request_over_http_crosses_nodes_with_users(guarded):
    graz, linz = guarded
    responder = Answering(linz, "ana", "guarded-responder")
    responder.mqtt.subscribe("svc/time", 1)
    try:
        def answered() -> bool:
            answer = graz.post("/v1/requests/svc/time", b"now?", {**BASIC, "Prefer": "wait=5"})
            return (answer.status, answer.body) == (200, b"re:now?")

        wait_until(answered, "an answer from the other node")
    finally:
        responder.close()
