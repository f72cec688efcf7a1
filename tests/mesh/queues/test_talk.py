"""Talk: in order, each once, whatever the overlay does; and what another node may not say is refused, and bounded."""
from __future__ import annotations

import random

import msgspec
import pytest

from mesh.link.protocol.frames import PRIORITY_DIRECT
from mesh.queues.messages import (
    Back,
    BadMessage,
    Done,
    Join,
    Lend,
    Reach,
    Seek,
    Want,
    decode,
    decode_frame,
    encode,
    is_of_queues,
)
from mesh.queues.shared import INBOX_MAX, PIECE
from mesh.queues.spans import ORIGINS_MAX, Spans
from mesh.queues.talk import Talk
from mesh.replication.bodies import BodyEncoder
from routing.event import Event, OriginPartition
from tests.mesh.queues.harness import three


class Pair:
    """Two ends, and a line that loses, doubles and reorders."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.line = []
        self.ends = {}
        self.heard = {"a": [], "b": []}
        for name in "ab":
            self.begin(name)

    def begin(self, name):
        other = "b" if name == "a" else "a"
        self.ends[name] = Talk(self.rng.getrandbits(40) + 1, lambda body: self.line.append((other, body)) or True,
                               lambda: self.now_s)

    def step(self, loss=0.3):
        self.now_s += 0.3
        self.rng.shuffle(self.line)
        line, self.line = self.line, []
        for name, body in line:
            for _ in range(2 if self.rng.random() < loss else 1):
                if self.rng.random() >= loss:
                    self.arrive(name, decode_frame(body))
        for talk in self.ends.values():
            talk.flush()
            talk.tick(self.now_s)

    def arrive(self, name, frame):
        talk = self.ends[name]
        if talk.begins_anew(frame):
            self.heard[name].append("anew")
        self.heard[name] += [msgspec.msgpack.decode(raw) for raw in talk.hear(frame)]


@pytest.mark.parametrize("seed", range(10))
def test_everything_comes_once_and_in_order_over_a_line_that_loses_doubles_and_reorders(seed):
    pair = Pair(seed)
    for number in range(60):
        for name in "ab":
            pair.ends[name].say(msgspec.msgpack.encode(number))
        if number % 3 == 0:
            pair.step()
    for _ in range(200):
        pair.step()
    assert pair.heard == {"a": list(range(60)), "b": list(range(60))}


@pytest.mark.parametrize("seed", range(10))
def test_a_side_that_begins_anew_is_noticed_and_what_it_says_from_then_on_comes(seed):
    pair = Pair(seed)
    for number in range(20):
        pair.ends["a"].say(msgspec.msgpack.encode(number))
        pair.ends["b"].say(msgspec.msgpack.encode(number))
        pair.step()
    for _ in range(50):
        pair.step()
    pair.begin("b")
    for number in range(100, 120):
        pair.ends["b"].say(msgspec.msgpack.encode(number))
        pair.step()
    for _ in range(100):
        pair.step()
    assert pair.heard["a"][20:] == ["anew", *range(100, 120)]
    pair.ends["a"].say(msgspec.msgpack.encode(7))
    for _ in range(50):
        pair.step()
    assert pair.heard["b"][-1] == 7


@pytest.mark.parametrize("body", [
    b"\x96\x32", b"\x91\x32", msgspec.msgpack.encode([50, 0, 0, 1, 0, []]),
    msgspec.msgpack.encode([50, 1, 0, -1, 0, []]),
    msgspec.msgpack.encode([50, 1, 0, 1, 0, [[99, "x"], 5, None]]), msgspec.msgpack.encode([50, 1, 0, 2**60, 0, [1]])])
def test_what_is_no_frame_is_counted_and_nothing_more(body):
    world, graz, lyon, _ = three()
    assert is_of_queues(body)
    lyon.do(lambda: lyon.queues.on_message("graz", body))
    world.run(1)
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(3)
    assert "graz" in lyon.queues.parts["work"].spans.members


@pytest.mark.parametrize("message", [
    [1, "work", "ana", True, -1, True], [8, "work", 2**60, 1], [11, "work", 1, [], b""],
    [11, "work", 1, [1] * 5_000, b""],
    [1, "", "ana", True, 1, True], [12, "work", ["x"]], [14, [["n", "e", "s", -1, 0]]], [99], "text", None])
def test_what_is_no_message_is_refused(message):
    with pytest.raises(BadMessage):
        decode(msgspec.Raw(msgspec.msgpack.encode(message)))


def test_a_node_that_lies_gets_nothing_that_it_was_not_to_have_and_costs_no_memory():
    world, graz, lyon, _ = three()
    for node in (graz, lyon):
        node.declare("work", "a/#")
    world.run(2)
    part = lyon.queues.parts["work"]
    body = BodyEncoder().numbered([Event("a/1", b"x" * 100) for _ in range(1_000)])

    def hear(message):
        lyon.do(lambda: lyon.queues._hear("graz", decode(msgspec.Raw(encode(message)))))

    for first in range(1, 20_000, 1_000):
        try:
            hear(Lend("work", first, [1] * 1_000, body))
        except Exception as error:
            assert "more than was asked for" in str(error)
    assert part.borrowing.count == 0, "nobody here takes any, so none was asked for"
    for _ in range(3):
        hear(Reach([("cloud", "e", "events", number, 1) for number in range(100)]))
        lyon.do(lambda: lyon.queues._hear("cloud", Reach([("graz", "e", "events", 0, 2**53)])))
    assert set(lyon.queues._reaches._nodes) == {"graz"}, "of a node that has no part nobody asks"
    hear(Done("work", list(range(1_000))))
    hear(Back("work", [(number, 5) for number in range(1_000)]))
    hear(Want("work", 2**53, 1))
    lyon.publish("a/2", "a/3")
    world.run(1)
    assert part.lenders["graz"].credit <= 1_000
    world.nodes["lyon"].edges["graz"] = type("Edge", (), {"exports": ("b/#",), "imports": ("b/#",), "prefix": ""})()
    lyon.declare("other", "a/#")
    hear(Join("other", "ana", True, 1, True))
    assert not lyon.queues.parts["other"].spans.members, "its bindings do not pass the link"



def test_much_that_is_said_at_once_is_read_a_piece_in_a_turn_and_bounded():
    world, graz, lyon, _ = three()
    world.run(1)
    heard = []
    lyon.queues._hear = lambda node, message, manages: heard.append(message.name)
    said = [f"q{number}" for number in range(6_000)]
    for name in said:
        graz.queues.say("lyon", Seek(name))
    bodies = []
    graz.queues._talks["lyon"]._send = bodies.append
    graz.queues._flush()
    for body in bodies:
        lyon.queues.on_message("graz", body)
    assert len(heard) <= PIECE
    assert sum(map(len, lyon.queues._inboxes.values())) <= INBOX_MAX + 1_000
    lyon.turn()
    assert heard == said[:len(heard)] and len(heard) < len(said)
    graz.queues._talks["lyon"]._send = lambda body: graz.overlay.send("lyon", body, PRIORITY_DIRECT)
    world.run(10)
    assert heard == said, "the others are said again"


def test_who_joins_and_leaves_over_and_over_costs_bounded_memory():
    """hostile.md 90: each time he names other partitions of his."""
    spans = Spans()
    for number in range(ORIGINS_MAX + 2_000):
        origin = OriginPartition("graz", "e", f"s{number}", 0)
        spans.begin_at(origin, 5)
        spans.end_at(origin, 9)
    assert len(spans.rows()) == ORIGINS_MAX
    assert spans.takes(Event("a", b"", origin=OriginPartition("lyon", "e", "s", 0), origin_offset=3))


def test_who_lies_fills_no_log(caplog):
    world, _, lyon, _ = three()
    world.run(1)
    lyon.declare("work", "a/#")
    for _ in range(500):
        lyon.do(lambda: lyon.queues._hear("graz", Join("work", "eve", False, 1, True)))
    assert 1 <= sum("not shared" in line for line in caplog.messages) <= 40


def test_nobody_is_asked_for_what_is_no_name_of_a_queue():
    """hostile.md 90: 10,000 names of 64 KiB were kept, and each was a line in the logs of all other nodes."""
    world, graz, lyon, _ = three()
    world.run(1)
    graz.publish("$queue/" + "n" * 256, "$queue/" + "%C3%A4" * 255)
    world.run(1)
    assert list(graz.queues.guests._sought) == ["\u00e4" * 255]
    assert not lyon.queues.counts["bad messages"]
