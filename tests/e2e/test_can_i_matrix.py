"""can-i agrees with what happens: 500 generated (user, protocol, action, topic), each asked, and tried on the wire."""
from __future__ import annotations

import contextlib
import http.client
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from mesh.identity.users import hash_password
from tests.mesh.management.test_admin import basic
from tests.support.node import HOST, Node
from tests.support.rawmqtt import PUBACK, SUBACK, RawMqtt, open_mqtt, publish_packet

CASES = 500
USERS = {"ana": ["till"], "bob": ["till", "press"], "eve": ["press"], "kim": [], "zoe": ["office"]}
LEVELS = ("orders", "plant", "ana", "bob", "c-ana", "c-bob", "x")
PASSWORD = "the same for all of them"
DENIED_MQTT = 0x87          # MQTT 5 §2.4: not authorized


def rules(dice: random.Random) -> str:
    """Random rules, allowing and denying, for users, roles and everybody, with marks."""
    text = []
    for number in range(24):
        who = dice.choice(["role:till", "role:press", "role:office", "user:ana", "user:kim", "*", "role:till"])
        levels = [dice.choice([*LEVELS, "+", "%u", "%c"]) for _ in range(dice.randrange(1, 3))]
        if dice.random() < 0.8:
            levels.append("#")
        actions = dice.sample(["publish", "subscribe"], dice.randrange(1, 3))
        word = "deny" if dice.random() < 0.2 else "allow"
        text.append(f'[[policies]]\nname = "rule-{number}"\n{word} = {json.dumps(actions)}\nto = ["{who}"]\n'
                    f'topics = ["{"/".join(levels)}"]\n')
    return "".join(text)


def config(dice: random.Random) -> str:
    digest = hash_password(PASSWORD)
    users = [f'[[users]]\nname = "{name}"\npassword_hash = "{digest}"\nroles = {json.dumps(roles)}\n'
             for name, roles in {**USERS, "root": ["admin"]}.items()]
    return "".join(users) + rules(dice)


class Wire:
    """What really happens."""

    def __init__(self, node: Node, stack: contextlib.ExitStack) -> None:
        self._node = node
        self._mqtt: dict[str, RawMqtt] = {}
        self._http = http.client.HTTPConnection(HOST, node.ports["http"], timeout=60)
        stack.callback(self._http.close)
        for user in USERS:
            self._mqtt[user] = stack.enter_context(open_mqtt(
                node.mqtt, f"c-{user}", username=user, password=PASSWORD.encode()))

    def mqtt(self, user: str, action: str, topic: str) -> bool:
        client = self._mqtt[user]
        number = client.next_id()
        if action == "publish":
            client.send(publish_packet(topic, b"x", qos=1, packet_id=number))
            return client.expect(PUBACK, packet_id=number).code != DENIED_MQTT
        answer = client.subscribe((topic, 1))
        assert answer.kind == SUBACK
        client.unsubscribe(topic)
        return DENIED_MQTT not in answer.codes

    def http(self, user: str, action: str, topic: str) -> bool:
        login = basic(user, PASSWORD)
        if action == "publish":
            self._http.request("POST", f"/v1/events/{topic}", b"x", login)
            answer = self._http.getresponse()
            answer.read()
            assert answer.status in (200, 403), answer.status
            return answer.status == 200
        reader = http.client.HTTPConnection(HOST, self._node.ports["http"], timeout=60)
        try:
            reader.request("GET", f"/v1/events?filter={topic}", headers=login)
            status = reader.getresponse().status
        finally:
            reader.close()
        assert status in (200, 403), status
        return status == 200


def test_can_i_agrees_with_what_happens_on_the_wire(tmp_path: Path) -> None:
    dice = random.Random(11)
    node = Node(tmp_path / "node", extra=config(dice)).start()
    outcomes: Counter[tuple[str, bool]] = Counter()
    try:
        with contextlib.ExitStack() as stack:
            wire = Wire(node, stack)
            console = http.client.HTTPConnection(HOST, node.ports["console"], timeout=60)
            stack.callback(console.close)
            for _ in range(CASES):
                user, protocol = dice.choice(list(USERS)), dice.choice(["mqtt", "http"])
                action = dice.choice(["publish", "subscribe"])
                topic = "/".join(dice.choice(LEVELS) for _ in range(dice.randrange(1, 4)))
                client_id = f"c-{user}" if protocol == "mqtt" else ""
                asked: dict[str, Any] = {"user": user, "roles": USERS[user], "client_id": client_id, "action": action,
                                         "topic": topic}
                console.request("POST", "/api/v1/can-i", json.dumps(asked), basic("root", PASSWORD))
                said = json.loads(console.getresponse().read())
                did = (wire.mqtt if protocol == "mqtt" else wire.http)(user, action, topic)
                assert said["allowed"] is did, (asked, protocol, said)
                outcomes[f"{protocol} {action}", did] += 1
    finally:
        node.kill9()
    assert len(outcomes) == 8 and min(outcomes.values()) >= 10, outcomes
