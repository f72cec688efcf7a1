"""What managed documents take away has ended or narrowed within a second, on every node of three and every protocol;
given back, it goes on where it was, without reconnecting.

    north ──► hub ◄── south          the documents are made at the hub, which administers the two

Each user reads two branches at each node over MQTT, SSE, /v1/ws, pulls, webhooks, Kafka, AMQP 0-9-1 and AMQP 1.0. Of
one a role is taken, of one a policy, so that a branch is left; of one the key, and one is deleted.
"""
from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pika
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from pika.exceptions import AMQPError
from websockets.exceptions import ConnectionClosed as WebSocketClosed
from websockets.sync.client import connect

from mesh.identity.apikeys import hash_key, make_key
from mesh.identity.users import hash_password
from tests.e2e.test_webhooks import Receiver
from tests.support.admin import ROOT, Admin, basic
from tests.support.node import HOST, Node, stop_all
from tests.support.node import http as request
from tests.support.rawmqtt import ConnectionClosed, NotReceived, open_mqtt
from tests.support.sse import CurlSse
from tests.support.wait import wait_until

if find_spec("proton") is not None:
    import proton
    from proton.utils import BlockingConnection, LinkDetached
else:
    pytest.skip("proton is not installed", allow_module_level=True)

WITHIN_S = 1.0
EVERY_S = 0.1
LISTENERS = ("mqtt", "http", "console", "amqp", "kafka", "link")
NARROWED, ENDED = ("role", "policy"), ("user", "key")
KINDS = (*NARROWED, *ENDED)
PARTS = ("kept", "taken")
PASSWORD = "correct horse"
KEY = make_key()
TOKENS = {"north": "the token of the north", "south": "the token of the south"}


def secret(who: str) -> str:
    return KEY if who == "key" else PASSWORD


class Reader(threading.Thread):
    """What one user reads over one protocol at one node. came: of each part, when the latest was published."""

    protocol = ""

    def __init__(self, node: Node, who: str, receiver: Receiver) -> None:
        super().__init__(daemon=True, name=f"{self.protocol} {who} {node.name}")
        self.node, self.who, self.receiver = node, who, receiver
        self.came = dict.fromkeys(PARTS, 0.0)
        self.ended_s = 0.0
        self.stopping = False
        self.topics = {part: f"{who}/{part}/x" for part in PARTS}
        self.filters = [f"{who}/{part}/#" for part in PARTS]
        self.login = basic(who, secret(who))
        self.open()
        self.start()

    def open(self) -> None:
        raise NotImplementedError

    def step(self) -> bool:
        """Read a little. False: it has ended."""
        raise NotImplementedError

    def run(self) -> None:
        while not self.stopping:
            if not self.step():
                self.ended_s = time.monotonic()
                return

    def note(self, topic: str, payload: bytes | str) -> None:
        part = topic.replace(".", "/").replace("-", "/").split("/")[1]
        self.came[part] = max(self.came[part], float(payload))

    def put_consumer(self, name: str, body: dict[str, Any]) -> None:
        answer = request("PUT", self.node.url("http", f"/v1/consumers/{name}"), json.dumps(body).encode(),
                         {"Content-Type": "application/json", **self.login})
        assert answer.status in (200, 201), answer.text


class Mqtt(Reader):
    protocol = "mqtt"

    def open(self) -> None:
        self.client = open_mqtt(self.node.mqtt, f"{self.who}-{self.node.name}", username=self.who,
                                password=secret(self.who).encode())
        self.client.subscribe((self.filters[0], 0), (self.filters[1], 1))

    def step(self) -> bool:
        try:
            packet = self.client.message(deadline_s=0.2)
        except NotReceived:
            return True
        except (ConnectionClosed, OSError):
            return False
        self.note(packet.topic, packet.payload)
        return True


class Sse(Reader):
    protocol = "sse"

    def open(self) -> None:
        query = "&".join(f"filter={pattern.replace('#', '%23')}" for pattern in self.filters)
        self.stream = CurlSse(self.node.url("http", f"/v1/events?{query}"),
                              *(f"-H{name}: {value}" for name, value in self.login.items()))
        self.stream.__enter__()

    def step(self) -> bool:
        found = self.stream.events.get()
        if found is None:
            return False
        self.note(found.json["topic"], found.json["payload"])
        return True


class WebSocket(Reader):
    protocol = "websocket"

    def open(self) -> None:
        self.socket = connect(f"ws://{HOST}:{self.node.ports['http']}/v1/ws", additional_headers=self.login)
        self.socket.send(json.dumps({"op": "subscribe", "id": 1, "subscription": "s", "filters": self.filters}))

    def step(self) -> bool:
        try:
            said = json.loads(self.socket.recv(timeout=0.2))
        except TimeoutError:
            return True
        except WebSocketClosed:
            return False
        if said["op"] == "event":
            event = said.get("event", said)
            self.note(event["topic"], event["payload"])
        return said["op"] != "goodbye"


class Pull(Reader):
    protocol = "pull"

    def open(self) -> None:
        self.name_of = f"pull-{self.who}-{self.node.name}"
        self.put_consumer(self.name_of, {"filters": self.filters, "mode": "shared"})

    def post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            answer = request("POST", self.node.url("http", f"/v1/consumers/{self.name_of}/{path}"),
                             json.dumps(body).encode(), {"Content-Type": "application/json", **self.login})
        except OSError:                                     # the node was stopped
            return None
        return answer.json if answer.status == 200 else None

    def step(self) -> bool:
        found = self.post("pull", {"wait_s": 20})
        if found is None:
            return False
        for event in found["events"]:
            self.note(event["topic"], event["payload"])
        if found["events"]:
            self.post("ack", {"tokens": [event["token"] for event in found["events"]]})
        return True


class Webhook(Reader):
    protocol = "webhook"

    def open(self) -> None:
        self.seen = 0
        self.put_consumer(f"hook-{self.who}-{self.node.name}", {
            "filters": self.filters, "push": {"url": self.receiver.url}})

    def step(self) -> bool:
        time.sleep(EVERY_S / 2)
        got = self.receiver.got
        for fields, body in got[self.seen:]:
            for topic in self.topics.values():
                if fields["Webhook-Topic"] == topic:
                    self.note(topic, body)
        self.seen = len(got)
        return True


class Kafka(Reader):
    protocol = "kafka"

    def open(self) -> None:
        self.errors: list[KafkaError] = []
        self.consumer = Consumer({
            "bootstrap.servers": f"{HOST}:{self.node.ports['kafka']}", "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN", "sasl.username": self.who, "sasl.password": secret(self.who),
            "group.id": f"g-{self.who}-{self.node.name}", "enable.auto.commit": False, "log_level": 0,
            "topic.metadata.refresh.interval.ms": 500, "fetch.error.backoff.ms": 100, "fetch.wait.max.ms": 100,
            "reconnect.backoff.max.ms": 500, "error_cb": self.errors.append})
        self.consumer.assign([TopicPartition(f"{self.who}-{part}", 0) for part in PARTS])

    def step(self) -> bool:
        message = self.consumer.poll(0.2)
        if message is not None and message.error() is None:
            self.note(message.topic(), message.value())
        return not any(error.code() in (KafkaError._AUTHENTICATION, KafkaError._ALL_BROKERS_DOWN)
                       for error in self.errors)


class Amqp(Reader):
    protocol = "amqp 0-9-1"

    def open(self) -> None:
        """All of it in the thread: pika is of one."""

    def run(self) -> None:
        try:
            connection = pika.BlockingConnection(pika.ConnectionParameters(
                HOST, self.node.ports["amqp"], credentials=pika.PlainCredentials(self.who, secret(self.who))))
            channel = connection.channel()
            queue = channel.queue_declare("", exclusive=True).method.queue
            for part in PARTS:
                channel.queue_bind(queue, "amq.topic", f"{self.who}.{part}.#")
            channel.basic_consume(
                queue, lambda channel, method, properties, body: self.note(method.routing_key, body), auto_ack=True)
            while not self.stopping:
                connection.process_data_events(time_limit=0.2)
        except AMQPError:
            self.ended_s = time.monotonic()


class Amqp10(Reader):
    protocol = "amqp 1.0"

    def open(self) -> None:
        """As above."""

    def run(self) -> None:
        receivers: dict[str, Any] = dict.fromkeys(PARTS)
        try:
            connection = BlockingConnection(
                f"amqp://{self.who}:{secret(self.who)}@{HOST}:{self.node.ports['amqp']}", timeout=20,
                allowed_mechs="PLAIN", sasl_enabled=True)
            while not self.stopping:
                for part in PARTS:
                    try:
                        if receivers[part] is None:
                            receivers[part] = connection.create_receiver(f"topic://{self.who}/{part}/#", credit=100)
                        message = receivers[part].receive(timeout=0.1)
                        receivers[part].accept()
                        self.note(self.topics[part], bytes(message.body))
                    except LinkDetached:                # it may ask again, on this connection
                        receivers[part] = None
                        time.sleep(0.1)
                    except proton.Timeout:
                        pass
        except proton.ProtonException:
            self.ended_s = time.monotonic()


READERS: tuple[type[Reader], ...] = (Mqtt, Sse, WebSocket, Pull, Webhook, Kafka, Amqp, Amqp10)


class Scene:
    """Three nodes, everything open, and a keeper who publishes to all branches without end."""

    def __init__(self, folder: Path) -> None:
        streams = "".join(f'[[streams]]\nname = "{who}-{part}"\ncapture = ["{who}/{part}/#"]\ntopic = "{who}/{part}"\n'
                          for who in KINDS for part in PARTS)
        keeper = (f'[[users]]\nname = "keeper"\npassword_hash = "{hash_password(PASSWORD)}"\nroles = ["admin"]\n'
                  '[[policies]]\nallow = ["publish", "subscribe"]\nto = ["user:keeper"]\n')
        common = ROOT + keeper + streams + '[webhooks]\nallow = ["127.0.0.0/8"]\n'
        self.hub = Node(folder / "hub", name="hub", listeners=LISTENERS, extra=common)
        sites = [Node(folder / name, name=name, listeners=LISTENERS, extra=f'{common}[[links]]\n'
                      f'to = "ws://{HOST}:{self.hub.ports["link"]}"\ntoken = "{token}"\nadminister = true\n')
                 for name, token in TOKENS.items()]
        self.nodes = [self.hub, *sites]
        for node in self.nodes:
            node.start()
        self.admin = Admin(self.hub)
        for name, token in TOKENS.items():
            self.give_peer(name, token)
        self.versions = {path: self.admin.must_put(path, **document)["version"]
                         for path, document in self.documents().items()}
        wait_until(lambda: all(len(Admin(node).rows("policies")) >= len(self.admin.rows("policies"))
                               and self.knows_all(node) for node in self.nodes), "the documents are everywhere")
        self.receivers = [Receiver() for _ in self.nodes]
        self.readers = [make(node, who, receiver) for node, receiver in zip(self.nodes, self.receivers)
                        for who in KINDS for make in READERS]
        self._stop = threading.Event()
        self._writer = open_mqtt(self.hub.mqtt, "keeper", username="keeper", password=PASSWORD.encode())
        threading.Thread(target=self._write, daemon=True).start()

    def documents(self) -> dict[str, dict[str, Any]]:
        stored = hash_password(PASSWORD)
        found: dict[str, dict[str, Any]] = {
            f"users/{who}": {"password_hash": stored, "roles": ["reader"] if who == "role" else []}
            for who in KINDS if who != "key"}
        found["keys/till"] = {"user": "key", "key_hash": hash_key(KEY)}
        for who in KINDS:
            found[f"policies/base of {who}"] = {
                "allow": ["publish", "subscribe"], "to": [f"user:{who}"], "topics": [f"{who}/kept/#", "$queue/#"]}
            found[f"policies/taken of {who}"] = {
                "allow": ["subscribe"], "to": ["role:reader" if who == "role" else f"user:{who}"],
                "topics": [f"{who}/taken/#"]}
        return found

    def knows_all(self, node: Node) -> bool:
        return all(node.get("/v1/events", basic(who, secret(who)), listener="http").status != 401 for who in KINDS)

    def give_peer(self, name: str, token: str, version: str = "") -> str:
        return str(self.admin.must_put(f"peers/{name}", version, token=token, entrust=True)["version"])

    def _write(self) -> None:
        while not self._stop.wait(EVERY_S):
            for who in KINDS:
                for part in PARTS:
                    self._writer.publish(f"{who}/{part}/x", repr(time.monotonic()).encode())

    def of(self, kinds: tuple[str, ...]) -> list[Reader]:
        return [reader for reader in self.readers if reader.who in kinds]

    def change(self, path: str, document: dict[str, Any] | None) -> None:
        if document is None:
            answer = self.admin.ask("DELETE", path, {"version": self.versions[path]})
        else:
            answer = self.admin.put(path, self.versions[path], **document)
        assert answer.status == 200, answer.text
        self.versions[path] = "" if document is None else answer.json["version"]

    def close(self) -> None:
        self._stop.set()
        for reader in self.readers:
            reader.stopping = True
        stop_all(self.nodes)
        for receiver in self.receivers:
            receiver.shutdown()
            receiver.server_close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(tmp_path_factory.mktemp("mesh"))
    yield scene
    scene.close()
    for node in scene.nodes:
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)


def waits_for(readers: list[Reader], parts: tuple[str, ...], since_s: float, what: str) -> None:
    """Something that was published since then has come to all of them."""
    def missing() -> list[str]:
        return [f"{reader.name}: {part}" for reader in readers for part in parts if reader.came[part] <= since_s]
    wait_until(lambda: not missing(), what, also=lambda: str(missing()))


def test_everybody_reads_everything_at_first(scene: Scene) -> None:
    waits_for(scene.readers, PARTS, 0.0, "all is open")
    assert not [reader.name for reader in scene.readers if reader.ended_s]


@pytest.mark.measured
@pytest.mark.parametrize("way", ["role", "policy"])
def test_a_branch_that_is_taken_away_narrows_and_comes_again_without_reconnecting(scene: Scene, way: str) -> None:
    path = {"role": "users/role", "policy": "policies/taken of policy"}[way]
    document = scene.documents()[path]
    readers = scene.of((way,))
    scene.change(path, {**document, "roles": []} if way == "role" else None)
    asked_s = time.monotonic()
    waits_for(readers, ("kept",), asked_s + WITHIN_S + 1.0, "what is still allowed goes on")
    late = {reader.name: round(reader.came["taken"] - asked_s, 3) for reader in readers
            if reader.came["taken"] > asked_s + WITHIN_S}
    scene.change(path, document)
    again_s = time.monotonic()
    waits_for(readers, PARTS, again_s, "given back, it comes again")
    assert not late, "published a second after it was taken away, and it came"
    assert not [reader.name for reader in readers if reader.ended_s], "nobody had to reconnect"


@pytest.mark.measured
def test_a_link_whose_peer_is_taken_away_ends_and_comes_again(scene: Scene) -> None:
    version = scene.admin.ask("GET", "peers/south").json["version"]
    south = [reader for reader in scene.of(NARROWED) if reader.node.name == "south"]
    assert scene.admin.ask("DELETE", "peers/south", {"version": version}).status == 200
    asked_s = time.monotonic()
    north = [reader for reader in scene.of(NARROWED) if reader.node.name == "north"]
    waits_for(north, PARTS, asked_s + WITHIN_S + 1.0, "the others go on")
    late = max(max(reader.came.values()) for reader in south) - asked_s
    scene.give_peer("south", TOKENS["south"])
    waits_for(south, PARTS, asked_s + WITHIN_S, "it is linked again, and has what it missed")
    assert late <= WITHIN_S


@pytest.mark.measured
@pytest.mark.parametrize("way", ["user", "key"])
def test_a_login_that_is_taken_away_ends_everything(scene: Scene, way: str) -> None:
    """Last: a reader that has ended does not come back by itself."""
    readers = scene.of((way,))
    scene.change({"user": "users/user", "key": "keys/till"}[way], None)
    asked_s = time.monotonic()
    waits_for(scene.of(NARROWED), PARTS, asked_s + WITHIN_S + 1.0, "the others go on")
    lasting = [reader for reader in readers if reader.protocol != "webhook"]
    wait_until(lambda: all(reader.ended_s for reader in lasting), "all has ended",
               also=lambda: str([reader.name for reader in lasting if not reader.ended_s]))
    late = {reader.name: round(max(reader.came.values()) - asked_s, 3) for reader in readers
            if max(reader.came.values()) > asked_s + WITHIN_S}
    open_long = {reader.name: round(reader.ended_s - asked_s, 3) for reader in lasting
                 if reader.ended_s > asked_s + WITHIN_S}
    assert not late and not open_long
