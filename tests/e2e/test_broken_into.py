"""A node that was broken into. Who did it has its data directory with its key, its configuration with its secret, and
its link; he speaks for it, and cannot speak for another, have or bring what it may not, or say who may do what.

    plant ──► hub ◄── shop ◄── far          the hub lets orders/graz/# leave for the plant, and the same come from it
"""
from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.administration import messages as documents
from mesh.administration.documents import Stored
from mesh.direct import encode_direct
from mesh.identity.known_nodes import MeshKeys
from mesh.identity.node_key import NodeKey
from mesh.link.protocol.frames import Gossip, Relay, decode_message
from mesh.replication.messages import Batch
from mesh.replication.messages import encode as encode_replication
from mesh.topology.linkstate.nodestate import Alive, LinkInfo, NodeRecord, Whole, encode
from mesh.topology.linkstate.seals import Seals
from routing.event import Event
from tests.mesh.link.rawlink import RawLink, hello
from tests.support.admin import ROOT, ROOT_LOGIN, Admin
from tests.support.node import HOST, Node, stop_all
from tests.support.rawmqtt import NotReceived, RawMqtt, open_mqtt
from tests.support.wait import wait_until

LISTENERS = ("mqtt", "http", "console", "link")
TOKEN = "the secret of the plant"
OTHER = "the secret of the others"
LOGIN: dict[str, Any] = {"username": "root", "password": b"the admin password"}
COMMON = ROOT + ('[[policies]]\nallow = ["publish", "subscribe"]\nto = ["role:admin"]\n'
                 '[[streams]]\nname = "orders"\ncapture = ["orders/#"]\n'
                 '[[streams]]\nname = "events"\ncapture = ["nothing"]\n')
MINE, OTHERS = "orders/graz/1", "orders/wien/1"


def peer(node: str, token: str, more: str = "") -> str:
    return f'[[link_peers]]\nnode = "{node}"\ntoken = "{token}"\n{more}'


def link(to: Node, token: str) -> str:
    return f'[[links]]\nto = "ws://{HOST}:{to.ports["link"]}"\ntoken = "{token}"\n'


class Mesh:
    def __init__(self, folder: Any) -> None:
        borders = 'export = ["orders/graz/#"]\nimport = ["orders/graz/#"]\n'
        self.hub = Node(folder / "hub", name="hub", listeners=LISTENERS,
                        extra=COMMON + peer("plant", TOKEN, borders) + peer("shop", OTHER))
        self.shop = Node(folder / "shop", name="shop", listeners=LISTENERS,
                         extra=COMMON + peer("far", OTHER) + link(self.hub, OTHER))
        self.far = Node(folder / "far", name="far", listeners=LISTENERS, extra=COMMON + link(self.shop, OTHER))
        self.plant = Node(folder / "plant", name="plant", listeners=LISTENERS, extra=COMMON + link(self.hub, TOKEN))
        self.nodes = [self.hub, self.shop, self.far, self.plant]
        for node in self.nodes:
            node.start()
        wait_until(lambda: all(len(Admin(node).rows("nodes")) == 4 for node in self.nodes), "they met")

    def seen(self, at: Node, name: str) -> dict[str, Any] | None:
        rows = at.get("/api/v1/nodes", ROOT_LOGIN).json["nodes"]
        return next((row for row in rows if row["name"] == name and row["hops"] is not None), None)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path_factory.mktemp("broken-into"))
    yield mesh
    stop_all(mesh.nodes)
    for node in mesh.nodes:
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(60)


def reader(node: Node) -> RawMqtt:
    client = open_mqtt(node.mqtt, f"reader-{node.name}", **LOGIN)
    client.subscribe(("#", 1))
    return client


def topics(client: RawMqtt, until: str) -> list[str]:
    """All that comes, up to an event of that topic."""
    found: list[str] = []
    while until not in found:
        found.append(client.message().topic)
    return found


@pytest.mark.parametrize("publisher", ["hub", "shop", "far"])
def test_it_asks_for_everything_and_gets_what_it_may(mesh: Mesh, publisher: str) -> None:
    """Its interest is #. What the shop and the far one publish passes by the hub, which alone has the border."""
    node: Node = getattr(mesh, publisher)
    with reader(mesh.plant) as client:
        wait_until(lambda: "#" in str(node.get("/api/v1/interest", ROOT_LOGIN).json), "its interest is known")
        for number in range(5):
            for topic in (OTHERS, f"live/{number}", MINE):
                assert node.publish(topic, b"x", ROOT_LOGIN).status == 200
        assert node.publish("orders/graz/last", b"x", ROOT_LOGIN).status == 200
        found = topics(client, "orders/graz/last")
        time.sleep(0.3)                             # what is not stored may come a little later
        assert set(found) == {MINE, "orders/graz/last"} and client_is_quiet(client)


def client_is_quiet(client: RawMqtt) -> bool:
    try:
        client.message(deadline_s=0.2)
    except NotReceived:
        return True
    return False


@pytest.mark.parametrize("node", ["hub", "shop", "far"])
def test_what_it_may_not_bring_comes_to_nobody(mesh: Mesh, node: str) -> None:
    with reader(getattr(mesh, node)) as client:
        wait_until(lambda: "#" in str(mesh.plant.get("/api/v1/interest", ROOT_LOGIN).json), "they want everything")
        time.sleep(0.3)
        for topic in (OTHERS, "live/1", MINE, "orders/graz/last"):
            assert mesh.plant.publish(topic, b"x", ROOT_LOGIN).status == 200
        assert set(topics(client, "orders/graz/last")) == {MINE, "orders/graz/last"}


class Rogue:
    """The plant from here on: its key, its name, its secret."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.boot = "boot-of-the-rogue"
        self.seals = Seals(MeshKeys(NodeKey(mesh.plant.data)), None, Counter(), required=False)
        self.heard = b""
        self.link: RawLink

    async def open(self) -> None:
        self.link = await RawLink.open(self.mesh.hub.ports["link"])
        self.link.send(hello("plant", token=TOKEN, boot=self.boot, site="site", epoch="e"))
        self._reading = asyncio.get_running_loop().create_task(self._read())
        self.say(self.state("plant", self.boot))

    async def _read(self) -> None:
        while True:
            _, data = await self.link.message()
            try:
                self.heard += b"".join(frame.body for frame in decode_message(data) if isinstance(frame, Relay))
            except Exception:
                return

    def state(self, name: str, boot: str, *, signed: bool = True) -> bytes:
        record = NodeRecord(name, boot, int(time.time() * 1000) + 5_000, "site", "e", "1", 1, 1, 0,
                            links=tuple(LinkInfo(one) for one in ("hub", "shop", "far", "plant") if one != name),
                            interest=("stolen/#",))
        return encode(Whole(0, self.seals.own_record(record) if signed else encode(record)))

    def say(self, *states: bytes) -> None:
        self.link.send(Gossip(list(states)))

    def send(self, to: str, source: str, body: bytes) -> None:
        self.link.send(Relay(to, source, 9, 2, body))


EVIL = Stored("user", "mallory", {"roles": ["admin"]}, 9, "plant", {"plant": 9}, "mallory")


def test_it_speaks_for_nobody_else_and_rewrites_nothing(mesh: Mesh) -> None:
    """Last: the plant is not a node any more, but who broke into it."""
    mesh.plant.kill9()
    with reader(mesh.hub) as at_hub, reader(mesh.far) as at_far:
        asyncio.run(attack(mesh, at_hub, at_far))
    rows = Admin(mesh.hub).rows("audit")
    assert {row["act"] for row in rows if row["user"] == "@plant" and row["outcome"] == "denied"} == {
        "documents.taken", "documents.given"}
    assert not [row for row in Admin(mesh.hub).rows("users") if row["name"] == "mallory"]


async def attack(mesh: Mesh, at_hub: RawMqtt, at_far: RawMqtt) -> None:
    before = {name: mesh.seen(mesh.hub, name) for name in ("shop", "far")}
    rogue = Rogue(mesh)
    await rogue.open()
    await until(lambda: (mesh.seen(mesh.hub, "plant") or {}).get("boot") == rogue.boot)     # for the plant it speaks

    for name in ("shop", "far", "hub"):             # for others: as itself, as somebody else, as nobody
        known = before.get(name) or {"boot": "b", "sequence": 1}
        rogue.say(rogue.state(name, str(known["boot"])), rogue.state(name, "boot-forged"),
                  rogue.state(name, "boot-forged", signed=False),
                  encode(Alive(0, name, str(known["boot"]), int(known["sequence"]), int(time.time() * 1000) + 9_000)))
    for source in ("far", "shop", "hub"):           # what others would have sent
        for to in ("hub", "far"):
            rogue.send(to, source, encode_direct([Event("orders/graz/forged", b"x")], 7, 1))
            rogue.send(to, source, encode_replication(Batch(1, 1, 1, 1, 0, 9, 0, 9)))
    for body in (documents.Have("00"), documents.ListPlease(), documents.Want([("user", "root")]),
                 documents.Documents([documents.told(EVIL)])):
        rogue.send("hub", "plant", documents.encode(body))
    rogue.send("hub", "plant", encode_direct([Event("orders/graz/own", b"x")], 7, 2))
    await until(lambda: "orders/graz/own" in [packet.topic for packet in at_hub.pending] or not client_is_quiet(at_hub))
    await asyncio.sleep(1.0)

    for node in (mesh.hub, mesh.shop, mesh.far):
        for name in ("shop", "far", "hub"):
            seen = mesh.seen(node, name)
            assert seen is not None and seen["boot"] != "boot-forged", (node.name, name)
        assert "stolen" not in str([row for row in node.get("/api/v1/interest", ROOT_LOGIN).json["interest"]
                                    if row["node"] != "plant"])
    assert not [packet.topic for client in (at_hub, at_far) for packet in client.pending
                if getattr(packet, "topic", "") == "orders/graz/forged"]
    assert client_is_quiet(at_far)
    assert b"password" not in rogue.heard and b"argon2" not in rogue.heard
    counts = mesh.hub.get("/api/v1/mesh/gossip", ROOT_LOGIN).json["counts"]
    assert counts["another key"] >= 2 and counts["bad gossip"] >= 1 and counts["forged"] >= 1
    rogue.link.close()


async def until(condition: Any) -> None:
    deadline_s = time.monotonic() + 20
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline_s, "not in time"
        await asyncio.sleep(0.05)
