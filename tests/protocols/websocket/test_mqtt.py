"""MQTT over WebSocket on a listening server, with the real MQTT server behind it: hostile.md rows 33 and 71–75."""
from __future__ import annotations

import asyncio
import socket
import time

import pytest

from protocols.mqtt.server import MqttServer
from protocols.mqtt.settings import MqttSettings
from protocols.websocket.mqtt import MqttOverWebSocket
from protocols.websocket.settings import WebSocketSettings
from routing.event import Event
from tests.protocols.rest.stand import eventually, stand
from tests.support.wait import DEADLINE_S

from .ws_client import CONNECT, KEY, PINGREQ, PINGRESP, Ws, masked, publish, subscribe


def mqtt(settings=None, mqtt_settings=None):
    """A factory of the upgrade endpoint for stand(websocket=…)."""
    def make(it):
        it.mqtt = MqttServer(it.router, it.authenticator, mqtt_settings or MqttSettings())
        return MqttOverWebSocket(it.mqtt, settings or WebSocketSettings(), time.monotonic, it.router.turns)
    return make


class Echo:
    """A ConnectionFactory whose handlers give back what they get, and write down what they are told."""

    def __init__(self):
        self.handlers = []

    def connection(self, channel, now_s):
        self.handlers.append(EchoHandler(channel))
        return self.handlers[-1]


class EchoHandler:
    def __init__(self, channel):
        self.channel = channel
        self.received = 0
        self.calls = []
        self.answer = True

    def receive_data(self, data, now_s):
        self.received += len(data)
        if self.answer:
            self.channel.write(data)

    def eof(self):
        self.calls.append("eof")

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


def echo(it):
    it.echo = Echo()
    return MqttOverWebSocket(it.echo, WebSocketSettings(close_timeout_s=1.0), time.monotonic, it.router.turns)


@pytest.mark.parametrize("path", ["/mqtt", "/"])
async def test_a_client_connects_publishes_and_subscribes(tmp_path, path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await Ws.open(it, path)
        assert ws.status == 101
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in ws.head
        assert b"Sec-WebSocket-Protocol: mqtt\r\n" in ws.head
        assert b"Sec-WebSocket-Extensions" not in ws.head
        await ws.connect()
        ws.writer.write(masked(2, subscribe("a/#")))
        assert (await ws.frame())[1][0] == 0x90
        ws.writer.write(masked(2, publish("a/b", b"hello")))
        got = (await ws.frame())[1]
        while b"hello" not in got or b"\x40" not in got:
            got += (await ws.frame())[1]
        assert it.router.streams.by_name["events"].partitions[0].event(0).payload == b"hello"
        assert it.websocket.counters.snapshot()["connections"] == 1
        ws.close()
        await eventually(lambda: it.websocket.counters.connections == 0 and not it.mqtt.connections, "it is gone")


async def test_packets_may_be_cut_and_joined_anywhere(tmp_path):
    """[MQTT-6.0.0-2]: frames do not need to line up with packets."""
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await Ws.open(it)
        ws.writer.write(masked(2, CONNECT[:5], final=False) + masked(9, b"mid") + masked(0, CONNECT[5:9]))
        assert await ws.frame() == (10, b"mid")
        ws.writer.write(masked(2, CONNECT[9:] + PINGREQ + PINGREQ[:1]))
        ws.writer.write(masked(2, PINGREQ[1:]))
        got = b""
        while not got.endswith(PINGRESP * 2):
            got += (await ws.frame())[1]
        assert got[0] == 0x20
        ws.close()


async def test_frames_that_come_with_the_handshake_are_not_lost(tmp_path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await Ws.open(it, first=masked(2, CONNECT))
        assert (await ws.frame())[1][0] == 0x20
        ws.close()


@pytest.mark.parametrize("changed, status", [
    ({"Sec_WebSocket_Protocol": None}, 400), ({"Sec_WebSocket_Protocol": "chat"}, 400),       # row 33, [MQTT-6.0.0-3]
    ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),                     # row 75
    ({"Sec_WebSocket_Key": "x"}, 400), ({"Sec_WebSocket_Key": None}, 400), ({"Sec_WebSocket_Version": "12"}, 426),
    ({"Upgrade": None}, 426), ({"Connection": "close"}, 426),
])
async def test_bad_handshakes_are_problems(tmp_path, changed, status):
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await Ws.open(it, **changed)
        assert ws.status == status
        assert b"application/problem+json" in ws.head
        if status == 426:
            assert b"Upgrade: websocket\r\n" in ws.head or b"Sec-WebSocket-Version: 13\r\n" in ws.head
        assert it.websocket.counters.refused[status] == 1
        assert not it.mqtt.connections
        ws.close()


@pytest.mark.parametrize("version, lines, status", [
    ("1.1", "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket", 101),
    ("1.1", "Connection: Upgrade\r\nUpgrade: websocket, foo", 101),
    ("1.1", "Connection: Upgrade\r\nUpgrade: foo\r\nUpgrade: websocket", 101),
    ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat", 101),
    ("1.0", "Connection: Upgrade\r\nUpgrade: websocket", 426),
])
async def test_lists_of_a_handshake_may_come_in_many_lines(tmp_path, version, lines, status):
    async with stand(tmp_path, websocket=mqtt()) as it:
        reader, writer = await it.connect()
        writer.write(f"GET /mqtt HTTP/{version}\r\nHost: localhost\r\n{lines}\r\nSec-WebSocket-Version: 13\r\n"
                     f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
        assert head.startswith(f"HTTP/{version} {status} ".encode()), head
        if status == 101:
            writer.write(masked(2, CONNECT))                    # and the connection is one of frames from there on
            assert (await asyncio.wait_for(reader.readexactly(3), DEADLINE_S))[2] == 0x20
        writer.close()


async def test_allowed_origins(tmp_path):
    settings = WebSocketSettings(allowed_origins=("https://app.example",))
    async with stand(tmp_path, websocket=mqtt(settings)) as it:
        for origin, status in (("https://app.example", 101), (f"http://127.0.0.1:{it.port}", 101),
                               ("http://app.example", 403), (f"http://127.0.0.1:{it.port + 1}", 403)):
            ws = await Ws.open(it, Origin=origin)
            assert ws.status == status, origin
            ws.close()


@pytest.mark.parametrize("frame, code", [
    (b"\x82\x02hi", 1002), (masked(2, b"hi", rsv=0x40), 1002), (masked(9, b"", final=False), 1002),     # row 71
    (masked(9, b"x" * 126), 1002), (masked(3), 1002), (masked(0, b"x"), 1002),
    (masked(8, b"\x03\xe8\xff"), 1007),                                                               # row 72
    (masked(1, b"\xff"), 1003), (masked(1, b"hi"), 1003),                                             # row 33
    (masked(2, length=(1 << 21) + 1) + b"x" * (4 << 20), 1009), (masked(2, length=(1 << 63) - 1), 1009),  # row 73
], ids=["unmasked", "RSV1", "fragmented ping", "ping of 126", "opcode 3", "stray continuation", "close not UTF-8",
        "text not UTF-8", "text", "oversize and sent", "oversize"])
@pytest.mark.parametrize("connected", [False, True], ids=["before CONNECT", "after CONNACK"])
async def test_violations_close_with_their_code(tmp_path, caplog, frame, code, connected):
    async with stand(tmp_path, websocket=mqtt()) as it:
        other = await (await Ws.open(it)).connect()
        ws = await Ws.open(it)
        if connected:
            ws.writer.write(masked(2, CONNECT.replace(b"\x02ws", b"\x02w2")))
            assert (await ws.frame())[1][0] == 0x20
        ws.writer.write(frame)
        assert await ws.close_code() == code
        assert it.websocket.counters.closed_for[code] == 1
        await eventually(lambda: len(it.mqtt.connections) == 1, "the MQTT side is gone")
        other.writer.write(masked(2, PINGREQ))
        assert await other.frame() == (2, PINGRESP)
        other.close()
        ws.close()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_compressed_bomb_is_refused_because_no_extension_is_agreed(tmp_path):
    """Row 74: permessage-deflate is offered by the client and not taken up, so its frames break the protocol."""
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await Ws.open(it, Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        assert ws.status == 101 and b"Extensions" not in ws.head
        ws.writer.write(masked(2, b"\x00" * 1000, rsv=0x40))
        assert await ws.close_code() == 1002
        ws.close()


async def test_a_good_close_is_answered(tmp_path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        for payload, code in ((b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000), (b"", 1000)):
            ws = await (await Ws.open(it)).connect()
            ws.writer.write(masked(8, payload))
            assert await ws.close_code() == code
            await eventually(lambda: not it.mqtt.connections, "the MQTT side is gone")
            ws.close()


async def test_mqtt_that_closes_closes_the_websocket(tmp_path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await (await Ws.open(it)).connect()
        ws.writer.write(masked(2, b"\xe0\x00"))         # DISCONNECT
        opcode, payload = await ws.frame()
        assert (opcode, payload[:2]) == (8, b"\x03\xe8")
        ws.writer.write(masked(8, payload))
        assert await asyncio.wait_for(ws.reader.read(), DEADLINE_S) == b""
        ws.close()


async def test_a_peer_that_does_not_answer_a_close_is_cut_off(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it)
        await eventually(lambda: it.echo.handlers, "the handler is there")
        handler = it.echo.handlers[0]
        handler.channel.close()
        handler.channel.close()
        assert handler.calls == [], "eof comes later, never from within close"
        await eventually(lambda: handler.calls == ["eof"], "eof, once")
        assert (await ws.frame())[0] == 8
        ws.writer.write(masked(2, b"ignored"))
        await eventually(lambda: it.websocket.counters.connections == 0, "cut off")
        assert handler.calls == ["eof"] and handler.received == 0
        ws.close()


async def test_a_client_that_vanishes_is_told_once(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        for leave in ("close", "abort"):
            ws = await Ws.open(it)
            await eventually(lambda: it.echo.handlers, "the handler is there")
            handler = it.echo.handlers.pop()
            getattr(ws.writer.transport, leave)()
            await eventually(lambda handler=handler: handler.calls == ["eof"], "eof")
            handler.channel.write(b"into the void")
            handler.channel.close()
            handler.channel.abort()
            handler.channel.pause_reading()
            handler.channel.resume_reading()
            await asyncio.sleep(0.02)
            assert handler.calls == ["eof"]


async def test_writes_of_one_turn_are_one_frame_each_and_one_write(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it)
        await eventually(lambda: it.echo.handlers, "the handler is there")
        channel = it.echo.handlers[0].channel
        for size in (1, 125, 126, 65_535, 65_536):
            channel.write(b"x" * size)
        assert channel.buffered_bytes() > 131_000
        for size in (1, 125, 126, 65_535, 65_536):
            assert await ws.frame() == (2, b"x" * size)
        assert channel.buffered_bytes() == 0
        assert channel.address.startswith("127.0.0.1:")
        assert channel.tls_identity is None
        ws.close()


async def test_backpressure_towards_a_client_that_does_not_read(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it, limit=1 << 16)
        ws.writer.transport.pause_reading()
        await eventually(lambda: it.echo.handlers, "the handler is there")
        handler = it.echo.handlers[0]
        for _ in range(2_000):
            if "pause" in handler.calls:
                break
            handler.channel.write(b"x" * 65_536)
            await asyncio.sleep(0)
        assert handler.calls == ["pause"]
        ws.writer.transport.resume_reading()
        while "resume" not in handler.calls:
            await ws.frame()
        assert handler.calls == ["pause", "resume"]
        ws.close()


async def test_backpressure_towards_a_client_that_sends(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it)
        await eventually(lambda: it.echo.handlers, "the handler is there")
        handler = it.echo.handlers[0]
        handler.answer = False
        handler.channel.pause_reading()
        handler.channel.pause_reading()
        total = 32 << 20
        sending = asyncio.create_task(_send(ws, total))
        await asyncio.sleep(0.3)
        assert not sending.done(), "the client must feel it"
        assert handler.received < 1 << 20
        handler.channel.resume_reading()
        await asyncio.wait_for(sending, DEADLINE_S)
        await eventually(lambda: handler.received == total, "everything arrived")
        ws.close()


async def _send(ws, total):
    frame = masked(2, b"x" * 65_536)
    for _ in range(total // 65_536):
        ws.writer.write(frame)
        await ws.writer.drain()


async def test_a_slow_mqtt_subscriber_keeps_memory_flat(tmp_path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", it.port))
        ws = await Ws.open(it, sock=sock, limit=1 << 16)
        await ws.connect()
        ws.writer.write(masked(2, subscribe("t", 1)))
        await ws.frame()
        ws.writer.transport.pause_reading()
        for _ in range(40):
            await it.publish(*(Event("t", b"x" * 10_000, 1) for _ in range(100)))
        channel = next(iter(it.websocket._channels))
        assert channel.buffered_bytes() < 4 << 20
        ws.writer.transport.abort()


async def test_a_ping_flood_is_not_answered_without_end(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it, limit=1 << 10)
        ws.writer.transport.pause_reading()
        await eventually(lambda: it.echo.handlers, "the handler is there")
        channel = it.echo.handlers[0].channel
        flood = masked(9, b"x" * 125) * 500
        for _ in range(300):
            ws.writer.write(flood)
            await ws.writer.drain()
        assert channel.buffered_bytes() < 1 << 20
        ws.writer.transport.abort()


async def test_shutdown_closes_with_going_away(tmp_path):
    async with stand(tmp_path, websocket=echo) as it:
        ws = await Ws.open(it)
        stopping = asyncio.create_task(it.rest.shutdown())
        opcode, payload = await ws.frame()
        assert (opcode, payload[:2]) == (8, b"\x03\xe9")
        ws.writer.write(masked(8, payload[:2]))
        await asyncio.wait_for(stopping, DEADLINE_S)
        assert it.echo.handlers[0].calls == ["eof"]
        ws.close()


async def test_the_mqtt_goodbye_comes_before_the_close(tmp_path):
    async with stand(tmp_path, websocket=mqtt()) as it:
        ws = await (await Ws.open(it)).connect()
        it.mqtt.shutdown()
        opcode, payload = await ws.frame()
        assert opcode == 2 and payload[0] == 0xE0 and payload[2] == 0x8B
        assert (await ws.frame())[0] == 8
        ws.close()
