"""Hostile peers on the link listener: each is answered with a reason where one can be given, counted, and closed.

A real link that is up does not notice, and a real one comes up afterwards.        Source: hostile.md, TLS and links
"""
from __future__ import annotations

import asyncio
import itertools
import struct
import zlib
from collections.abc import AsyncIterator

import pytest
from websockets.frames import Opcode

from mesh.link.protocol.codes import Code
from mesh.link.protocol.frames import Goodbye, Gossip, Ping, Pong, Refuse, Relay, Welcome, encode_frame
from mesh.link.settings import LinkPeerTable, LinkTable
from tests.mesh.link.nodes import LinkNode, fast_limits, until
from tests.mesh.link.rawlink import UPGRADE, RawLink, hello, raw_frame
from tests.support.wait import DEADLINE_S

SECRET = "0123456789abcdef"


@pytest.fixture
async def cloud(request: pytest.FixtureRequest) -> AsyncIterator[LinkNode]:
    """With a real neighbour that must be there, undisturbed, when the test ends, and a new one that must get in.

    The parameter, where there is one, is handshake_timeout_s.
    """
    peers = (*(LinkPeerTable(name, token=SECRET) for name in ("graz", "lyon")), LinkPeerTable("eve", token="e" * 16))
    limits = fast_limits(handshakes_max=8, gossip_rate_bytes=50_000, gossip_burst_bytes=100_000,
                         handshake_timeout_s=getattr(request, "param", 10.0))
    async with LinkNode("cloud", peers=peers, limits=limits) as node:
        port = await node.listen()
        async with LinkNode("graz", links=(LinkTable(f"ws://127.0.0.1:{port}", "l1", token=SECRET),)) as graz:
            await until(lambda: graz.overlay.up and node.overlay.up)
            yield node
            assert graz.overlay.downs == []
            assert [frame for who, frame in node.overlay.frames if who != "graz"] == []
            graz.overlay.up[0].send(Relay("cloud", "graz", 16, 3, b"real"), 3)
            await until(lambda: node.overlay.frames)
            async with LinkNode("lyon", links=(LinkTable(f"ws://127.0.0.1:{port}", "l1", token=SECRET),)) as lyon:
                await until(lambda: lyon.overlay.up)


async def come_in(cloud: LinkNode) -> RawLink:
    """A peer with a good token."""
    link = await RawLink.open(cloud.port)
    link.send(hello(token="e" * 16))
    _, data = await link.message()
    assert b"cloud" in data
    await until(lambda: any(up.node == "eve" for up in cloud.overlay.up))
    return link


@pytest.mark.parametrize(("message", "code"), [
    (raw_frame(1, 1, 1, "eve", "s", "e", "b", "1", 0, "l1", "wrong" * 5), Code.BAD_CREDENTIALS),
    (raw_frame(1, 1, 1, "eve", "s", "e", "b", "1", 0, "l1"), Code.BAD_CREDENTIALS),
    (raw_frame(1, 1, 1, "graz", "s", "e", "b", "1", 0, "l1", "e" * 16), Code.BAD_CREDENTIALS),
    (raw_frame(1, 1, 1, "nobody", "s", "e", "b", "1", 0, "l1", "e" * 16), Code.BAD_CREDENTIALS),
    (raw_frame(1, 7, 9, "eve", "s", "e", "b", "1", 0, "l1", "e" * 16), Code.PROTOCOL_VERSION),
    (raw_frame(1, 0, 0, "eve", "s", "e", "b", "1", 0, "l1", "e" * 16), Code.PROTOCOL_VERSION),
    (raw_frame(1, 1, 1, "eve\n", "s", "e", "b", "1", 0, "l1", "e" * 16), Code.BAD_FRAME),
    (raw_frame(1, 1, 1, "e" * 65, "s", "e", "b", "1", 0, "l1", "e" * 16), Code.BAD_FRAME),
    (raw_frame(1, 1), Code.BAD_FRAME),
    (raw_frame(7, "cloud", "eve", 16, 3, b"forged"), Code.UNEXPECTED_FRAME),
    (raw_frame(6, [b"state"]), Code.UNEXPECTED_FRAME),
    (raw_frame(2, 1, "eve", "s", "e", "b", "1", 0), Code.UNEXPECTED_FRAME),
    (b"\xff" * 100, Code.BAD_FRAME),
    (struct.pack(">I", 10) + b"\xdd\xff\xff\xff\xff\x01\x01\x01\x01\x01", Code.BAD_FRAME),
    (b"", Code.BAD_FRAME),
])
async def test_a_stranger_is_refused_with_a_code(cloud: LinkNode, message: bytes, code: Code) -> None:
    link = await RawLink.open(cloud.port)
    link.send_message(message)
    [answer] = await link.frames()
    assert isinstance(answer, Refuse) and answer.code == code
    link.close()
    assert cloud.manager.counters[f"ended.{code.name.lower()}"] == 1


async def test_every_no_for_credentials_has_the_same_words(cloud: LinkNode) -> None:
    answers = set()
    for node, token in (("eve", "wrong"), ("graz", "wrong"), ("nobody", "wrong"), ("eve", None)):
        link = await RawLink.open(cloud.port)
        link.send(hello(node, token=token))
        answers.add(tuple(await link.frames()))
        link.close()
    assert len(answers) == 1


@pytest.mark.parametrize("cloud", [0.5], indirect=True)
async def test_a_stranger_that_says_nothing_is_closed(cloud: LinkNode) -> None:
    for start in (b"", b"GET / HT", UPGRADE % b""):
        link = await RawLink.connect(cloud.port)
        link.writer.write(start)
        await link.ended()
        link.close()
    await until(lambda: cloud.manager.counters["ended.timeout"] >= 3)


@pytest.mark.parametrize("cloud", [0.5], indirect=True)
async def test_a_byte_now_and_then_does_not_keep_a_stranger_in(cloud: LinkNode) -> None:
    link = await RawLink.connect(cloud.port)
    async with asyncio.timeout(DEADLINE_S):
        for byte in itertools.cycle((UPGRADE % b"").removesuffix(b"\r\n")):
            if link.reader.at_eof() or link.writer.transport.is_closing():
                break
            link.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
    await link.ended()


@pytest.mark.parametrize("bytes_", [
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40_000, b"GET /" + b"a" * 200_000, b"\x16\x03\x01" + b"\x00" * 200_000,
    UPGRADE % (b"X: " + b"y" * 100_000 + b"\r\n"), b"\n" * 100_000, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    UPGRADE % b"Origin: https://evil.example\r\n", (UPGRADE % b"").replace(b"meshgate-link", b"mqtt"),
    (UPGRADE % b"").replace(b"13", b"8"), b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
])
async def test_what_is_not_the_opening_of_a_link_is_closed(cloud: LinkNode, bytes_: bytes) -> None:
    link = await RawLink.connect(cloud.port)
    link.writer.write(bytes_)
    answer = await link.ended()
    assert not answer.startswith(b"HTTP/1.1 101")
    link.close()


@pytest.mark.parametrize("length", [64 * 1024 + 1, 2**31 - 1, 2**63 - 1, 2**64 - 1])
async def test_a_declared_length_is_not_believed_before_admission(cloud: LinkNode, length: int) -> None:
    link = await RawLink.open(cloud.port)
    link.writer.write(struct.pack(">BBQ", 0x82, 0xFF, length) + b"mask")
    opcode, data = await link.message()
    assert opcode is Opcode.CLOSE and data[:2] in (struct.pack(">H", 1009), struct.pack(">H", 1002))
    link.close()


async def test_a_stranger_may_send_64_kib_in_all(cloud: LinkNode) -> None:
    link = await RawLink.open(cloud.port)
    for _ in range(600):
        link.writer.write(b"\x8a\xfd" + b"mask" + b"x" * 125)     # WebSocket pongs
    [answer] = await link.frames()
    assert isinstance(answer, Refuse) and answer.code == Code.BAD_FRAME
    link.close()


async def test_a_giant_frame_after_admission_ends_the_link(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    link.writer.write(struct.pack(">BBQ", 0x82, 0xFF, 9 * 1024 * 1024) + b"mask")
    while (await link.message())[0] is not Opcode.CLOSE:
        pass
    await until(lambda: cloud.overlay.downs)
    link.close()


async def test_a_compressed_bomb_is_not_unpacked(cloud: LinkNode) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b"\x00" * 50_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 60_000
    link = await RawLink.open(cloud.port, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    link.writer.write(struct.pack(">BBH", 0xC2, 0xFE, len(bomb) - 4) + b"\x00" * 4 + bomb[:-4])
    opcode, data = await link.message()
    assert opcode is Opcode.CLOSE and data[:2] == struct.pack(">H", 1009)
    link.close()


@pytest.mark.parametrize(("frames", "code"), [
    ((hello(token="e" * 16),), Code.UNEXPECTED_FRAME),
    ((Welcome(1, "eve", "s", "e", "b", "1", 0),), Code.UNEXPECTED_FRAME),
    ((Refuse(1),), Code.UNEXPECTED_FRAME),
])
async def test_a_neighbour_out_of_turn_gets_a_goodbye(cloud: LinkNode, frames: tuple, code: Code) -> None:
    link = await come_in(cloud)
    link.send(*frames)
    *_, last = await link.frames()
    assert isinstance(last, Goodbye) and last.code == code
    await until(lambda: cloud.overlay.downs)
    link.close()


async def test_garbage_from_a_neighbour_gets_a_goodbye(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    link.send_message(b"\x00\x00\x00\x02\xc1\xc1")
    *_, last = await link.frames()
    assert isinstance(last, Goodbye) and last.code == Code.BAD_FRAME
    link.close()


async def test_text_from_a_neighbour_gets_a_goodbye(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    link.send_message(b"hello", Opcode.TEXT)
    *_, last = await link.frames()
    assert isinstance(last, Goodbye) and last.code == Code.BAD_FRAME
    link.close()


async def test_endless_gossip_is_cut_off(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    for _ in range(500):
        link.send(Gossip([b"x" * 4_000]))
    *_, last = await link.frames()
    assert isinstance(last, Goodbye) and last.code == Code.FLOOD
    cloud.overlay.frames[:] = [pair for pair in cloud.overlay.frames if pair[0] != "eve"]
    assert cloud.link("eve:l1")["dropped_gossip"] > 100
    link.close()


async def test_pings_without_end_that_are_not_read_do_not_fill_the_memory(cloud: LinkNode) -> None:
    """Both kinds: those of the link and those of WebSocket."""
    link = await come_in(cloud)
    link.reader._transport.pause_reading()  # type: ignore[attr-defined]
    for number in range(3_000):
        link.send(*(Ping(number * 100 + i, 0) for i in range(100)))
        link.writer.write((b"\x89\xfd" + b"mask" + b"x" * 125) * 20)
        if link.writer.transport.get_write_buffer_size() > 1_000_000:
            await asyncio.sleep(0.005)
        if any(node == "eve" for node, _ in cloud.overlay.downs):
            break
    connection = cloud.manager.links["eve:l1"].connection
    if connection is not None:
        assert connection.backlog_bytes < 4_000_000
    link.close()
    await until(lambda: cloud.overlay.downs)


async def test_pongs_that_nobody_asked_for_change_nothing(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    link.send(*(Pong(2**40 + number, 2**52) for number in range(1_000)), Ping(7, 0))
    while True:
        _, data = await link.message()
        if data.endswith(b"\x93\x05\x07" + data[-9:]):
            break
    skew = cloud.link("eve:l1")["skew_ms"]
    assert skew is None or abs(skew) < 10_000
    link.close()
    await until(lambda: cloud.overlay.downs)


async def test_strangers_do_not_keep_others_out(cloud: LinkNode) -> None:
    """handshakes_max is 8 in these tests: the oldest has to go. The fixture then lets a real node in."""
    links = [await RawLink.connect(cloud.port) for _ in range(40)]
    await until(lambda: cloud.manager.counters["handshakes_evicted"] >= 32)
    assert len(cloud.manager.snapshot()) == 1
    for link in links:
        link.close()


@pytest.mark.parametrize("headers", [b"Origin: https://evil.example\r\n", b"Sec-WebSocket-Protocol: other\r\n"])
async def test_what_comes_behind_a_refused_opening_is_not_looked_at(cloud: LinkNode, headers: bytes) -> None:
    """A Hello with a good token in the same packet as the request that is refused."""
    opening = (UPGRADE % headers).replace(b"Sec-WebSocket-Protocol: meshgate-link\r\n", b"")
    link = await RawLink.connect(cloud.port)
    link.writer.write(opening)
    link.send(hello(token="e" * 16))
    answer = await link.ended()
    assert answer.startswith(b"HTTP/1.1 40") and b"cloud" not in answer
    assert all(up.node != "eve" for up in cloud.overlay.up) and cloud.overlay.downs == []
    link.close()


async def test_a_message_in_endless_pieces_ends_the_link(cloud: LinkNode) -> None:
    link = await come_in(cloud)
    link.send_message(b"", fin=False)
    for _ in range(5_000):
        link.send_message(b"", Opcode.CONT, fin=False)
    *_, last = await link.frames()
    assert isinstance(last, Goodbye) and last.code == Code.BAD_FRAME
    link.close()


async def test_a_message_in_pieces_is_taken(cloud: LinkNode) -> None:
    link = await RawLink.open(cloud.port)
    data = encode_frame(hello(token="e" * 16))
    link.send_message(data[:10], fin=False)
    link.send_message(data[10:20], Opcode.CONT, fin=False)
    link.send_message(data[20:], Opcode.CONT)
    await until(lambda: any(up.node == "eve" for up in cloud.overlay.up))
    link.close()
