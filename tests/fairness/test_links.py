"""Links: a neighbour that is let in, doing the worst it can, and strangers by the hundred."""
from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import pytest
from websockets.frames import Frame, Opcode

from mesh.direct import encode_direct
from mesh.link.protocol.frames import Gossip, Hello, Ping, Relay, encode_frame
from mesh.replication.messages import BY_TIME, ExportAsk, Pull, RetainedAsk, Want, encode
from mesh.topology.linkstate import nodestate
from routing.event import Event
from tests.fairness.chunks import SEVERAL, many
from tests.fairness.floods import Flood
from tests.fairness.harness import BESIDE_S, grows, hold
from tests.support.node import Node

pytestmark = pytest.mark.measured

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: meshgate-link\r\n\r\n")
NODE = "test-1"
LEFT_BYTES = 40 << 20               # caches that are full then, of routes and of the tail of the log, and pieces


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Without users and link peers: whoever is on this machine may link."""
    made = Node(tmp_path_factory.mktemp("fairness"), name=NODE, listeners=("mqtt", "http", "console", "link"))
    made.start()
    try:
        for number in range(200):
            assert made.publish(f"log/{number % 50}", b"x" * 1_000).status < 300
        made.epoch = made.get("/api/v1/status").json["epoch"]
        yield made
    finally:
        made.process.kill9()


def message(*frames) -> bytes:
    data = b"".join(frame if isinstance(frame, bytes) else encode_frame(frame) for frame in frames)
    return Frame(Opcode.BINARY, data).serialize(mask=True)


HELLO = message(Hello(1, 1, "evil", "s", "e", "b", "1", 0, "l1"))


def neighbour(node: Node, chunk: bytes, **options) -> Flood:
    """101 is some 130 bytes; the Welcome comes behind it. One byte of it is enough to know that it has answered."""
    return Flood(node.address("link"), chunk, opening=UPGRADE + HELLO, opening_reply_bytes=1, **options)


def record(number: int, name: str = "evil", **fields) -> bytes:
    made = nodestate.NodeRecord(name, "b", 2_000_000_000_000 + number, "s", "e", "1", 1, 1, 0, **fields)
    return nodestate.encode(nodestate.Whole(0, nodestate.encode(made)))


def to_node(body: bytes, priority: int = 2) -> Relay:
    return Relay(NODE, "evil", 16, priority, body)


STATE = message(Gossip([record(0, links=(nodestate.LinkInfo(NODE),))]))
CHUNKS: dict[str, Callable[[Node], bytes]] = {
    "WebSocket pings": lambda node: Frame(Opcode.PING, b"").serialize(mask=True) * (SEVERAL // 6),
    "pings of the link": lambda node: message(*(Ping(n, 0) for n in range(50_000))),
    "frames nobody knows": lambda node: many(lambda n: message(struct.pack(">I", 2) + b"\x91\x63"), SEVERAL // 8),
    "hello again": lambda node: HELLO * 1_000,
    "states of ever new nodes": lambda node: many(lambda n: message(Gossip([record(
        1, f"x{n}-{i}", links=(nodestate.LinkInfo("evil"),)) for i in range(100)]))),
    "empty digests": lambda node: message(Gossip([nodestate.encode(nodestate.Digest(()))] * 4_000)) * 20,
    "ever other claims of hundreds of streams": lambda node: many(lambda n: message(Gossip([record(
        n, links=(nodestate.LinkInfo(NODE),), streams=tuple(
            nodestate.StreamInfo(f"s{n}-{i}", 100_000, ("#",)) for i in range(nodestate.STREAMS_MAX)))]))),
    "direct events": lambda node: STATE + many(lambda n: message(to_node(encode_direct(
        [Event(f"log/{n}", b"x" * 100, 1)], n + 1, 8), 1))),
    "questions for consumers": lambda node: STATE + many(lambda n: message(to_node(encode(
        ExportAsk(n, f"c{n}", "ana", 1, 5))))),
    "bad messages": lambda node: STATE + many(lambda n: message(to_node(b"\x91\x63"))),
    "pulls without end of the log": lambda node: STATE + many(lambda n: message(to_node(encode(Pull(
        n + 1, 1, True, n % 4, "events", 0, node.epoch, 1, 0, 0, 1 << 40, 1, 0, [Want("#", 0)]))))),
    "states of thousands of filters": lambda node: many(lambda n: message(Gossip([record(
        n, links=(nodestate.LinkInfo(NODE),), interest=tuple(f"a{n}/{i}" for i in range(4_000)))])), 4 * SEVERAL),
    "pulls by time": lambda node: STATE + many(lambda n: message(to_node(encode(Pull(
        n + 1, 1, True, 0, "events", 0, node.epoch, 1, 0, 0, 1 << 20, 1, 0,
        [Want(f"t/{n}/{i}", BY_TIME, since_ms=1_000_000 + n * 1_000 + i) for i in range(1_500)]))))),
    "pulls of new flows with thousands of filters": lambda node: STATE + many(lambda n: message(to_node(encode(Pull(
        n + 1, 1, True, n, "events", 0, node.epoch, 1, 0, 0, 1 << 20, 1, 0,
        [Want(f"a{n}/{i}", 0) for i in range(1_500)]))))),
    "questions for retained events": lambda node: STATE + many(lambda n: message(to_node(encode(
        RetainedAsk(n, node.epoch, "#"))))),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_a_neighbour(node, name):
    hold(node, neighbour(node, CHUNKS[name](node)), seconds=2.0)


def test_the_node_is_well_afterwards(node):
    assert node.get("/readyz").status == 200
    assert msgspec.json.decode(node.get("/api/v1/links").body)["total"] >= 1


def stranger(node: Node) -> Flood:
    """Hundreds of connections that say nothing more than Hello, without end."""
    return Flood(node.address("link"), b"x", opening=UPGRADE + HELLO, opening_reply_bytes=1, connections=200, once=True)


def test_strangers_by_the_hundred(node):
    hold(node, stranger(node), seconds=2.0)


MEMORY: dict[str, Callable[[Node], bytes]] = {
    "states of made-up nodes": lambda node: many(lambda n: message(Gossip([record(
        1, f"x{n}", links=(nodestate.LinkInfo("evil"),), interest=tuple(f"{n}/{i}" for i in range(2_000)),
        streams=tuple(nodestate.StreamInfo(f"s{i}", 1, tuple(f"{j}" for j in range(64))) for i in range(64)))])),
        16 * SEVERAL),
    "pulls of new flows": lambda node: STATE + many(lambda n: message(to_node(encode(Pull(
        n + 1, 1, True, n, "events", 0, node.epoch, 1, 0, 0, 1 << 20, 1, 0,
        [Want(f"{n}/{i}", 0) for i in range(1_500)])))), 16 * SEVERAL),
    "digests of made-up names": lambda node: many(lambda n: message(Gossip([nodestate.encode(nodestate.Digest(tuple(
        nodestate.DigestLine(f"{n}-{i}", "b", 1, 1) for i in range(nodestate.DIGEST_MAX))))]))),
    "questions": lambda node: STATE + many(lambda n: message(to_node(encode(RetainedAsk(n, node.epoch, "#"))))),
}


@pytest.mark.parametrize("name", MEMORY)
def test_what_a_neighbour_may_take_of_memory(node, name):
    """Its share, and after it left no more than what the allocator keeps in pieces for the next one."""
    grows(node, neighbour(node, MEMORY[name](node)), seconds=BESIDE_S, left=LEFT_BYTES)
