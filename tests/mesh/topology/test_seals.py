"""A node that was broken into, with its own keys and links, cannot speak for another: each way of it is tried.

    plant ─ hub ─ shop      The hub is the rogue: everything that plant and shop know of each other comes by it.
"""
from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from mesh.identity.known_nodes import MeshKeys
from mesh.identity.node_key import NodeKey
from mesh.link.protocol.frames import Gossip, Relay
from mesh.topology import envelopes
from mesh.topology.envelopes import HEAD, MAGIC
from mesh.topology.linkstate.nodestate import (
    BOX,
    KEY,
    Alive,
    Change,
    LinkInfo,
    NodeChange,
    NodeInfo,
    NodeRecord,
    Whole,
    decode_entry,
    decode_record,
    encode,
)
from mesh.topology.linkstate.seals import Seals
from mesh.topology.overlay import Overlay
from mesh.topology.settings import MeshSettings
from tests.mesh.topology.net import WALL_MS, Net


class Known(dict):
    """Pins, in memory."""

    def put(self, name: str, key: bytes, by: str) -> None:
        self[name] = key

    def drop(self, name: str) -> None:
        self.pop(name, None)


class SignedNet(Net):
    """Nodes with keys that they keep over a restart; those whose name begins with old are of an earlier version."""

    def __init__(self, folder: Path, settings: MeshSettings | None = None) -> None:
        super().__init__(settings=settings)
        self.folder = folder
        self.keys: dict[str, MeshKeys] = {}
        self.pins: dict[str, Known] = {}

    def make(self, name: str, info: NodeInfo,
             clock_ms: Callable[[], int]) -> tuple[Overlay, Callable[[float], None]]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        self.keys[name] = MeshKeys(NodeKey(home))
        pins = self.pins.setdefault(name, Known())
        old = name.startswith("old")
        node = Overlay(info, lambda: self.now_s, clock_ms, random.Random(self.rng.random()), self.settings, self.after,
                       None if old else self.keys[name], None if old else pins)
        node.on_message = lambda source, body: self.messages.append((name, source, body))
        return node, node.tick

    def wipe(self, name: str) -> None:
        """A new disk under the same name."""
        self.kill(name)
        for file in (self.folder / name).iterdir():
            file.unlink()
        self.pins.pop(name)


@pytest.fixture
def net(tmp_path: Path) -> SignedNet:
    net = SignedNet(tmp_path)
    for name in ("plant", "hub", "shop"):
        net.add(name)
    net.link("plant", "hub"), net.link("hub", "shop")
    net.nodes["plant"].set_interest(("mine/#",))
    net.run(5)
    assert net.agree()
    return net


def say(net: SignedNet, *entries: bytes) -> None:
    """The hub says it to the shop."""
    net.wires[1].ends["hub"].send(Gossip(list(entries)), 1)
    net.run(0.05)


def forged(net: SignedNet, key: str, number: int = 0, **fields) -> bytes:
    """A state of the plant, signed by who has the key of `key`, "": by nobody."""
    known = net.nodes["hub"]._states.nodes["plant"]
    record = msgspec.structs.replace(
        decode_record(known.record), sequence=number or known.beat + 1_000, interest=("#",), more={}, seal=b"",
        **fields)
    return encode(Whole(0, Seals(net.keys[key], None, {}, required=False).own_record(record) if key
                        else encode(record)))


def seen(net: SignedNet) -> tuple:
    state = net.nodes["shop"]._states.nodes["plant"].state
    return state.boot, state.interest, state.links, state.site, state.streams


LIES = {
    "a state without a signature": lambda net: forged(net, ""),
    "a state that it signed itself": lambda net: forged(net, "hub"),
    "another start of the node": lambda net: forged(net, "hub", boot="boot-forged"),
    "another place": lambda net: forged(net, "", site="headquarters"),
    "a link that there is not": lambda net: forged(net, "hub", links=(LinkInfo("hub"), LinkInfo("shop"))),
}


@pytest.mark.parametrize("lie", LIES)
def test_nobody_speaks_for_another_node(net: SignedNet, lie: str) -> None:
    before = seen(net)
    for _ in range(5):
        say(net, LIES[lie](net))
        assert seen(net) == before and net.nodes["shop"].wants("stolen/x") == ()
    counts = net.nodes["shop"].counts
    assert counts["another key"] + counts["bad gossip"] == 5
    net.run(40)
    assert seen(net)[:2] == before[:2], "what the plant itself says goes on to come through"


@pytest.mark.parametrize("fields", [
    {}, {"interest": ("#",)}, {"site": "headquarters"}, {"links": (LinkInfo("hub"), LinkInfo("shop"))},
    {"boot": "boot-forged"}, {"epoch": "other"}, {"streams": ()}, {"more": {}}, {"seal": b""}, {"seal": bytes(63)}],
    ids=str)
def test_a_signature_of_something_else_is_none(net: SignedNet, fields: dict) -> None:
    """The true one of the plant, of what it said before, under another text."""
    known = net.nodes["hub"]._states.nodes["plant"]
    before = seen(net)
    record = msgspec.structs.replace(decode_record(known.record), **{"sequence": known.beat + 1, **fields})
    say(net, encode(Whole(0, encode(record))))
    assert seen(net) == before
    assert net.nodes["shop"].counts["bad gossip"] + net.nodes["shop"].counts["another key"] == 1


def test_a_change_that_the_node_has_not_signed_changes_nothing(net: SignedNet) -> None:
    known = net.nodes["shop"]._states.nodes["plant"]
    before = seen(net)
    change = NodeChange("plant", known.boot, known.version, known.beat + 5, added=("#",))
    hubs = Seals(net.keys["hub"], None, {}, required=False)
    for raw in (encode(change), hubs.own_change(change), encode(msgspec.structs.replace(change, seal=bytes(64)))):
        say(net, encode(Change(0, raw)))
        assert seen(net) == before
    assert net.nodes["shop"].counts["bad gossip"] == 3


@pytest.mark.parametrize("same_boot", [True, False])
def test_a_sign_of_life_keeps_nobody_alive_who_has_not_given_it(net: SignedNet, same_boot: bool) -> None:
    known = net.nodes["shop"]._states.nodes["plant"]
    boot, version, beat = known.boot if same_boot else "boot-forged", known.version, known.beat
    net.kill("plant")
    for step in range(8):
        say(net, encode(Alive(0, "plant", boot, version, beat + 1_000 * (step + 1), bytes(64))))
        net.run(5)
    assert "plant" not in net.nodes["shop"]._states.nodes and net.nodes["shop"].counts["bad gossip"] > 0


def test_who_pretends_on_is_cut_off(net: SignedNet) -> None:
    for _ in range(30):
        if not net.wires[1].ends:
            break
        say(net, forged(net, ""), encode(Alive(0, "plant", "b", 1, 2**41, bytes(64))))
    assert ("shop", "hub") in [(one, other) for one, other, _ in net.lies]


# -- what is handed over ---------------------------------------------------------------------------------------------

def hand_over(net: SignedNet, body: bytes, source: str = "plant") -> None:
    net.wires[1].ends["hub"].send(Relay("shop", source, 9, 2, body), 2)
    net.run(0.05)


def captured(net: SignedNet, body: bytes) -> bytes:
    """What the plant sends to the shop, as the hub sees it."""
    found: list[bytes] = []
    forward = net.nodes["hub"]._forward

    def look(peer, frame) -> None:
        found.append(frame.body)
        forward(peer, frame)

    net.nodes["hub"]._forward = look
    net.nodes["plant"].send("shop", body, 2)
    net.run(0.05)
    net.nodes["hub"]._forward = forward
    return found[0]


def test_a_message_comes_as_it_was_sent_and_has_the_mark_of_its_sender(net: SignedNet) -> None:
    wrapped = captured(net, b"events of the plant")
    assert wrapped[0] == MAGIC and wrapped[HEAD.size:] == b"events of the plant"
    assert net.messages == [("shop", "plant", b"events of the plant")]
    net.nodes["hub"].send("shop", b"its own", 2)                # a neighbour needs none: the link proves it
    net.run(0.05)
    assert net.messages[1:] == [("shop", "hub", b"its own")]


@pytest.mark.parametrize("change", [
    lambda body: b"events of the hub", lambda body: body[HEAD.size:], lambda body: body[:-1] + b"!",
    lambda body: body + b"more", lambda body: body[:1] + bytes(8) + body[9:], lambda body: body[:9] + bytes(16) +
    body[25:], lambda body: body[:20], lambda body: b"\xc1", lambda body: b""],
    ids=["its own", "bare", "changed", "longer", "another number", "another mark", "cut", "the beginning", "nothing"])
def test_nothing_is_handed_over_as_anothers(net: SignedNet, change: Callable[[bytes], bytes]) -> None:
    body = captured(net, b"events of the plant")
    del net.messages[:]
    hand_over(net, change(body))
    assert net.messages == [] and net.nodes["shop"].counts["not theirs"] == 1


def test_nothing_is_handed_over_twice_or_to_somebody_else(net: SignedNet) -> None:
    net.add("third"), net.link("hub", "third")
    net.run(5)
    body = captured(net, b"once")
    assert len(net.messages) == 1
    for _ in range(3):
        hand_over(net, body)
    net.wires[2].ends["hub"].send(Relay("third", "plant", 9, 2, body), 2)
    net.wires[0].ends["hub"].send(Relay("plant", "shop", 9, 2, body), 2)        # back to where it came from
    net.run(0.1)
    assert len(net.messages) == 1


def test_messages_overtake_each_other_and_each_comes_once(net: SignedNet) -> None:
    bodies = [captured(net, b"%d" % number) for number in range(40)]
    del net.messages[:]
    sent = [net.nodes["plant"]._envelopes.wrap(net.nodes["plant"].nodes["shop"], b"%d" % number)
            for number in range(100, 300)]
    random.Random(2).shuffle(sent)
    for body in [*sent, *bodies, *sent]:
        hand_over(net, body)
    assert sorted(int(body) for _, _, body in net.messages) == list(range(100, 300))


def test_who_makes_up_nodes_does_not_have_the_numbers_of_others_forgotten(net: SignedNet, monkeypatch) -> None:
    """hostile.md: then what they have said could be said again."""
    body = captured(net, b"once")
    del net.messages[:]
    monkeypatch.setattr(envelopes, "KNOWN_MAX", 3)
    opener = net.nodes["shop"]._envelopes
    plant = net.nodes["shop"].nodes["plant"]
    for number in range(10):
        opener.open(SimpleNamespace(name="made up", boot=f"b{number}", box=plant.box), bytes(HEAD.size))
    assert len(opener._ways) <= 3
    hand_over(net, body)
    assert net.messages == []


def test_the_words_of_an_earlier_run_are_nothing_in_the_next_one(net: SignedNet) -> None:
    body = captured(net, b"before")
    net.kill("shop")
    net.add("shop"), net.connect(net.wires[1])
    net.run(5)
    del net.messages[:]
    hand_over(net, body)
    assert net.messages == []
    net.nodes["plant"].send("shop", b"now", 2)
    net.run(0.1)
    assert net.messages == [("shop", "plant", b"now")]


# -- keys ------------------------------------------------------------------------------------------------------------

def test_a_node_that_starts_again_is_the_same_one(net: SignedNet) -> None:
    for _ in range(3):
        net.kill("plant")
        net.add("plant"), net.connect(net.wires[0])
        net.nodes["plant"].set_interest(("mine/#",))
        net.run(2)
        assert net.agree() and not net.lies


def test_a_node_that_was_made_anew_is_believed_where_it_proves_its_name_and_elsewhere_once_somebody_says_so(
        net: SignedNet) -> None:
    net.wipe("plant")
    net.add("plant"), net.connect(net.wires[0])
    net.nodes["plant"].set_interest(("new/#",))
    net.run(5)
    assert net.nodes["hub"].wants("new/x") == ("plant",)        # its link has proven it
    assert net.nodes["shop"].wants("new/x") == () and net.nodes["shop"].counts["another key"]
    assert "plant shows another key" in str(net.nodes["shop"].problems())
    assert net.nodes["shop"].seals.forget("plant")
    net.run(10)
    assert net.nodes["shop"].wants("new/x") == ("plant",) and not net.nodes["shop"].problems()
    assert net.pins["shop"]["plant"] == net.keys["plant"].public and not net.lies


@pytest.mark.parametrize("right", [True, False])
def test_at_a_link_whose_entry_names_a_key_no_other_counts(tmp_path: Path, right: bool) -> None:
    net = SignedNet(tmp_path)
    for name in ("plant", "hub", "shop"):
        net.add(name)
    net.link("hub", "shop")
    wanted = net.keys["plant" if right else "shop"].public.hex()
    up = net.nodes["hub"].neighbour_up

    def with_key(end):
        end.node_key = wanted if end.node == "plant" else ""
        return up(end)

    net.nodes["hub"].neighbour_up = with_key
    net.link("plant", "hub")
    net.run(5)
    assert ("plant" in net.nodes["hub"].nodes) is ("plant" in net.nodes["shop"].nodes) is right
    assert bool(net.nodes["hub"].counts["not the key of its entry"]) is not right
    assert ("plant shows another key" in str(net.nodes["hub"].problems())) is not right


def test_keys_are_remembered_over_a_restart_of_who_has_seen_them(net: SignedNet) -> None:
    key = net.keys["plant"].public
    net.kill("shop"), net.kill("plant")
    net.add("shop"), net.connect(net.wires[1])
    net.run(1)
    raw = Seals(net.keys["hub"], None, {}, required=False).own_record(NodeRecord(
        "plant", "boot-forged", WALL_MS + 10**9, "s", "e", "1", 1, 1, 0, links=(LinkInfo("hub"),), interest=("#",)))
    say(net, encode(Whole(0, raw)))
    assert "#" not in net.nodes["shop"]._states.nodes["plant"].state.interest \
        if "plant" in net.nodes["shop"]._states.nodes else True
    assert net.pins["shop"]["plant"] == key and net.nodes["shop"].counts["another key"] == 1


def test_earlier_versions_are_believed_until_somebody_wants_signatures(tmp_path: Path) -> None:
    for required in (False, True):
        net = SignedNet(tmp_path / str(required), MeshSettings(require_signed=required))
        net.folder.mkdir()
        for name in ("new", "old-1", "old-2", "far"):
            net.add(name)
        net.link("new", "old-1"), net.link("old-1", "old-2"), net.link("old-2", "far")
        net.run(12)
        assert set(net.nodes["new"].nodes) == (set() if required else {"old-1", "old-2", "far"})
        if required:
            assert net.nodes["new"].counts["unsigned"]
            continue
        for one, other in (("new", "far"), ("far", "old-1"), ("old-2", "new")):
            net.nodes[one].send(other, b"hello", 2)
        net.run(40)                                             # longer than a state lives without signs of life
        assert {(to, source) for to, source, _ in net.messages} == {("far", "new"), ("old-1", "far"), ("new", "old-2")}
        assert {body for _, _, body in net.messages} == {b"hello"} and not net.lies


def test_what_is_signed_comes_through_a_node_of_an_earlier_version_as_it_was(net: SignedNet) -> None:
    """Fields that it does not know: it hands on the bytes that the node itself encoded."""
    entry = decode_entry(encode(Whole(7, net.nodes["plant"]._states.nodes["plant"].record)))
    record = decode_record(entry.record)
    assert set(record.more) == {KEY, BOX} and len(record.seal) == 64
