"""A message of every type and section comes out byte for byte: on another node, after kill -9 of both."""
from __future__ import annotations

import struct

import pytest

from protocols.amqp.codec import performatives as p
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import split
from tests.protocols.amqp.raw import Raw, data
from tests.support.node import HOST, Node
from tests.support.wait import wait_until


def section(code, raw):
    return b"\x00\x53" + bytes((code,)) + raw


def number(value):
    return struct.pack(">I", value)


# Every constructor of AMQP 1.0 §1.6, in every encoding that there is
PRIMITIVES = [
    b"\x40", b"\x41", b"\x42", b"\x56\x00", b"\x56\x01", b"\x50\xff", b"\x60\xff\xfe", b"\x70\xff\xff\xff\xff",
    b"\x52\x07", b"\x43", b"\x80" + b"\xff" * 8, b"\x53\x07", b"\x44", b"\x51\x80", b"\x61\x80\x00",
    b"\x71\x80\x00\x00\x00", b"\x54\x80", b"\x81\x80" + bytes(7), b"\x55\x80", b"\x72\x7f\x80\x00\x00",
    b"\x72\x7f\xc0\x00\x01", b"\x82\xff\xf0" + bytes(6), b"\x82\x7f\xf8" + bytes(5) + b"\x01",
    b"\x74\x22\x50\x00\x01", b"\x84" + bytes(range(8)), b"\x94" + bytes(range(16)), b"\x73\x00\x01\xf6\x00",
    b"\x83\xff" + bytes(7), b"\x98" + bytes(range(16)), b"\xa0\x02\x00\xff", b"\xb0\x00\x00\x00\x01x",
    b"\xa1\x02\xc3\xa4", b"\xb1\x00\x00\x00\x01x", b"\xa3\x01s", b"\xb3\x00\x00\x00\x01s",
    b"\x45", b"\xc0\x02\x01\x40", b"\xd0" + number(5) + number(1) + b"\x41",                    # lists,
    b"\xc1\x01\x00", b"\xd1" + number(4) + number(0), b"\xc1\x05\x02\xa1\x01k\x40",             # maps,
    b"\xe0\x04\x02\x50\x01\x02", b"\xf0" + number(7) + number(2) + b"\x50\x01\x02",            # arrays,
    b"\xe0\x02\x00\x40", b"\xe0\x07\x02\x00\x53\x05\x50\x01\x02",
    b"\x00\xa3\x03a:b\xa1\x01x", b"\x00\x80" + bytes(7) + b"\x09\x45"]                         # described
SIMPLE_COUNT = 35
EVERYTHING = b"\xd0" + number(4 + sum(map(len, PRIMITIVES))) + number(len(PRIMITIVES)) + b"".join(PRIMITIVES)


def table(pairs):
    raw = b"".join(name + value for name, value in pairs)
    return b"\xd1" + number(4 + len(raw)) + number(2 * len(pairs)) + raw


ANNOTATIONS = section(0x72, table([(b"\xa3\x05x-all", EVERYTHING), (b"\x80" + b"\xff" * 8, b"\x40")]))
PROPERTIES = section(0x73, encode([b"\x01binary id", None, "topic://elsewhere", "subject", "topic://back", 7]))
SIMPLE = [(b"\xa1\x02%02d" % index, value) for index, value in enumerate(PRIMITIVES[:SIMPLE_COUNT])]
APPLICATION = section(0x74, table(SIMPLE))
FOOTER = section(0x78, table([(b"\xa3\x03x-f", EVERYTHING)]))
BODIES = {
    "value": section(0x77, EVERYTHING), "text": section(0x77, b"\xa1\x04text"), "null": section(0x77, b"\x40"),
    "one data": section(0x75, b"\xb0\x00\x00\x00\x03\x00\xff!"), "three data": section(0x75, b"\xa0\x01a") * 3,
    "sequences": section(0x76, EVERYTHING) + section(0x76, b"\x45"), "none": b"",
    "empty data": section(0x75, b"\xa0\x00")}
MESSAGES = {name: ANNOTATIONS + PROPERTIES + APPLICATION + body + FOOTER for name, body in BODIES.items()}
MESSAGES["only a body"] = section(0x77, EVERYTHING)
MESSAGES["sections by name"] = b"\x00\xa3\x11amqp:amqp-value:*\xa1\x01x"


@pytest.fixture
def nodes(tmp_path):
    graz = Node(tmp_path / "graz", name="graz", site="graz", listeners=("amqp", "link", "console"))
    lyon = Node(tmp_path / "lyon", f'[[links]]\nto = "ws://{HOST}:{graz.ports["link"]}"\n', name="lyon", site="lyon",
                listeners=("amqp", "link", "console"))
    for node in (graz, lyon):
        node.start()
    yield graz, lyon
    for node in (graz, lyon):
        node.kill9()


def opened(node, container):
    raw = Raw(node.ports["amqp"], container=container)
    raw.begin()
    return raw


def subscribe(node, credit):
    raw = opened(node, "reader")
    raw.receiver("topic://full/#", credit=credit, name="all", durable=2, expiry_policy="never")
    return raw


def test_every_type_and_section_on_another_node_after_kill_9_of_both(nodes):
    graz, lyon = nodes
    reader = subscribe(lyon, 100_000)
    sender = opened(graz, "sender")
    sender.sender("topic://full/x")
    count = 0

    def probe():
        """Until lyon's wish has come to graz."""
        nonlocal count
        sender.transfer(count, data(b"probe"), settled=True)
        count += 1
        reader.socket.settimeout(0.3)
        try:
            return reader.delivery()
        except TimeoutError:
            return None

    wait_until(probe, "the link carries what lyon wants")
    reader.socket.close()
    header = section(0x70, encode([True]))
    for message in MESSAGES.values():
        sender.transfer(count, header + message)
        assert isinstance(sender.expect(p.Disposition).state, p.Accepted)
        count += 1
    graz.kill9()                                        # accepted is on disk, and goes on from there
    graz.restart()
    first = read(subscribe(lyon, 1_000))                # and answers nothing
    lyon.kill9()
    lyon.restart()
    second = read(subscribe(lyon, 1_000))
    for (name, sent), one, again in zip(MESSAGES.items(), first, second):
        assert one == sent, name
        assert again == sent, name


def read(reader):
    """All but the probes, without what is for the next hop only."""
    found = []
    while len(found) < len(MESSAGES):
        message = reader.delivery()[1]
        bare = message[split(message).bare:]
        if bare != data(b"probe"):
            found.append(bare)
    return found
