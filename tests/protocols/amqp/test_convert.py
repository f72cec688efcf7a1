"""Messages to events and back: byte for byte, whatever their sections; and the short way for those that are alike."""
from __future__ import annotations

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.amqp import convert
from protocols.amqp.codec.composite import encode_composite
from protocols.amqp.codec.encode import encode
from protocols.amqp.codec.message import Header, MessageProperties
from protocols.amqp.codec.types import Described, Symbol, ULong
from protocols.amqp.nodes.addresses import address_of
from routing.event import Event, Properties


def section(code, value):
    return encode(Described(ULong(code), value))


def read(data, settled=False):
    return convert.read(data, publisher="p", settled=settled, now_ms=1_000,
                        topic_of=lambda address, annotations: address)


def outward(event, count=0, **options):
    return convert.outward(event, count, 1_000, lambda *_: None, address_of, **options)


BODIES = [
    b"", section(0x75, b"x" * 10), section(0x75, b"a") + section(0x75, b"b"), section(0x76, [1, "a"]),
    section(0x76, [1]) + section(0x76, [2]), section(0x77, "text"), section(0x77, b"bytes"), section(0x77, None),
    section(0x77, {"a": [1, {"b": Symbol("c")}]}), section(0x77, ULong(7)), section(0x77, ""), section(0x75, b""),
    section(0x75, b"y" * 70_000),
]
BARE = [
    b"", encode_composite(MessageProperties(message_id=uuid.UUID(int=3), to="t", subject="s")),
    section(0x72, {Symbol("x-opt-a"): 1}) + encode_composite(MessageProperties(correlation_id=ULong(1))),
    section(0x74, {"a": 1, "b": None, "c": 2.5, "d": b"\xff"}),
]
FOOTERS = [b"", section(0x78, {Symbol("x-f"): "v"})]
HEADERS = [b"", encode_composite(Header(True)), encode_composite(Header(True, 7)), encode_composite(Header(None, 200))]


@pytest.mark.parametrize("header", HEADERS)
def test_every_message_comes_out_as_it_went_in(header):
    for bare in BARE:
        for body in BODIES:
            for footer in FOOTERS:
                message = header + bare + body + footer
                found = read(message).event
                assert outward(found) == message
                like = read(message).like
                if like is not None:
                    assert like.start + found.payload == message
                assert outward(found, 3).endswith(bare + body + footer)


def test_delivery_annotations_are_for_one_hop_and_the_time_to_live_runs():
    message = encode_composite(Header(True, None, 5_000)) + section(0x71, {Symbol("x"): 1}) + section(0x75, b"x")
    event = read(message).event
    assert event.properties.expires_at_ms == 6_000
    assert convert.outward(event, 0, 4_000, lambda *_: None, address_of) == encode_composite(
        Header(True, None, 2_000)) + section(0x75, b"x")


def test_a_wildcard_reader_is_told_the_topic_without_touching_the_message():
    event = read(section(0x75, b"x")).event
    event.topic = "a/b"
    noted = section(0x71, {Symbol("x-opt-topic"): "a/b"})
    assert outward(event, notes=convert.topic_note) == noted + section(0x75, b"x")


@pytest.mark.parametrize(("body", "payload"), [
    (BODIES[2], b"ab"), (BODIES[3], b'[1,"a"]'), (BODIES[8], b'{"a":[1,{"b":"c"}]}'), (BODIES[9], b"7"), (b"", b"")])
def test_a_body_that_is_no_run_of_bytes_is_json_for_others(body, payload):
    assert read(body).event.payload == payload


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=300))
def test_what_is_taken_as_like_the_one_before_is_what_it_would_have_been(first, second):
    """Two messages, the second of which may be taken the short way."""
    messages = [encode_composite(Header(True)) + section(0x74, {"a": 1}) + section(0x75, body)
                for body in (first, second)]
    like = read(messages[0]).like
    if like is None or len(messages[1]) != like.size or not messages[1].startswith(like.start):
        return
    wanted = read(messages[1]).event
    found = Event("", messages[1][len(like.start):], like.qos, "p", like.key, like.headers, like.properties)
    assert found == wanted and outward(found) == messages[1]


def test_a_message_whose_payload_is_not_its_end_has_no_like():
    assert read(section(0x75, b"x") + section(0x78, {})).like is None
    assert read(encode_composite(Header(ttl=5)) + section(0x75, b"x")).like is None
    assert read(encode_composite(MessageProperties(user_id=b"u")) + section(0x75, b"x")).like is None


def test_an_event_of_another_protocol_has_its_fields_typed():
    event = Event("$queue/jobs%2Fa", b"x", 1, key=b"k", headers=(("i", 1), ("b", True), ("n", None), ("big", 1 << 70)),
                  properties=Properties(content_type="text/plain", message_id=5, correlation=b"c", reply_to="a/b"))
    back = read(outward(event)).event
    assert dict(back.headers) == {"i": 1, "b": True, "n": None, "big": str(1 << 70)}
    assert (back.key, back.payload, back.qos) == (b"k", b"x", 1)
    assert (back.properties.message_id, back.properties.correlation, back.properties.reply_to) == (5, b"c", "topic://a/b")
    assert read(outward(event)).to == "queue://jobs/a"


def test_a_native_of_another_node_that_is_none_is_no_fault():
    for data in (b"", b"\x01", b"\xff" * 6, b"\x01\x00\xff\xff\xff\xff"):
        event = Event("t", b"x", 1, properties=Properties(native=convert.Native(convert.NATIVE, data)))
        assert isinstance(outward(event), bytes)


@pytest.mark.parametrize("body", [section(0x77, [None] * 6_000), section(0x76, [None] * 3_000) * 2])
def test_a_body_of_more_items_than_a_turn_has_time_for_is_nothing_for_others_and_whole_for_amqp(body):
    event = read(body).event
    assert event.payload == b""
    assert outward(event) == body
