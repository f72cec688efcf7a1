"""Bytes that were gossip or a direct message: the decoders raise their own errors only, and a node stands all of it."""
from __future__ import annotations

import random

import pytest

from mesh.direct import BadDirect, decode_direct, encode_direct, events_of
from mesh.link.protocol.frames import Gossip
from mesh.topology.linkstate.nodestate import (
    Alive,
    BadState,
    Change,
    Digest,
    DigestLine,
    LinkInfo,
    NodeChange,
    NodeRecord,
    StreamInfo,
    Wanted,
    Whole,
    decode_change,
    decode_entry,
    decode_record,
    encode,
)
from routing.event import Event, Properties
from tests.mesh.topology.net import Net

RECORD = NodeRecord("n7", "boot", 5, "site", "epoch", "1", 1, 1, 0, (StreamInfo("s", 2, ("a/#", "+/b")),),
                    (LinkInfo("n0", 1, "up", 5, 100),), ("plant/+/x", "ä/#"))
CHANGE = NodeChange("n7", "boot", 5, 6, ("new/#",), ("plant/+/x",), (LinkInfo("n1"),), ())
ENTRIES = [
    encode(Whole(3, encode(RECORD))), encode(Change(3, encode(CHANGE))), encode(Alive(1, "n7", "boot", 5, 9)),
    encode(Digest((DigestLine("n7", "boot", 5, 9), DigestLine("n0", "b", 1, 1)))), encode(Wanted(("n0", "n7"))),
]
DIRECT = encode_direct([Event("a/b", b"payload", 1, "p", b"k", (("h", 1), ("g", "x")),
                              Properties(1, "t", "re/ply", b"c", "m", 3, True))], 7, 8)


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0 if out:
                out[place % len(out)] = rng.randrange(256)
            case 1:
                out[place:place] = rng.randbytes(rng.randrange(1, 6))
            case 2:
                del out[place:place + rng.randrange(1, 6)]
            case _:
                out[place:place] = rng.choice((b"\xdd", b"\xc6", b"\xdb")) + b"\x7f\xff\xff\xff"
    return bytes(out)


@pytest.mark.parametrize("seed", range(20))
def test_decoders_raise_their_own_errors_only(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        try:
            decode_entry(mutate(rng, rng.choice(ENTRIES)))
        except BadState:
            pass
        for decode, value in ((decode_record, RECORD), (decode_change, CHANGE)):
            try:
                decode(mutate(rng, encode(value)))
            except BadState:
                pass
        try:
            events_of(decode_direct(mutate(rng, DIRECT)), rng.choice(("", "prefix")))
        except BadDirect:
            pass


@pytest.mark.parametrize("seed", range(10))
def test_a_node_stands_what_was_gossip(seed: int) -> None:
    """good ─ victim ─ liar: whatever the liar sends, victim and good know each other and agree in the end."""
    rng = random.Random(seed)
    net = Net(seed)
    for name in ("good", "victim", "n0"):
        net.add(name)
    net.link("good", "victim"), net.link("victim", "n0")
    net.run(6)
    for _ in range(300):
        end = net.wires[1].ends.get("n0")
        if end is None:
            net.connect(net.wires[1])
            continue
        end.send(Gossip([mutate(rng, rng.choice(ENTRIES)) for _ in range(rng.randrange(1, 4))]), 1)
        net.run(0.01)
    net.nodes["good"].set_interest(("still/here",))
    net.run(1)
    assert net.nodes["victim"].wants("still/here") == ("good",)
    assert net.agree(["good", "victim"])
