"""Every field of everything that nodes say to each other, with the numbers, lengths and lists that hurt most.

A number that becomes a size, a shift or a loop is bounded before it is used; a list is bounded before it is made. Each
message is taken by real nodes; what it cost is looked at as CPU time and memory, whatever the nodes made of it.
"""
from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from mesh.direct import encode_direct
from mesh.link.protocol.frames import Gossip, Hello, Ping, Pong, Relay, Welcome
from mesh.link.protocol.peer import Me
from mesh.link.protocol.session import LinkSession, Phase
from mesh.link.settings import LinkLimits
from mesh.replication.bodies import BodyEncoder
from mesh.replication.messages import (
    Batch,
    Close,
    Export,
    ExportAsk,
    Problem,
    Pull,
    RetainedAsk,
    RetainedPage,
    Want,
)
from mesh.replication.positions import Moved, Position
from mesh.topology.linkstate import nodestate
from routing.event import Event, Properties
from tests.mesh.replication.harness import World
from tests.mesh.test_meshing import MeshNet

pytestmark = pytest.mark.measured

NUMBERS = (-(2**63), -1, 0, 1, 2**31, 4 * 10**10, 2**53, 2**62, 2**63 - 1, 2**64 - 1)
FRAME_BYTES = 96 * 1024                # far less than a link takes, for a short test: what matters is the ratio
CPU_S_MAX = 2.0                         # of one message, on a slow machine under tracemalloc; honest ones take 10 ms
MEMORY_MAX = 40 * FRAME_BYTES           # encoded, wrapped, carried and decoded it is there several times

encoder = msgspec.msgpack.Encoder()


def variants(value: Any) -> Iterator[Any]:
    """The value with one place changed: numbers at their ends, and lists, texts and bytes as long as a frame lets."""
    if isinstance(value, bool) or value is None:
        yield from (None, 2**63, True)
    elif isinstance(value, int):
        yield from NUMBERS
    elif isinstance(value, str):
        yield from ("", "a" * 70_000, "/".join("+" * 30_000), "a/" * 30_000 + "#", "a" * (FRAME_BYTES - 4096), "\0")
    elif isinstance(value, bytes):
        yield from (b"", b"\xff" * 50_000, b"\0" * (FRAME_BYTES - 4096), b"\x91" * 50_000)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            for other in variants(one):
                yield [*value[:index], other, *value[index + 1:]]
        yield [[]] * (FRAME_BYTES - 4096)
        if value and not isinstance(value[0], int):
            size = max(1, len(encoder.encode(value[0])))
            yield value[:1] * min(200_000, (FRAME_BYTES - 4096) // size)


def weigh(work: Callable[[], object]) -> tuple[float, int]:
    """CPU seconds and the peak of memory."""
    tracemalloc.reset_peak()
    before, started = tracemalloc.get_traced_memory()[0], time.thread_time()
    work()
    return time.thread_time() - started, tracemalloc.get_traced_memory()[1] - before


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def take_all(message: Any, take: Callable[[bytes], object]) -> int:
    taken = 0
    for variant in variants(msgspec.msgpack.decode(encoder.encode(message))):
        body = encoder.encode(variant)
        if len(body) > FRAME_BYTES:
            continue
        cpu_s, peak = weigh(lambda body=body: take(body))
        shown = repr(variant)[:300]
        assert cpu_s < CPU_S_MAX, f"{cpu_s:.2f} s: {shown}"
        assert peak < MEMORY_MAX, f"{peak} bytes: {shown}"
        taken += 1
    return taken


def records(count: int = 2) -> bytes:
    return BodyEncoder().encode([Event("a/1", b"x", 1, timestamp_ms=1, offset=offset) for offset in range(count)])


MOVED = Moved("desk", ["a/#"], [Position("graz", "e", "events", 0, 5, [1, 2], [Want("a/#", 1, 3)])], 1,
              [Want("a/#", -3, since_ms=5)])


@pytest.mark.parametrize("kind", ["pull", "batch", "problem", "close", "ask", "page", "export ask", "export", "state"])
def test_messages_of_replication(kind: str) -> None:
    world = World(1)
    graz, cloud = world.add("graz"), world.add("cloud")
    cloud.subscribe("a/#")
    world.run(1)
    graz.publish("a/1", "a/2")
    world.run(1)
    flow = next(iter(cloud.replication.intake.branches.values())).live
    epoch = graz.store.epoch
    message: Any = {
        "pull": Pull(77, 1, True, 5, "events", 0, epoch, 1, 0, 0, 1_000, 1, 0, [Want("#", 0)], [Want("x", 0, 1)],
                     ["a/#"]),
        "batch": Batch(flow.token, 1, flow.filters.version, 0, flow.expected, flow.expected + 2, 0, flow.expected + 2,
                       resolved=[("a/#", 3)], body=records()),
        "problem": Problem(flow.token, 1, "x"), "close": Close(77, True),
        "ask": RetainedAsk(5, epoch, "a/#", "a/0", ["a/#"]),
        "page": RetainedPage(5, "a/0", "a/1", 7, records(), [("events", 0)], [(0, 1)]),
        "export ask": ExportAsk(5, "desk", "ana", 1, 5), "export": Export(5, "desk", 1, True, 5, encode_state(MOVED)),
        "state": MOVED,
    }[kind]

    def take(body: bytes) -> None:
        if kind == "state":
            try:
                msgspec.msgpack.decode(body, type=Moved)
            except msgspec.MsgspecError:
                return
        for node, source in ((graz, "cloud"), (cloud, "graz")):
            node.do(lambda node=node, source=source: node.replication.on_message(source, body))
        world.run(0.002)

    assert take_all(message, take) > 5
    world.run(2)
    graz.publish("a/3")
    world.run(15)
    assert b"a/3" in {event.topic.encode() for event in cloud.replicas()}, "the honest flow goes on"


def encode_state(moved: Moved) -> bytes:
    return encoder.encode(moved)


RECORD = nodestate.NodeRecord(
    "n2", "b", 5, "site", "epoch", "1", 1, 1, 0, (nodestate.StreamInfo("s", 2, ("a/#",)),),
    (nodestate.LinkInfo("n1", 1, "up", 5, 100),), ("plant/+/x",))
CHANGE = nodestate.NodeChange("n2", "b", 5, 6, ("new/#",), ("old/#",), (nodestate.LinkInfo("n1"),), ())


@pytest.mark.parametrize("kind", ["whole", "change", "alive", "digest", "wanted", "record", "told change", "direct"])
def test_gossip_and_direct_messages(kind: str, tmp_path: Any) -> None:
    net = MeshNet(tmp_path)
    net.line(3)
    net.run(4)
    event = Event("a/b", b"payload", 1, "p", b"k", (("h", 1), ("g", "x")), Properties(1, "t", "re/ply", b"c", "m", 3))
    message: Any = {
        "whole": nodestate.Whole(3, encoder.encode(RECORD)), "change": nodestate.Change(3, encoder.encode(CHANGE)),
        "alive": nodestate.Alive(1, "n2", "b", 5, 9), "wanted": nodestate.Wanted(("n0", "n2")),
        "digest": nodestate.Digest((nodestate.DigestLine("n0", "b", 5, 9), nodestate.DigestLine("n1", "b", 1, 1))),
        "record": RECORD, "told change": CHANGE, "direct": msgspec.msgpack.decode(encode_direct([event], 7, 8)),
    }[kind]
    wrap = {"record": lambda body: encoder.encode([1, 0, body]),
            "told change": lambda body: encoder.encode([2, 0, body])}

    def take(body: bytes) -> None:
        end = net.wires[1].ends.get("n2")
        if end is None:
            net.connect(net.wires[1])
        elif kind == "direct":
            end.send(Relay("n1", "n2", 16, 2, body), 2)
        else:
            end.send(Gossip([wrap.get(kind, bytes)(body)]), 1)
        net.run(0.002)

    assert take_all(message, take) > 5
    net.nodes["n0"].set_interest(("still/here",))
    net.run(60)
    assert net.nodes["n1"].wants("still/here") == ("n0",)


@pytest.mark.parametrize("frame", [
    Hello(1, 1, "graz", "s", "e", "b", "0.1", 5, "l1", "token", ("x",), 3, 65_536),
    Welcome(1, "lyon", "s", "e", "b", "0.1", 1, ("x",)), Ping(5, 5), Pong(1, 2), Gossip([b"state"]),
    Relay("lyon", "graz", 16, 3, b"body"),
], ids=lambda frame: type(frame).__name__)
def test_frames_of_a_link(frame: Any) -> None:
    def take(body: bytes) -> None:
        for opening in (isinstance(frame, Hello), False):
            session = LinkSession(Me("lyon", "s", "e", "b", "0.1"), LinkLimits(), lambda peer, token: None, 0.0)
            if isinstance(frame, Welcome):
                session.dial("l1", None, 1, 0)
            elif not opening:
                session.phase = Phase.UP
            session.receive(len(body).to_bytes(4, "big") + body, 0.0, 0)
            session.tick(1.0, 0)
            session.state(1.0)
            while session.message(1.0):
                pass

    assert take_all(frame, take) > 5
