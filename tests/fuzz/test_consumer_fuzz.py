"""Tokens, NDJSON lines and JSON bodies from a fuzzer: only documented answers come out, others are served."""
from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.rest.consumers.tokens import BadToken, Token, Tokens
from protocols.rest.problem_types import TYPES
from protocols.rest.problems import Problem
from protocols.rest.publishing.items import Items
from routing.event import Event
from tests.protocols.rest.consumer_client import ConsumerClient
from tests.protocols.rest.stand import stand

KINDS = {f"/problems/{known.kind}" for known in TYPES}
NAMES = st.sampled_from([
    "filters", "mode", "start", "streams", "max_in_flight", "ack_timeout_s", "max_deliveries", "dead_letter_topic",
    "expires_s", "push", "max", "wait_s", "client", "tokens", "delay_s", "seconds", "to", "stream", "partition",
    "dry_run", "rate", "max_bytes", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
    | st.sampled_from(["earliest", "latest", "#", "a/+", "events:0:0", "2026-01-01T00:00:00Z", "shared", 10**30, -1]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, 65_535), st.integers(1, 65_535),
       st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()))
def test_a_token_says_what_was_put_in(generation: int, offset: int, partition: int, attempt: int, stream: str) -> None:
    token = Token(generation, offset, partition, attempt, stream)
    text = Tokens("epoch", "billing").write(token)
    assert Tokens("epoch", "billing").read(text) == token
    for other in (Tokens("epoch", "billinh"), Tokens("epocg", "billing")):
        with pytest.raises(BadToken):
            other.read(text)


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda data: data.hex()))
def test_any_text_is_a_token_or_none(text: str) -> None:
    with pytest.raises(BadToken):
        Tokens("epoch", "billing").read(text)


@given(st.lists(st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(["topic", "payload", "payload_base64", "json", "key", "headers", "ttl_ms", "priority", "retain",
                     "reply_to", "message_id", "guaranteed", "x"]), VALUES, max_size=4), max_size=6))
def test_any_lines_become_one_event_or_problem_each(lines: list[object]) -> None:
    raw = [line.replace(b"\n", b" ") if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    found, _ = Items("user").read(b"\n".join(raw) + b"\n", 1_000)
    assert len(found) == sum(bool(line.strip()) for line in raw)
    assert all(isinstance(one, Event) or (isinstance(one, Problem) and one.status == 400) for one in found)


BODIES = st.lists(st.tuples(
    st.sampled_from([("PUT", ""), ("POST", "/pull"), ("POST", "/ack"), ("POST", "/nack"), ("POST", "/extend"),
                     ("POST", "/seek"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/redrive")]),
    st.dictionaries(NAMES, VALUES, max_size=4) | VALUES), min_size=30, max_size=60)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES)
def test_any_body_gets_a_documented_answer(tmp_path_factory: pytest.TempPathFactory, bodies: list) -> None:
    asyncio.run(_send(tmp_path_factory.mktemp("fuzz"), bodies))


async def _send(path: Path, bodies: list) -> None:
    async with stand(path) as it:
        client = ConsumerClient(it)
        await client.put(filters=["a/#"])
        await it.publish("a/1", "a/2")
        for (method, suffix), body in bodies:
            if isinstance(body, dict):
                body.pop("wait_s", None)
            async with it.http.request(method, client.path + suffix, data=json.dumps(body).encode()) as response:
                told = await response.json(content_type=None)
                assert response.status < 500, (method, suffix, body, told)
                if response.status >= 400:
                    assert told["type"] in KINDS and told["status"] == response.status
        assert await it.alive()
