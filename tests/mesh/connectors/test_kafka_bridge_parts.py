"""Parts of a bridge, without a cluster: settings, the way of a record, what a record becomes, the note of a route."""
from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from mesh.configuration.config import decode_config
from mesh.connectors.kafka.bridges import PreparedBridges
from mesh.connectors.kafka.note import NOTE_BYTES_MAX, Note, NoteTooLong
from mesh.connectors.kafka.path import HEADER, extended, places
from mesh.connectors.kafka.places import Place, Places
from mesh.connectors.kafka.records import mesh_topic, to_event, to_record
from mesh.connectors.kafka.settings import BridgeSasl
from routing.errors import ConfigError, TopicError
from routing.event import Event, Properties

GOOD = """
[[kafka_bridges]]
name = "erp"
servers = ["kafka.example:9092"]
[[kafka_bridges.inward]]
name = "orders"
topics = ["orders"]
[[kafka_bridges.outward]]
name = "machines"
filters = ["plant/#"]
topic = "machines"
"""


def config(text: str, folder):
    return decode_config(text, folder)


def test_a_good_bridge_is_taken(tmp_path):
    bridge, = config(GOOD, tmp_path).kafka_bridges
    assert bridge.inward[0].topic == "{topic}" and bridge.outward[0].delivery == "transactional"


@pytest.mark.parametrize(("old", "new", "problem"), [
    ('"kafka.example:9092"', '"kafka.example"', 'kafka_bridges[0].servers[0]: expected "host:port"'),
    ('servers = ["kafka.example:9092"]', "servers = []", "kafka_bridges[0].servers: at least one"),
    ('name = "erp"', 'name = "a/b"', "kafka_bridges[0].name: at most 64 letters"),
    ('topics = ["orders"]', 'topics = ["or ders"]', "kafka_bridges[0].inward[0].topics[0]: 'or ders' cannot be"),
    ('topics = ["orders"]', "topics = []", "kafka_bridges[0].inward[0].topics: at least one"),
    ('topics = ["orders"]', 'topics = ["orders"]\ntopic = "a/#"', "kafka_bridges[0].inward[0].topic: "),
    ('topics = ["orders"]', 'topics = ["orders"]\ntopic = "$SYS/x"', "topics that begin with $ are the node's own"),
    ('topics = ["orders"]', 'topics = ["orders"]\nstart = "now"', "kafka_bridges[0].inward[0].start: "),
    ('topics = ["orders"]', 'topics = ["orders"]\ntopc = "x"', "topc: unknown key, did you mean topic"),
    ('filters = ["plant/#"]', 'filters = ["plant/#/x"]', "kafka_bridges[0].outward[0].filters[0]: "),
    ('topic = "machines"', 'topic = "ma/chines"', "kafka_bridges[0].outward[0].topic: "),
    ('name = "machines"', 'name = "orders"', "kafka_bridges[0].outward[0].name: orders is there twice"),
    ("[[kafka_bridges.inward]]", 'batch_records = 0\n[[kafka_bridges.inward]]', "[0].batch_records: from 1"),
    ("[[kafka_bridges.inward]]", 'tls = { cert = "a.pem" }\n[[kafka_bridges.inward]]', "cert and key go together"),
    ("[[kafka_bridges.inward]]", 'sasl = { mechanism = "PLAIN", username = "u", password = "env:P" }\n'
     "[[kafka_bridges.inward]]", "kafka_bridges[0].sasl: PLAIN shows the password to whoever listens"),
    ("[[kafka_bridges.inward]]", 'sasl = { mechanism = "SCRAM-SHA-256", username = "u", password = "geheim" }\n'
     "[[kafka_bridges.inward]]", 'kafka_bridges[0].sasl.password: expected "file:PATH" or "env:NAME"'),
])
def test_a_mistake_is_named_by_its_path(tmp_path, old, new, problem):
    with pytest.raises(ConfigError) as error:
        config(GOOD.replace(old, new, 1), tmp_path)
    assert problem in str(error.value) and "geheim" not in str(error.value)


def test_what_is_missing_outside_is_named_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    text = GOOD.replace("[[kafka_bridges.inward]]", 'sasl = { mechanism = "SCRAM-SHA-256", username = "u", '
                        'password = "env:NOT_THERE" }\n[[kafka_bridges.inward]]', 1)
    with pytest.raises(ConfigError, match=r"kafka_bridges\[0\]\.sasl\.password: the environment has no NOT_THERE"):
        PreparedBridges(config(text, tmp_path).kafka_bridges)
    text = GOOD.replace("[[kafka_bridges.inward]]", 'tls = { ca = "ca.pem" }\n[[kafka_bridges.inward]]', 1)
    with pytest.raises(ConfigError, match=r"kafka_bridges\[0\]\.tls: .*ca\.pem"):
        PreparedBridges(config(text, tmp_path).kafka_bridges)


def test_a_password_is_in_no_text_of_its_settings():
    assert "file:secret" not in repr(BridgeSasl("PLAIN", "ana", "file:secret"))


def test_a_way_grows_by_one_place_and_stands_last():
    headers = extended((("a", "1"), (HEADER, "mesh:a/1"), ("a", "2")), "kafka:x")
    assert headers == (("a", "1"), ("a", "2"), (HEADER, "mesh:a/1 kafka:x"))
    assert places(headers) == ["mesh:a/1", "kafka:x"]
    assert places([(HEADER, b"\xff kafka:x")])[1] == "kafka:x" and places([(HEADER, None)]) == []


def test_topics_of_the_mesh():
    assert mesh_topic("erp/{topic}", "orders.eu", None) == "erp/orders/eu"
    assert mesh_topic("erp/{key}", "orders", b"a/b+#") == "erp/a%2Fb%2B%23"
    with pytest.raises(TopicError):
        mesh_topic("erp/{key}", "orders", b"k" * 70_000)


def record(**fields):
    return SimpleNamespace(**{"key": b"k", "value": b"v", "timestamp": 5, "headers": (), "offset": 0, **fields})


@pytest.mark.parametrize("key", [None, b"", b"k"])
@pytest.mark.parametrize("value", [None, b"", b"v"])
def test_a_record_comes_out_as_it_came_in(key, value):
    sent = (("a", b"1"), ("a", b"2"), ("none", None), ("bin", b"\xff"), ("content-type", b"text/x"))
    event = to_event(record(key=key, value=value, headers=sent), "t", publisher="p", dedupe_id="d", place="kafka:x")
    assert event.properties.dedupe_id == "d" and event.timestamp_ms == 5 and event.qos == 1
    out = to_record(event, "mesh:a/1")
    assert (out.key, out.value, out.timestamp_ms) == (key, value, 5)
    found = dict(out.headers)
    assert [one for name, one in out.headers if name == "a"] == [b"1", b"2"]
    assert found["none"] is None and found["bin"] == b"\xff" and found["content-type"] == b"text/x"
    assert found["bridge-path"] == b"kafka:x mesh:a/1" and found["meshgate-topic"] == b"t"
    assert not [name for name in found if "dedupe" in name or "client" in name or "null" in name]


def test_a_stranger_does_not_speak_for_the_node():
    event = to_event(record(headers=(("meshgate-topic", b"other"), ("meshgate-dedupe-id", b"x"), ("meshgate-qos", b"0"),
                                     ("meshgate-client", b"forged"))), "t", publisher="p", dedupe_id="d", place="k:x")
    assert (event.topic, event.qos, event.publisher, event.properties.dedupe_id) == ("t", 1, "p", "d")
    assert ("meshgate-topic", "other") in event.headers


def stored(stream: str, index: int, offset: int, **fields) -> Event:
    return Event("t", b"", 1, partition=SimpleNamespace(stream=stream, index=index), offset=offset, **fields)


def test_a_note_knows_what_was_sent_and_nothing_of_another_log():
    incarnations = {"a": "1", "b": "2"}
    note = Note("epoch", incarnations.__getitem__)
    text = note.after([stored("a", 0, 6), stored("b", 1, 0)])
    again = Note("epoch", incarnations.__getitem__)
    again.read(text)
    assert again.has(stored("a", 0, 6)) and not again.has(stored("a", 0, 7)) and not again.has(stored("a", 1, 0))
    assert again.has(stored("b", 1, 0)) and again.count == 8
    assert not again.has(stored("a", 0, 3, properties=Properties(deliver_at_ms=1)))     # it may have been overtaken
    assert not again.has(Event("t", b""))                                               # no stream keeps it
    incarnations["a"] = "3"                                                             # deleted, and made anew
    assert not again.has(stored("a", 0, 6))
    other = Note("another", incarnations.__getitem__)
    other.read(text)
    assert not other.has(stored("b", 1, 0))
    for bad in ("", "{", "[]", "null"):
        again.read(bad)
        assert not again.has(stored("b", 1, 0))


def test_a_note_has_a_limit_that_is_said():
    note = Note("epoch", lambda stream: "0123abcd")
    assert len(note.after(stored("events", index, 10**6) for index in range(100))) <= NOTE_BYTES_MAX
    with pytest.raises(NoteTooLong, match="name fewer streams"):
        note.after(stored("events", index, 10**6) for index in range(1_000))


def test_places_are_kept_apart_by_route_and_cluster():
    values: dict[str, bytes] = {}
    state = SimpleNamespace(
        put=values.__setitem__, items=lambda prefix: [one for one in values.items() if one[0].startswith(prefix)],
        read=lambda key, kind, what: msgspec.msgpack.decode(values[key], type=kind) if key in values else None)
    Places(state, "erp", "orders", "x").put("orders", 1, Place(7, 1, [9]))
    found = Places(state, "erp", "orders", "x").get("orders", 1)
    assert (found.next_offset, found.generation, found.done) == (7, 1, [9])
    assert Places(state, "erp", "orders", "y").get("orders", 1) is None
    mine = Places(state, "erp", "orders", "x")
    assert mine.knows("orders") and not mine.knows("order")
