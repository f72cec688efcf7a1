"""can-i, simulation and the wire agree on rules that change while clients are connected, on every protocol alike.

For each of several generated sets of rules: drafted, simulated, applied, then asked and tried over MQTT, HTTP,
WebSocket (/v1/ws), AMQP 0-9-1 (pika), AMQP 1.0 (proton), Kafka (librdkafka), the console, and from another node over a
link.
"""
from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pika
import proton
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from pika.exceptions import ChannelClosedByBroker
from proton.utils import BlockingConnection, LinkDetached, SendException
from websockets.sync.client import ClientConnection, connect

from mesh.identity.users import hash_password
from tests.e2e.test_can_i_matrix import PASSWORD, USERS, Wire
from tests.support.admin import ROOT, Admin, basic
from tests.support.node import HOST, Node
from tests.support.wait import wait_until

SETS = 60 if os.environ.get("MESHGATE_SOAK") == "1" else 5
CASES = 70                  # of each set, over all protocols
LEVELS = ("orders", "plant", "ana", "bob", "x")
TOKEN = "the token of the plant"
HASH = hash_password(PASSWORD)
PEOPLE = "".join(f'[[users]]\nname = "{name}"\npassword_hash = "{HASH}"\nroles = {json.dumps(roles)}\n'
                 for name, roles in USERS.items())
# Who fetches a stream has to be allowed all that it takes, with the topic of records that name none: each of these has
# one topic or two, so that can-i can say it.
FETCHED = {name.replace("/", "."): (name,) for name in (*LEVELS, "orders/plant", "ana/x", "bob/orders", "plant/ana")}
FETCHED |= {"two.ana": ("ana/bob", "ana/plant"), "two.bob": ("bob/x", "x/bob")}
CAPTURES = {**FETCHED, **{f"rest.{name}": (f"{name}/#",) for name in LEVELS}}
STREAMS = "".join(f'[[streams]]\nname = "{name}"\ncapture = {json.dumps(topics)}\nretention = {{ age = "1h" }}\n'
                  f'topic = "{topics[0].replace("/#", "")}"\n' for name, topics in CAPTURES.items())
ACTIONS = {"mqtt": ("publish", "subscribe"), "http": ("publish", "subscribe"), "ws": ("publish", "subscribe"),
           "amqp": ("publish", "subscribe"), "amqp10": ("publish", "subscribe"),
           "kafka": ("publish", "subscribe"), "console": ("view", "administer"), "link": ("view",)}


def documents(dice: random.Random) -> list[dict[str, Any]]:
    made = []
    for number in range(16):
        levels = [dice.choice([*LEVELS, "+", "%u"]) for _ in range(dice.randrange(1, 3))]
        if dice.random() < 0.8:
            levels.append("#")
        actions = dice.sample(["publish", "subscribe", "view"], dice.randrange(1, 4))
        document: dict[str, Any] = {
            "deny" if dice.random() < 0.25 else "allow": actions,
            "to": [dice.choice(["role:till", "role:press", "role:office", "user:ana", "user:kim", "user:ana@plant",
                                "role:chief"])], "topics": ["/".join(levels)]}
        made.append({"kind": "policy", "name": f"rule {number}", "document": document})
    made.append({"kind": "policy", "name": "queues of their own", "document": {     # what AMQP binds to an exchange
        "allow": ["publish", "subscribe"], "to": ["role:authenticated"], "topics": ["$queue/#"]}})
    made.append({"kind": "role", "name": "chief", "document": {"held_by": [dice.choice(["till", "press", "office"])]}})
    return made


class AllWires(Wire):
    """The protocols that the other matrix has, and the others."""

    def __init__(self, node: Node, plant: Node, stack: contextlib.ExitStack) -> None:
        super().__init__(node, stack)
        self._plant = plant
        self._sockets: dict[str, ClientConnection] = {}
        self._amqp: dict[str, Any] = {}
        self._amqp10: dict[str, Any] = {}
        for user in USERS:
            self._sockets[user] = stack.enter_context(connect(
                f"ws://{HOST}:{node.ports['http']}/v1/ws", additional_headers=basic(user, PASSWORD)))
            self._amqp[user] = pika.BlockingConnection(pika.ConnectionParameters(
                HOST, node.ports["amqp"], credentials=pika.PlainCredentials(user, PASSWORD)))
            stack.callback(self._amqp[user].close)
            self._amqp10[user] = BlockingConnection(
                f"amqp://{user}:{quote(PASSWORD)}@{HOST}:{node.ports['amqp']}", timeout=30, allowed_mechs="PLAIN")
            stack.callback(self._amqp10[user].close)
        self.kafka_of: dict[str, Producer] = {}

    def ws(self, user: str, action: str, topic: str) -> bool:
        socket = self._sockets[user]
        if action == "publish":
            socket.send(json.dumps({"op": "publish", "id": 7, "topic": topic, "payload": "x"}))
        else:
            socket.send(json.dumps({"op": "subscribe", "id": 7, "subscription": "s", "filters": [topic]}))
        while True:
            said = json.loads(socket.recv(timeout=30))
            if said.get("id") == 7:
                break
        if action == "subscribe" and said["op"] == "subscribed":
            socket.send(json.dumps({"op": "unsubscribe", "id": 8, "subscription": "s"}))
        assert said["op"] in ("published", "subscribed") or "not-authorized" in str(said), said
        return said["op"] in ("published", "subscribed")

    def amqp(self, user: str, action: str, topic: str) -> bool:
        channel = self._amqp[user].channel()
        channel.confirm_delivery()
        try:
            if action == "subscribe":
                queue = channel.queue_declare("", exclusive=True).method.queue
                channel.queue_bind(queue, "amq.topic", topic.replace("/", "."))
                channel.queue_delete(queue)
            else:
                channel.basic_publish("amq.topic", topic.replace("/", "."), b"x")
        except ChannelClosedByBroker as error:
            assert error.reply_code == 403, error
            return False
        channel.close()
        return True

    def amqp10(self, user: str, action: str, topic: str) -> bool:
        connection, address = self._amqp10[user], f"topic://{topic}"
        try:
            if action == "publish":
                link = connection.create_sender(address)
                link.send(proton.Message(body=b"x", durable=True))
            else:
                link = connection.create_receiver(address)
        except (LinkDetached, SendException) as error:
            assert "unauthorized-access" in str(error), error
            return False
        link.close()
        return True

    def kafka(self, user: str, action: str, topic: str) -> bool:
        login = {"bootstrap.servers": f"{HOST}:{self._node.ports['kafka']}", "security.protocol": "SASL_PLAINTEXT",
                 "sasl.mechanism": "PLAIN", "sasl.username": user, "sasl.password": PASSWORD,
                 "topic.metadata.propagation.max.ms": 0}
        if action == "subscribe":
            return fetched(login, topic)
        producer = self.kafka_of.get(user)
        if producer is None:
            producer = self.kafka_of[user] = Producer({**login, "retries": 0, "linger.ms": 0})
        outcome: list[KafkaError | None] = []

        def done(error: KafkaError | None, message: Message) -> None:
            outcome.append(error)
        try:
            producer.produce(topic, b"x", on_delivery=done)
        except Exception as error:                          # known from the metadata already
            assert "AUTHORIZATION" in str(error).upper(), error
            return False
        producer.flush(30)
        error, = outcome
        assert error is None or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
        return error is None

    def console(self, user: str, action: str, topic: str) -> bool:
        path = "/api/v1/streams" if action == "view" else "/api/v1/users"
        status = self._node.get(path, basic(user, PASSWORD)).status
        assert status in (200, 403), status
        return status == 200

    def link(self, user: str, action: str, topic: str) -> bool:
        """Somebody of the plant looks at this node over the link."""
        answer = self._plant.get("/api/v1/streams?node=hub", basic(user, PASSWORD))
        assert answer.status in (200, 403), answer.text
        return answer.status == 200


def fetched(login: dict[str, Any], stream: str) -> bool:
    """A record, or word of the end: allowed. A stream that its metadata keeps from somebody is not fetched at all."""
    reader = Consumer({**login, "group.id": f"of {login['sasl.username']}", "enable.partition.eof": True})
    error: KafkaError | None
    try:
        error = reader.list_topics(stream, 30).topics[stream].error
        if error is not None:
            assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, error
            return False
        reader.assign([TopicPartition(stream, 0, 0)])
        message = reader.poll(30)
        assert message is not None, "neither a record nor an error"
        error = message.error()
    except KafkaException as raised:
        error = raised.args[0]
    finally:
        reader.close()
    assert error is None or error.code() in (
        KafkaError._PARTITION_EOF, KafkaError.TOPIC_AUTHORIZATION_FAILED), error
    return error is None or error.code() == KafkaError._PARTITION_EOF


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    peers = f'[[link_peers]]\nnode = "plant"\ntoken = "{TOKEN}"\n'
    hub = Node(folder / "hub", name="hub", listeners=("mqtt", "http", "console", "amqp", "kafka", "link"),
               extra=ROOT + PEOPLE + STREAMS + peers)
    seen = '[[policies]]\nallow = ["view"]\nto = ["role:authenticated"]\n'
    plant = Node(folder / "plant", name="plant", listeners=("http", "console", "link"), extra=ROOT + PEOPLE + seen +
                 f'[[links]]\nto = "ws://{HOST}:{hub.ports["link"]}"\ntoken = "{TOKEN}"\n')
    for node in (hub, plant):
        node.start()
    yield hub, plant
    for node in (hub, plant):
        node.kill9()


def test_can_i_simulation_and_the_wire_agree_on_every_protocol(nodes: tuple[Node, Node]) -> None:
    hub, plant = nodes
    admin = Admin(hub)
    wait_until(lambda: len(Admin(plant).rows("nodes")) == 2, "they met")
    outcomes: Counter[tuple[str, str, bool]] = Counter()
    with contextlib.ExitStack() as stack:
        wire = AllWires(hub, plant, stack)
        for number in range(SETS):
            dice = random.Random(100 + number)
            wire.kafka_of = {}                              # librdkafka remembers a refusal for minutes
            changes = documents(dice)
            assert admin.ask("PUT", "drafts/next", {"changes": changes}).status == 200
            asked = [case(dice) for _ in range(CASES)]
            foretold = [may(admin, one, draft="next") for one in asked]
            assert admin.ask("POST", "drafts/next/simulate", {"hours": 1}).status == 200
            assert admin.ask("POST", "drafts/next/apply", {}).status == 200
            for one, was in zip(asked, foretold):
                said = may(admin, one)
                did = getattr(wire, one.protocol)(one.user, one.action, one.place)
                assert said is was is did, (number, one, said, was, did)
                outcomes[one.protocol, one.action, did] += 1
    assert {protocol for protocol, _, _ in outcomes} == set(ACTIONS)
    assert all(outcomes[protocol, action, did] for protocol in ("mqtt", "http", "ws", "amqp", "amqp10", "kafka")
               for action in ACTIONS[protocol] for did in (True, False)), outcomes


class Case(NamedTuple):
    protocol: str
    user: str
    action: str
    place: str                  # the topic, or the stream
    topics: tuple[str, ...]     # the rights that it takes


def case(dice: random.Random) -> Case:
    protocol = dice.choice(list(ACTIONS))
    user, action = dice.choice(list(USERS)), dice.choice(ACTIONS[protocol])
    if protocol in ("console", "link"):
        place, topics = "", ("",)
    elif protocol == "kafka":
        place = dice.choice(list(FETCHED) if action == "subscribe" else LEVELS)
        topics = FETCHED[place]
    else:
        place = "/".join(dice.choice(LEVELS) for _ in range(dice.randrange(1, 4)))
        topics = (place,)
    return Case(protocol, user, action, place, topics)


def may(admin: Admin, one: Case, **more: str) -> bool:
    """What can-i says of all that it takes."""
    asked = {"user": f"{one.user}@plant" if one.protocol == "link" else one.user,
             "roles": [*USERS[one.user], "authenticated"], "action": one.action,
             "client_id": f"c-{one.user}" if one.protocol == "mqtt" else ""}
    return all(admin.ask("POST", "can-i", {**asked, "topic": topic, **more}).json["allowed"] for topic in one.topics)
