"""The journey of an event over three nodes and three protocols, and of one that rules kept from some; on real nodes."""
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from websockets.sync.client import ClientConnection, connect

from mesh.identity.users import hash_password
from mesh.management.journey.entries import NEW_PER_S, Entries
from routing.rights.policy import Identity
from tests.mesh.management.test_admin import basic
from tests.support.node import HOST, Node, http
from tests.support.rawmqtt import SESSION_EXPIRY, open_mqtt
from tests.support.routing import Desk
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link")
NAMES = ("admin", "sensor", "billing", "screen", "guest")
LOGIN = {name: basic(name, f"the password of {name}") for name in NAMES}
CONFIG = "\n".join(
    f'[[users]]\nname = "{name}"\npassword_hash = "{hash_password(f"the password of {name}")}"\nroles = ["{name}"]'
    for name in NAMES
) + '''
[[policies]]
name = "sensors publish"
allow = ["publish"]
to = ["role:sensor"]
topics = ["plant/#"]
[[policies]]
name = "everybody reads the plant"
allow = ["subscribe"]
to = ["role:billing", "role:screen", "role:guest"]
topics = ["plant/#"]
[[policies]]
name = "no recipes for guests"
deny = ["subscribe"]
to = ["role:guest"]
topics = ["plant/recipe/#"]
[[policies]]
allow = ["subscribe", "publish"]
to = ["role:admin"]
[[link_peers]]
node = "*"
token = "a token of the plants"
'''


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """plant ──► hub ──► cloud, with readers at the hub (REST, MQTT) and the cloud (WebSocket)."""
    folder = tmp_path_factory.mktemp("journey")

    def to(node: Node) -> str:
        return f'[[links]]\nto = "ws://{HOST}:{node.ports["link"]}"\ntoken = "a token of the plants"\n'

    cloud = Node(folder / "cloud", name="cloud", listeners=LISTENERS, extra=CONFIG)
    hub = Node(folder / "hub", name="hub", listeners=LISTENERS, extra=CONFIG + to(cloud))
    plant = Node(folder / "plant", name="plant", listeners=LISTENERS, extra=CONFIG + to(hub))
    nodes = [plant, hub, cloud]
    for node in nodes:
        node.start()
    wait_until(lambda: len(plant.get("/api/v1/nodes?filter=hops>=0", LOGIN["admin"]).json["nodes"]) == 3, "they met")
    yield nodes
    for node in nodes:
        node.kill9()


def journey(node: Node, topic: str) -> Any:
    events = node.get(f"/api/v1/browse?filter={quote(topic, safe='')}", LOGIN["admin"]).json["events"]
    event = events[-1]
    found = node.get(f"/api/v1/journey?id={event['stream']}:{event['partition']}:{event['offset']}", LOGIN["admin"])
    assert found.status == 200, found.text
    return found.json


def legs(found: Any) -> dict[str, Any]:
    return {leg["node"]: leg for leg in found["legs"]}


def readers(leg: Any) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["protocol"], row["outcome"]) for row in leg["readers"]}


def rest(node: Node, user: str, path: str, body: object, method: str = "POST") -> Any:
    answer = http(method, node.url("http", f"/v1/consumers/{path}"), json.dumps(body).encode(),
                  {"Content-Type": "application/json", **LOGIN[user]})
    assert answer.status in (200, 201), answer.text
    return answer.json


def screen(cloud: Node) -> ClientConnection:
    socket = connect(f"ws://{HOST}:{cloud.ports['http']}/v1/ws", additional_headers=LOGIN["screen"])
    socket.send(json.dumps({"op": "subscribe", "id": 1, "subscription": "s", "filters": ["plant/#"],
                            "consumer": "wall", "credit": 10}))
    return socket


def test_an_event_that_crossed_three_nodes_and_three_protocols(chain: list[Node]) -> None:
    plant, hub, cloud = chain
    rest(hub, "billing", "ledger", {"filters": ["plant/+/order"]}, "PUT")
    socket = screen(cloud)
    wait_until(lambda: set(plant.get("/api/v1/interest?topic=plant/1/order", LOGIN["admin"]).json["nodes"]) == {
        "hub", "cloud"}, "the plant knows who wants it")
    with open_mqtt(plant.mqtt, "press-7", username="sensor", password=b"the password of sensor") as client:
        client.publish_acked("plant/1/order", b"42 pieces")
    pulled: list[Any] = []

    def got() -> bool:
        pulled.extend(rest(hub, "billing", "ledger/pull", {"wait_s": 1})["events"])
        return bool(pulled)
    wait_until(got, "the hub's reader has it")
    rest(hub, "billing", "ledger/ack", {"tokens": [pulled[0]["token"]]})
    while True:
        message = json.loads(socket.recv(timeout=30))
        if message["op"] == "event":
            break

    found = legs(journey(plant, "plant/1/order"))
    entry = found["plant"]["entry"]
    assert (entry["protocol"], entry["client_id"], entry["user"], entry["rule"]) == (
        "mqtt", "press-7", "sensor", "sensors publish")
    assert {row["node"]: row["outcome"] for row in found["plant"]["destinations"]} == {"hub": "taken", "cloud": "taken"}
    assert found["hub"]["stored"]["topic"] == found["cloud"]["stored"]["topic"] == "plant/1/order"
    assert readers(found["hub"])["ledger"] == ("http", "acked")
    assert readers(found["cloud"])["wall"] == ("websocket", "in flight"), "it has not acked yet"
    socket.send(json.dumps({"op": "ack", "subscription": "s", "deliveries": [message["delivery"]]}))

    def acked() -> bool:
        return readers(legs(journey(plant, "plant/1/order"))["cloud"])["wall"] == ("websocket", "acked")
    wait_until(acked, "and now it has")
    for asked in (hub, cloud):          # the same, whichever node is asked
        other = legs(journey(asked, "plant/1/order"))
        assert other["plant"]["entry"]["rule"] == "sensors publish"
        assert readers(other["hub"])["ledger"] == ("http", "acked")
    socket.close()


def test_an_event_that_a_rule_kept_from_one_of_two_subscribers(chain: list[Node]) -> None:
    plant, hub, _ = chain
    for user in ("billing", "guest"):
        with open_mqtt(hub.mqtt, f"{user}-1", username=user, password=f"the password of {user}".encode(),
                       clean=False, values=[(SESSION_EXPIRY, 600)]) as client:
            client.subscribe(("plant/#", 1))
    with open_mqtt(hub.mqtt, "guest-2", username="guest", password=b"the password of guest") as client:
        client.subscribe(("plant/recipe/cake", 1))          # refused outright
    wait_until(lambda: "hub" in plant.get("/api/v1/interest?topic=plant/recipe/cake", LOGIN["admin"]).json["nodes"],
               "the plant knows")
    with open_mqtt(plant.mqtt, "press-7", username="sensor", password=b"the password of sensor") as client:
        client.publish_acked("plant/recipe/cake", b"flour")
    wait_until(lambda: legs(journey(plant, "plant/recipe/cake"))["hub"].get("stored"), "it has crossed")
    leg = legs(journey(plant, "plant/recipe/cake"))["hub"]
    rows = {row["name"]: row for row in leg["readers"]}
    assert rows["mqtt/billing-1"]["outcome"] in ("waiting", "behind")
    assert (rows["mqtt/guest-1"]["outcome"], rows["mqtt/guest-1"]["why"]) == ("denied", "rule no recipes for guests")
    assert [(row["client_id"], row["rule"]) for row in leg["refused"]] == [("guest-2", "no recipes for guests")]


def test_where_an_event_did_not_go_and_why(chain: list[Node]) -> None:
    plant, hub, cloud = chain
    assert plant.publish("plant/quiet", b"x", LOGIN["sensor"]).status == 200
    wait_until(lambda: legs(journey(plant, "plant/quiet"))["hub"].get("stored"), "the MQTT sessions at the hub want it")
    assert hub.publish("elsewhere/1", b"x", LOGIN["admin"]).status == 200
    found = legs(journey(hub, "elsewhere/1"))
    assert found["hub"]["entry"]["protocol"] == "http" and found["hub"]["entry"]["user"] == "admin"
    assert found["plant"]["stored"] is None and found["plant"]["why"].startswith("no match")
    assert {row["outcome"] for row in found["hub"]["destinations"]} <= {"no match", "filtered"}
    assert found["hub"]["outcomes"]["no match"] >= 2
    page = hub.get("/journey?id=" + quote(journey(hub, "elsewhere/1")["id"]), {"Accept": "text/html", **LOGIN["admin"]})
    assert page.status == 200 and "no match: nothing here wants its topic" in page.text
    for bad in ("id=x", "id=events:0:999999", ""):
        assert hub.get(f"/api/v1/journey?{bad}", LOGIN["admin"]).status in (400, 404)
    assert hub.get("/api/v1/journey/leg?origin=%7B", LOGIN["admin"]).status == 400
    cloud.kill9()
    leg = legs(journey(plant, "plant/quiet")).get("cloud")
    assert leg is None or leg["state"] != "answered" or leg["age_s"] > 0, "not as if it had just said so"
    cloud.restart()


def test_a_flood_of_client_ids_is_not_written_down_one_by_one(tmp_path: Any) -> None:
    desk = Desk(tmp_path)
    entries = Entries(desk.router, desk.router.clock_ms)
    for number in range(10 * NEW_PER_S):
        entries.note(Identity("ana", protocol="mqtt", client_id=f"client-{number}"), "a")
    assert entries.untold == 9 * NEW_PER_S
    entries.note(Identity("$node", protocol="link"), "a")
    entries.second()
    entries.note(Identity("ana", protocol="mqtt", client_id="one more"), "a")
    assert entries.untold == 9 * NEW_PER_S
