"""/v1/ws against clients that break the rules: hostile.md rows 71 to 75 and 78. Another client never notices."""
from __future__ import annotations

import asyncio
import json

import pytest

from protocols.websocket.settings import WebSocketSettings
from routing.event import Event
from tests.protocols.rest.stand import eventually

from .json_client import Client, ws_stand
from .ws_client import masked

PING = json.dumps({"op": "ping", "id": 1}).encode()


@pytest.mark.parametrize(("frame", "code"), [
    (b"\x81\x02{}", 1002),                                              # not masked
    (masked(1, PING, rsv=0x40), 1002),                                  # compressed, which was not negotiated
    (masked(9, b"x" * 126), 1002),                                      # a long ping
    (masked(9, b"x", final=False), 1002),                               # a ping in pieces
    (masked(0, b"x"), 1002),                                            # a continuation of nothing
    (masked(1, b"{", final=False) + masked(1, b"}"), 1002),             # a message within a message
    (masked(3, b"x"), 1002),                                            # an unknown opcode
    (masked(1, b"\xff\xfe"), 1007),                                     # not UTF-8
    (masked(1, b"\xed\xa0\x80"), 1007),                                 # a surrogate
    (masked(1, length=3 * 1024 * 1024), 1009),                          # declared too large
    (masked(2, length=2**62), 1009),
    (masked(1, b"x" * 2_000_000, final=False) + masked(0, b"x" * 200_000), 1009),
    (masked(8, b"\x03"), 1002),                                         # half a close code
    (masked(8, b"\x03\xed"), 1002),                                     # 1005 must not be sent
])
async def test_a_violation_closes_with_its_code_and_others_are_served(tmp_path, frame, code):
    async with ws_stand(tmp_path) as it:
        bad, good = await Client.open(it), await Client.open(it)
        bad.ws.writer.write(frame)
        assert await bad.ws.close_code() == code
        await good.publish("fine")
        bad.close()
        good.close()


@pytest.mark.parametrize("text", [
    "", "[]", "null", "{}", "{", '{"op":1}', '{"op":"publish"', "[" * 100_000, '{"a":' * 100_000,
    '{"op":"publish","id":1,"topic":"a","headers":[["x",' + "9" * 1_000_000 + "]]}",
    '{"op":"publish","id":1,"topic":"a","ttl_ms":NaN}', '{"op":"publish","id":1,"topic":"a","ttl_ms":1e999}',
    '{"op":"publish","topic":"\\ud800"}', '{"op":"ping","id":"' + "x" * 10_000 + '"}', "\x00", "hello",
])
async def test_text_that_is_no_message_is_refused_at_once_and_the_connection_goes_on(tmp_path, text):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        start = asyncio.get_running_loop().time()
        client.raw(text)
        message = await client.hear("refused")
        assert message["problem"] in ("/problems/message-invalid", "/problems/topic-invalid")
        assert asyncio.get_running_loop().time() - start < 2.0
        await client.publish("fine", id=2)
        client.close()


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2{}x",
                                  b"\0\0\0\x16" + b'{"op":"ping","id":"x"}' + b"payload"])
async def test_a_binary_message_without_a_good_head_is_refused(tmp_path, data):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.ws.writer.write(masked(2, data))
        assert (await client.hear("refused"))["problem"] == "/problems/message-invalid"
        await client.publish("fine")
        client.close()


async def test_a_client_that_speaks_another_language_is_told_to_go(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        for _ in range(200):
            client.raw("hello?")
        for _ in range(101):
            await client.hear("refused")
        assert (await client.hear("goodbye"))["problem"] == "/problems/message-invalid"
        client.close()


async def test_a_message_in_a_million_pieces_costs_its_bytes(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        text = json.dumps({"op": "publish", "id": 1, "topic": "a", "payload": "x" * 20_000}).encode()
        data = b"".join(masked(0 if at else 1, text[at:at + 1], final=at == len(text) - 1) for at in range(len(text)))
        client.ws.writer.write(data)
        await client.hear("published", id=1)
        client.close()


async def test_a_ping_between_the_pieces_of_a_message_is_answered(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        client.ws.writer.write(masked(1, PING[:5], final=False) + masked(9, b"are you there") + masked(0, PING[5:]))
        frames = [await client.ws.frame() for _ in range(2)]
        assert (10, b"are you there") in frames
        client.close()


async def test_who_asks_and_never_reads_is_not_read_any_more(tmp_path):
    """Answers to a client that takes none stay below a bound; then it is not read."""
    settings = WebSocketSettings(send_buffer_bytes=16 * 1024)
    async with ws_stand(tmp_path, settings) as it:
        client = await Client.open(it)
        client.ws.writer.transport.pause_reading()
        question = masked(1, json.dumps({"op": "ping", "id": "x" * 200}).encode()) * 1_000
        channel = next(iter(it.ws._channels))
        for _ in range(200):
            client.ws.writer.write(question)
            await asyncio.sleep(0)
        await eventually(lambda: channel.session.blocked_since_s is not None, "the socket is full")
        count = it.ws.counters.messages_in
        await asyncio.sleep(0.2)
        assert it.ws.counters.messages_in - count < 3_000
        assert channel.buffered_bytes() < 1024 * 1024
        other = await Client.open(it)
        await other.publish("fine")
        other.close()
        client.ws.writer.transport.abort()


async def test_a_client_that_takes_nothing_for_too_long_is_cut_off(tmp_path):
    settings = WebSocketSettings(send_buffer_bytes=16 * 1024, stall_timeout_s=0.5)
    async with ws_stand(tmp_path, settings) as it:
        client = await Client.open(it)
        await client.subscribe("s", "#", consumer="c")
        client.ws.writer.transport.pause_reading()
        await it.publish(*(Event("a", bytes(100_000), 1) for _ in range(100)))
        await eventually(lambda: it.ws.counters.stalled == 1 and not it.ws._channels, "the connection is gone")
        assert it.router.consumers["c"].lag().events == 100, "its events wait"
        client.close()


async def test_a_client_that_answers_no_ping_is_gone(tmp_path):
    async with ws_stand(tmp_path, WebSocketSettings(ping_interval_s=0.2, silence_max_s=0.6)) as it:
        silent = await Client.open(it)
        assert (await silent.hear("goodbye"))["problem"] == "/problems/request-timeout"
        assert it.ws.counters.silent == 1
        silent.close()


async def test_a_flood_of_subscribe_and_unsubscribe_leaves_nothing_behind(tmp_path):
    async with ws_stand(tmp_path) as it:
        client = await Client.open(it)
        before = it.router.trie.count                   # those of the replies
        for number in range(500):
            client.say("subscribe", id=number, subscription="s", filters=[f"t/{number}"])
            client.say("unsubscribe", id=number, subscription="s")
        for _ in range(1_000):
            await client.next()
        assert not it.router.consumers and it.router.trie.count == before
        client.close()
