"""Random and mutated bytes against a listening HTTP listener, and random text against its parsers.

Whatever comes: no 5xx, no traceback, no log line, and another client is served. A found case becomes a test in
tests/protocols/rest/test_hostile_http.py.
"""
from __future__ import annotations

import asyncio
import os
import random
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.formats.event_json import parse_rfc3339
from protocols.formats.location import BadPosition, PositionWriter, decode_position, encode_position, parse_event_id
from protocols.mqtt.server import MqttServer
from protocols.mqtt.settings import MqttSettings
from protocols.rest.auth import credentials
from protocols.rest.problems import Problem
from protocols.rest.publishing.publish import PREFIX, topic_of_path
from protocols.rest.reading.sse import parse_query
from protocols.rest.settings import RestSettings
from protocols.rest.translation.convert import percent_decoded, publish_fields
from protocols.websocket.mqtt import MqttOverWebSocket
from protocols.websocket.settings import WebSocketSettings
from routing.topic import check_topic
from tests.protocols.rest.stand import stand
from tests.protocols.rest.test_hostile_http import FAULTY, POST
from tests.protocols.websocket.ws_client import CONNECT, masked

ROUNDS = int(os.environ.get("MESHGATE_FUZZ_ROUNDS", "1200"))
SHORT = RestSettings(head_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=0.3, linger_s=0.1, body_bytes_max=10_000)

UPGRADE = (b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           b"Sec-WebSocket-Version: 13\r\n"
           b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
SEEDS = [
    POST + b"Content-Length: 2\r\n\r\nhi",
    POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + POST + b"Content-Length: 0\r\n\r\n",
    POST + b"Meshgate-Key: k\r\nMeshgate-TTL: 1000\r\nMeshgate-Header-A: b\r\nMeshgate-Retain: true\r\n"
           b"Meshgate-Reply-To: r/1\r\nIdempotency-Key: \"x\"\r\nMeshgate-Priority: 3\r\nContent-Length: 2\r\n\r\nhi",
    POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    POST + b"Authorization: Basic YTpi\r\nContent-Length: 0\r\n\r\n",
    b"GET /v1/events?filter=a/%23&filter=%2B/b&from=earliest HTTP/1.1\r\nHost: localhost\r\n"
    b"Last-Event-ID: events:0:0\r\n\r\n",
    b"GET /v1/events?filter=a&from=2026-01-01T00:00:00Z HTTP/1.0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    UPGRADE + masked(2, CONNECT) + masked(9, b"ping") + masked(8, b"\x03\xe8"),
    *FAULTY.values(),
]
TOKENS = [b"\r\n", b"\n", b"\r", b" ", b"\0", b":", b"%00", b"%2e%2e", b"/", b"?", b"#", b"&", b"filter=", b"from=",
          b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n",
          b"Host: y\r\n", b"HTTP/1.1", b"HTTP/1.0", b"-1", b"9" * 20, b"\xff\xfe", b"+", b"*", b"\x82\xff", b"A" * 9000]


def mutated(dice):
    data = bytearray(dice.choice(SEEDS) if dice.random() < 0.95 else dice.randbytes(dice.randrange(400)))
    for _ in range(dice.randrange(6)):
        at = dice.randrange(len(data) + 1)
        action = dice.randrange(5)
        if action == 0:
            data[at:at] = dice.choice(TOKENS)
        elif action == 1:
            del data[at:at + dice.randrange(1, 20)]
        elif action == 2 and at < len(data):
            data[at] = dice.randrange(256)
        elif action == 3:
            data += dice.choice(SEEDS)
        else:
            end = at + dice.randrange(30)
            data[at:at] = data[at:end]
    return bytes(data)


async def converse(it, data, pieces):
    """Send in pieces, read until the server closes or for a second. Returns what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
    answer = b""
    try:
        async with asyncio.timeout(1.0):
            step = max(len(data) // pieces, 1)
            for start in range(0, len(data), step):
                if not writer.is_closing():
                    writer.write(data[start:start + step])
                if pieces > 1:
                    await asyncio.sleep(0)
            while part := await reader.read(65_536):
                answer += part
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer


def mqtt(it):
    it.mqtt = MqttServer(it.router, it.authenticator, MqttSettings())
    return MqttOverWebSocket(it.mqtt, WebSocketSettings(close_timeout_s=0.2), time.monotonic, it.router.turns)


@pytest.mark.timeout(300)
async def test_no_bytes_bring_a_5xx_or_a_traceback(tmp_path, caplog):
    seed = int(os.environ.get("MESHGATE_FUZZ_SEED", "1"))
    dice = random.Random(seed)
    async with stand(tmp_path, settings=SHORT, websocket=mqtt) as it:
        gate = asyncio.Semaphore(64)

        async def one(number):
            data, pieces = mutated(dice), dice.choice((1, 1, 1, 2, 7))
            async with gate:
                answer = await converse(it, data, pieces)
            for status in re.findall(rb"HTTP/\d\.\d (\d{3}) ", answer):
                assert status[:1] != b"5", (seed, number, data, answer)
            assert b"Traceback" not in answer

        await asyncio.gather(*(one(number) for number in range(ROUNDS)))
        assert await it.alive()
        assert it.counters.answers[5] == 0
        assert it.counters.answers[4] > ROUNDS // 4
    assert not [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


TEXT = st.text(max_size=60) | st.text(alphabet="%0123456789abcdefABCDEF/+#.&=?:-_~TZ", max_size=60)


@given(TEXT)
def test_any_path_is_a_topic_or_a_problem(text):
    try:
        topic = topic_of_path(PREFIX + text)
    except Problem as problem:
        assert problem.status == 400
    else:
        check_topic(topic)


@given(TEXT)
def test_any_query_is_read_or_a_problem(text):
    try:
        filters, start, _ = parse_query(text, 64)
    except Problem as problem:
        assert problem.status == 400
    else:
        assert filters and isinstance(start, str)


@given(st.lists(st.tuples(st.sampled_from([
    "Meshgate-Key", "Meshgate-TTL", "Meshgate-Retain", "Meshgate-Header-a", "Meshgate-Header-%41", "Meshgate-Priority",
    "Idempotency-Key", "Meshgate-Reply-To", "Content-Type", "Meshgate-Correlation-Id", "traceparent", "Meshgate-X",
]), TEXT | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))), max_size=6))
def test_any_fields_are_an_event_or_a_problem(items):
    try:
        event = publish_fields(items).event("a", b"", 0)
    except Problem as problem:
        assert problem.status == 400
    else:
        for name, value in event.headers:
            name.encode()
            assert isinstance(value, str) and value.encode() is not None


@given(TEXT)
def test_any_text_is_a_position_or_not(text):
    parse_event_id(text)
    parse_rfc3339(text)
    try:
        decode_position(text)
    except BadPosition:
        pass


@given(TEXT)
def test_any_authorization_is_credentials_or_401(text):
    for value in (text, f"Basic {text}"):
        try:
            credentials(value, None)
        except Problem as problem:
            assert problem.status == 401


@given(st.text(max_size=40))
def test_percent_encoding_comes_back(text):
    assert percent_decoded(quote(text, safe="")) == text


VECTORS = st.dictionaries(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=249),
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=9), min_size=1, max_size=5)


@given(st.binary(min_size=4, max_size=4), st.integers(0, 2**32 - 1), VECTORS)
def test_positions_come_back(tag, time_s, vector):
    text = encode_position(tag, time_s, vector)
    assert decode_position(text) == (tag, time_s, vector)
    assert PositionWriter(tag, time_s, vector).text() == text


@given(VECTORS, st.integers(0, 10_000), st.characters(codec="ascii"))
def test_a_changed_position_is_refused(vector, at, char):
    text = encode_position(b"abcd", 5, vector)
    at %= len(text)
    changed = text[:at] + char + text[at + 1:]
    if changed != text:
        with pytest.raises(BadPosition):
            decode_position(changed)
