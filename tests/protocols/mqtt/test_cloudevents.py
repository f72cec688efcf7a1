"""CloudEvents on MQTT 5: user properties in, user properties out, and the canonical form in the log between them."""
from __future__ import annotations

import json

import pytest

from protocols.formats.cloudevents import build_json, parse_json
from protocols.formats.cloudevents_event import cloud_event, make_event
from tests.protocols.mqtt.harness import PUBLISH
from tests.support import rawmqtt as m

BINARY = [("specversion", "1.0"), ("X-Mine", "1"), ("type", "at.lamp.on"), ("source", "/plant"), ("id", "7"),
          ("n", "3")]
DOCUMENT = {"specversion": "1.0", "id": "1", "source": "/http", "type": "t", "n": 5, "flag": True,
            "datacontenttype": "application/json", "data": {"a": 1}}


def sent(content_type, pairs=()):
    return [(m.CONTENT_TYPE, content_type), *((m.USER_PROPERTY, pair) for pair in pairs)]


def stored(broker):
    return broker.router.streams.by_name["events"].partitions[0].event(0)


@pytest.mark.parametrize("qos", [0, 1])
def test_binary_mode_arrives_as_it_was_sent(broker, qos):
    reader = broker.client("r")
    reader.subscribe(("a", qos))
    broker.client("w").publish("a", b'{"a":1}', qos=qos, values=sent("application/json", BINARY))
    found = reader.one(PUBLISH)
    assert found.user_properties == BINARY and (m.CONTENT_TYPE, "application/json") in found.values


def test_binary_mode_is_kept_in_the_canonical_form_and_read_as_json(broker):
    broker.client("w").publish("a", b'{"a":1}', qos=1, values=sent("application/json", BINARY))
    event = stored(broker)
    assert dict(event.headers) == {"ce_specversion": "1.0", "X-Mine": "1", "ce_type": "at.lamp.on",
                                   "ce_source": "/plant", "ce_id": "7", "ce_n": "3"}
    shown = json.loads(build_json(cloud_event(event, "e", broker.router.ledger.lost)))
    assert shown == {"specversion": "1.0", "type": "at.lamp.on", "source": "/plant", "id": "7", "n": "3",
                     "datacontenttype": "application/json", "data": {"a": 1}, "meshgatetopic": "a"}


def test_an_event_of_http_arrives_in_binary_mode_with_its_types(broker):
    reader = broker.client("r")
    reader.subscribe(("b", 1))
    broker.publish(make_event(parse_json(json.dumps(DOCUMENT).encode()), "b"))
    found = reader.one(PUBLISH)
    assert found.payload == b'{"a": 1}' and (m.CONTENT_TYPE, "application/json") in found.values
    assert found.user_properties == [
        ("specversion", "1.0"), ("id", "1"), ("source", "/http"), ("type", "t"), ("n", "5"), ("n;type", "int"),
        ("flag", "true"), ("flag;type", "bool")]


def test_what_a_subscriber_sends_on_is_the_same_event(broker):
    reader = broker.client("r")
    reader.subscribe(("b", 1))
    broker.publish(make_event(parse_json(json.dumps(DOCUMENT).encode()), "b"))
    got = reader.one(PUBLISH)
    broker.client("w").publish("c", got.payload, qos=1, values=sent("application/json", got.user_properties))
    again = broker.router.streams.by_name["events"].partitions[0].event(1)
    shown = json.loads(build_json(cloud_event(again, "e", broker.router.ledger.lost)))
    assert shown == {**DOCUMENT, "meshgatetopic": "c"}


@pytest.mark.parametrize("version", [4, 5])
def test_structured_mode_goes_through_byte_for_byte(broker, version):
    reader = broker.client("r", version)
    reader.subscribe(("a", 1))
    raw = json.dumps(DOCUMENT, indent=1).encode()
    broker.client("w").publish("a", raw, qos=1, values=sent("application/cloudevents+json; charset=utf-8"))
    assert reader.one(PUBLISH).payload == raw
    shown = cloud_event(stored(broker), "e", broker.router.ledger.lost)
    assert shown.data == b'{\n  "a": 1\n }' and shown.attributes["source"] == "/http"


@pytest.mark.parametrize("pairs", [
    [("specversion", "1.0")], [*BINARY, ("id", "8")], [("specversion", "0.3"), *BINARY[1:]],
    [("specversion", "1.0"), ("id", "1"), ("source", "a b"), ("type", "t")],
])
def test_what_only_looks_like_a_cloudevent_is_an_ordinary_message(broker, pairs):
    reader = broker.client("r")
    reader.subscribe(("a", 1))
    broker.client("w").publish("a", b"x", qos=1, values=sent("text/plain", pairs))
    assert reader.one(PUBLISH).user_properties == pairs
    assert stored(broker).headers == tuple(pairs)
