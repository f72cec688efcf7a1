"""Random and mutated messages against /v1/ws: the codec, the message reader, and a listening endpoint.

Whatever comes: the codec raises BadMessage only, the reader gives the same however the bytes are cut, and the endpoint
answers or closes, without a traceback, while another client is served. A found case becomes a test in
tests/protocols/websocket/test_json_hostile.py.
"""
from __future__ import annotations

import asyncio
import json
import os
import random

from hypothesis import given
from hypothesis import strategies as st

from protocols.websocket.json.messages import BadMessage, Publish, Reply, Request, decode, event_of
from protocols.websocket.messages import MessageReader
from protocols.websocket.settings import WebSocketSettings
from tests.protocols.websocket.json_client import Client, ws_stand
from tests.protocols.websocket.ws_client import masked
from tests.support.wait import DEADLINE_S

ROUNDS = int(os.environ.get("MESHGATE_FUZZ_ROUNDS", "1200"))
SEEDS = [json.dumps(said).encode() for said in (
    {"op": "publish", "id": 1, "topic": "a/b", "payload": "x", "headers": [["a", 1], ["b", {"base64": "eA=="}]]},
    {"op": "publish", "topic": "a", "payload_base64": "AAEC", "key": "k", "ttl_ms": 1000, "retain": True},
    {"op": "subscribe", "id": "s", "subscription": "s", "filters": ["a/#", "+/b"], "from": "earliest", "credit": 5},
    {"op": "subscribe", "subscription": "d", "filters": ["#"], "consumer": "c", "mode": "shared", "takeover": True},
    {"op": "subscribe", "subscription": "e", "filters": ["#"], "from": "events:0:0", "binary": True},
    {"op": "ack", "subscription": "d", "deliveries": [1, 2, 3], "up_to": 7},
    {"op": "nack", "subscription": "d", "deliveries": [1], "delay_ms": 5},
    {"op": "credit", "subscription": "s", "add": 3}, {"op": "ping", "id": 1.5},
    {"op": "request", "id": 2, "topic": "a", "timeout_ms": 50, "payload": "?"},
    {"op": "reply", "to": "$reply/graz-1/x", "correlation_id": "y"}, {"op": "unsubscribe", "subscription": "d"},
    {"op": "auth", "token": "x.y.z"})]
TOKENS = [b"null", b"[]", b"{}", b'"', b"\\ud800", b"\\u0000", b"-1", b"1e999", b"9" * 30, b"NaN", b"\0", b"\xff", b"$",
          b"#", b"+", b"/", b'"op":"ack",', b",", b":", b"true", b'"id":', b"[" * 2_000, b'"base64"', b"events:0:0"]


def mutated(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(4):
            case 0 if out:
                out[at % len(out)] = rng.randrange(256)
            case 1:
                del out[at:at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = rng.choice(TOKENS)
            case _:
                other = rng.choice(SEEDS)
                out[at:at] = other[rng.randrange(len(other)):]
    return bytes(out)


def check_decode(message: str | bytes) -> None:
    try:
        said, payload = decode(message)
        if isinstance(said, Publish | Request | Reply):
            event = event_of(said, payload, 0)
            assert isinstance(event.payload, bytes) and event.topic
    except BadMessage as bad:
        assert bad.text and "/" not in bad.problem


def test_the_codec_raises_nothing_but_bad_message() -> None:
    rng = random.Random(5)
    for _ in range(ROUNDS * 10):
        data = mutated(rng, rng.choice(SEEDS))
        check_decode(len(data).to_bytes(4, "big") + data + rng.randbytes(rng.randrange(9)))
        check_decode(data.decode("utf-8", "replace"))
        check_decode(data)


@given(st.text() | st.binary())
def test_any_text_or_bytes(message: str | bytes) -> None:
    check_decode(message.encode("utf-8", "replace").decode() if isinstance(message, str) else message)


def conversation(rng: random.Random) -> bytes:
    """Frames as a client sends them, some of them whole messages, some in pieces, some broken."""
    out = b""
    for _ in range(rng.randrange(1, 6)):
        data = mutated(rng, rng.choice(SEEDS)) if rng.random() < 0.6 else rng.choice(SEEDS)
        opcode = 1
        if rng.random() < 0.2:
            opcode, data = 2, len(data).to_bytes(4, "big") + data + b"payload"
        if rng.random() < 0.3 and data:
            cut = rng.randrange(len(data))
            out += masked(opcode, data[:cut], final=False) + masked(9, b"?") + masked(0, data[cut:])
        else:
            out += masked(opcode, data)
        if rng.random() < 0.1:
            out = mutated(rng, out)
    return out


def read(data: bytes, cuts: list[int]) -> tuple[list[str | bytes], list[bytes], int | None, int | None]:
    """Everything that a reader gives for the bytes, cut there, up to its violation or the close."""
    reader = MessageReader(100_000)
    messages: list[str | bytes] = []
    pings: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        for received in reader.receive(data[start:end]):
            messages += received.messages
            if received.ping is not None:
                pings.append(received.ping)
            if received.violation is not None:
                return messages, pings, None, received.violation.wire_code
            if received.close_code is not None:
                return messages, pings, received.close_code, None
    return messages, pings, None, None


def test_the_reader_gives_the_same_however_the_bytes_are_cut() -> None:
    rng = random.Random(6)
    for _ in range(ROUNDS):
        data = conversation(rng)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(12)))
        assert read(data, cuts) == read(data, [])


async def test_the_endpoint_outlives_everything(tmp_path) -> None:
    rng = random.Random(7)
    settings = WebSocketSettings(close_timeout_s=0.2, send_buffer_bytes=4_096)
    async with ws_stand(tmp_path, settings) as it:
        good = await Client.open(it)
        for number in range(ROUNDS // 8):
            bad = await Client.open(it, welcome=False, first=conversation(rng))
            bad.ws.writer.write(conversation(rng) + masked(8, b"\x03\xe8"))
            bad.ws.writer.write_eof()                   # a broken length may have swallowed the close
            try:
                await asyncio.wait_for(bad.ws.reader.read(-1), DEADLINE_S)
            except ConnectionError:
                pass
            bad.close()
            if number % 20 == 0:
                await good.publish("alive", id=number)
        await good.publish("alive", id="last")
        assert it.ws.counters.connections >= 1
        good.close()
