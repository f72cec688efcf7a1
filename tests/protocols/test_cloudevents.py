"""protocols/formats/cloudevents.py and cloudevents_event.py; the CNCF's own SDK is the other side where it has one."""
from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from cloudevents.core.bindings import http as sdk_http
from cloudevents.core.bindings.http import HTTPMessage
from cloudevents.core.bindings.kafka import KafkaMessage
from cloudevents.core.bindings.kafka import from_kafka_event as sdk_from_kafka
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.formats.cloudevents import (
    BATCH_MEDIA_TYPE,
    JSON_CONTENT_TYPE,
    CloudEvent,
    CloudEventError,
    build_batch,
    build_json,
    check_format,
    from_fields,
    http_fields,
    is_batch,
    is_structured,
    parse_batch,
    parse_json,
)
from protocols.formats.cloudevents_event import (
    cloud_event,
    give_user_properties,
    is_cloud_event,
    make_event,
    take_user_properties,
)
from routing.event import Event, Properties

LEAST = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "t"}
MOMENT = datetime(2026, 11, 23, 12, 0, 0, 123000, tzinfo=UTC)


def lost(*_: str) -> None:
    pass


def document(**more: object) -> bytes:
    return json.dumps({**LEAST, **more}).encode()


def sdk_event(data: object = None, **more: object) -> SdkEvent:
    return SdkEvent(attributes={
        "id": "a-1", "source": "/plant/graz?x=1", "type": "at.lamp.on", "specversion": "1.0", "time": MOMENT,
        "subject": "Lampe ü \"1\" 100%", **more}, data=data)


# -- against the SDK -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("data", "content_type"), [
    ({"on": True, "n": [1, 2.5, None]}, "application/json"), ("plain text ü", "text/plain"), (b"\x00\xff", "image/png"),
    (None, None),
])
def test_binary_mode_of_the_sdk_reads_and_writes_as_ours(data: object, content_type: str | None) -> None:
    more = {} if content_type is None else {"datacontenttype": content_type}
    sent = sdk_http.to_binary_event(sdk_event(data, **more))
    fields = [(name, value) for name, value in sent.headers.items() if name.lower().startswith("ce-")]
    ours = from_fields(fields, content_type, sent.body)
    assert ours.attributes["subject"] == "Lampe ü \"1\" 100%"
    back = {**dict(http_fields(ours)), **({} if content_type is None else {"content-type": content_type})}
    read = sdk_http.from_http_event(HTTPMessage(headers=back, body=ours.data or b""))
    assert read.get_attributes() == sdk_event(data, **more).get_attributes()
    assert read.get_data() == data or (data is None and not read.get_data())


@pytest.mark.parametrize(("data", "content_type"), [
    ({"on": True, "ü": "\n"}, "application/json"), ("plain text ü", "text/plain"), (b"\x00\xff", "image/png"),
    ([1], "application/vnd.x+json; charset=utf-8"),
])
def test_structured_mode_of_the_sdk_reads_and_writes_as_ours(data: object, content_type: str) -> None:
    event = sdk_event(data, datacontenttype=content_type)
    sent = sdk_http.to_structured_event(event)
    assert is_structured(sent.headers["content-type"])
    ours = parse_json(sent.body)
    back = HTTPMessage(headers={"content-type": JSON_CONTENT_TYPE}, body=build_json(ours))
    read = sdk_http.from_http_event(back)
    assert (read.get_attributes(), read.get_data()) == (event.get_attributes(), data)


def test_the_canonical_form_is_the_kafka_binding() -> None:
    event = make_event(parse_json(document(
        datacontenttype="application/json", data={"a": 1}, partitionkey="k", comexampleflag=True)), "a/b")
    assert event.key == b"k" and event.payload == b'{"a": 1}'
    headers = {name: str(value).lower().encode() for name, value in event.headers}
    assert event.properties is not None and event.properties.content_type == "application/json"
    headers["content-type"] = b"application/json"
    read = sdk_from_kafka(KafkaMessage(headers=headers, key=event.key, value=event.payload))
    assert read.get_attributes()["comexampleflag"] == "true" and read.get_data() == {"a": 1}


# -- JSON ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("raw", [
    document(data={"a": 1.0000000000000000001}, datacontenttype="application/json"),
    document(data_base64="AP8="), document(data_base64="AP8=", datacontenttype="application/json"),
    document(data="<a/>", datacontenttype="application/xml"), document(data="x", datacontenttype="text/plain"),
    document(data="a string", datacontenttype="application/json"), document(data=False), document(data=""),
    document(n=2147483647, flag=False, empty="", time="2026-11-23T12:00:00Z", dataschema="urn:x:y"), document(),
    document(source="urn:uuid:1", time="2026-11-23t12:00:60.123456789+01:00", subject="ü€😀"),
])
def test_json_comes_out_as_it_went_in(raw: bytes) -> None:
    event = parse_json(raw)
    wanted = json.loads(raw)
    if "data" in wanted:
        wanted.setdefault("datacontenttype", "application/json")        # what its absence means, CloudEvents §3.1.1
    assert json.loads(build_json(event)) == wanted
    through = make_event(event, "a/b")
    shown = json.loads(build_json(cloud_event(through, "e", lost)))
    assert shown.pop("meshgatetopic") == "a/b"
    assert shown == wanted


def test_json_data_keeps_its_bytes() -> None:
    data = b'{"b":1.50,  "a":10000000000000000000000}'
    assert parse_json(document()[:-1] + b', "data": ' + data + b"}").data == data


@pytest.mark.parametrize(("raw", "expected"), [
    (b"", "not a JSON object"), (b"[]", "not a JSON object"), (b"\xff", "UTF-8"), (b'{"a":NaN}', "not a JSON object"),
    (document(specversion="0.3"), "specversion"), (document(specversion=1), "specversion"),
    (b'{"id":"1"}', "specversion"), (document(id=""), "id is missing"), (document(id=7), "id is a text"),
    (document(source=""), "source is missing"), (document(source="a b"), "source is a URI"),
    (document(source="%zz"), "source is a URI"), (document(source="/ü"), "source is a URI"),
    (document(source="http://[x"), "source is a URI"),
    (document(type=None), "type is missing"), (document(subject=""), "subject is"), (document(time="now"), "RFC 3339"),
    (document(time="2026-11-23 12:00:00Z"), "RFC 3339"), (document(time="2026-11-23T12:00:00"), "RFC 3339"),
    (document(time="2026-W48-1T12:00:00Z"), "RFC 3339"), (document(time=5), "RFC 3339"),
    (document(dataschema="rel"), "dataschema"), (document(datacontenttype="json"), "media type"),
    (document(datacontenttype=1), "datacontenttype"), (document(datacontenttype="a/b\r\nX-Evil: 1"), "media type"),
    (document(**{"Ab": "x"}), "a-z and 0-9"),
    (document(**{"a_b": "x"}), "a-z and 0-9"), (document(**{"x" * 65: "x"}), "a-z and 0-9"),
    (document(**{"": "x"}), "a-z and 0-9"), (document(x=2**31), "number from"), (document(x=1.5), "whole number"),
    (document(x=[1]), "whole number"), (document(x={"a": 1}), "whole number"), (document(x="a\nb"), "control"),
    (document(x="\ufffe"), "control"), (document(x="\x9f"), "control"), (document(x="y" * 8193), "longer"),
    (document(x="ü" * 5000), "longer"), (document(**{f"x{n}": 1 for n in range(300)}), "at most 256"),
    (document(data=1, data_base64="AA=="), "not both"), (document(data_base64="A"), "base64"),
    (document(data_base64="A A="), "base64"), (document(data_base64=1), "base64"),
    (document(data=1, datacontenttype="text/plain"), "a text, or bytes"),
    (document()[:-1] + b',"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
    (document()[:-1] + b',"data":1' + b"0" * 1_000_000 + b"}", "data:"),
    (document()[:-1] + b',"x":1' + b"0" * 1_000_000 + b"}", "longer"),
    (document()[:-1] + b',"x":1' + b"0" * 5_000 + b"}", "'x' is"),
    (document()[:-1] + b',"x":"\\ud800"}', "JSON"),
])
def test_bad_json_says_what_is_wrong(raw: bytes, expected: str) -> None:
    """hostile.md row 78 among them."""
    with pytest.raises(CloudEventError, match="(?s).*") as caught:
        parse_json(raw)
    assert expected in str(caught.value) and len(str(caught.value)) < 300


def test_a_batch_has_an_answer_per_item() -> None:
    first, second, third = parse_batch(b"[" + document() + b", 7 ," + document(id="2") + b"]", 3)
    assert isinstance(first, CloudEvent) and isinstance(second, CloudEventError) and isinstance(third, CloudEvent)
    assert list(parse_batch(build_batch([build_json(first), build_json(third)]), 2)) == [first, third]
    assert list(parse_batch(b"[]", 0)) == []
    for raw in (b"{}", b"\xff", b"[" + document() + b",{}]", b"[" * 100_000, b"[1"):
        with pytest.raises(CloudEventError):
            parse_batch(raw, 1)


@pytest.mark.parametrize(("content_type", "fine"), [
    ("application/cloudevents+json", True), ("Application/CloudEvents+JSON; charset=UTF-8", True),
    (BATCH_MEDIA_TYPE, True), ("application/cloudevents+avro", False), ("application/cloudevents", False),
    ("application/cloudevents+json; charset=utf-16", False),
])
def test_formats(content_type: str, fine: bool) -> None:
    if fine:
        check_format(content_type)
        assert is_structured(content_type) != is_batch(content_type)
        return
    with pytest.raises(CloudEventError):
        check_format(content_type)


# -- binary mode -----------------------------------------------------------------------------------------------------

def fields(**more: str) -> list[tuple[str, str]]:
    return [("CE-" + name, value) for name, value in {**LEAST, **more}.items()]


def test_field_values_are_unquoted_and_percent_decoded_once() -> None:
    found = from_fields(fields(subject='"a \\"b\\""', x="Euro%20%E2%82%AC%2520", y="ü"), None, b"").attributes
    assert (found["subject"], found["x"], found["y"]) == ('a "b"', "Euro €%20", "ü")
    assert dict(http_fields(from_fields(fields(x="a%0Db".replace("%0D", "%20")), None, b"")))["ce-x"] == "a%20b"


@pytest.mark.parametrize(("bad", "expected"), [
    (fields()[1:], "specversion"), (fields(x="%"), "percent"), (fields(x="%zz"), "percent"),
    (fields(x="%ff"), "percent"),
    (fields(x="a%0D%0Ab"), "control"), (fields(x="\udcff"), "no character"), (fields(data="1"), "data is none"),
    (fields(datacontenttype="text/plain"), "Content-Type"), ([*fields(), ("ce-id", "2")], "more than once"),
    ([*fields(), ("ce-a-b", "2")], "a-z and 0-9"),
])
def test_bad_fields_say_what_is_wrong(bad: list[tuple[str, str]], expected: str) -> None:
    with pytest.raises(CloudEventError, match=expected):
        from_fields(bad, None, b"")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=30)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.from_regex("x[a-z0-9]{0,10}", fullmatch=True),
                       TEXTS | st.booleans() | st.integers(-2**31, 2**31 - 1)), st.binary(max_size=50))
def test_any_event_survives_json_and_any_texts_survive_fields(extensions: dict[str, object], data: bytes) -> None:
    event = CloudEvent({**LEAST, **extensions}, None, data or None)  # type: ignore[dict-item]
    assert parse_json(build_json(event)) == event
    texts = CloudEvent({**LEAST, **{name: str(value) for name, value in extensions.items()}}, None, data or None)
    carried = http_fields(texts)
    assert all(value.isascii() and value.isprintable() and " " not in value for _, value in carried)
    assert from_fields(carried, None, data) == texts


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["id", "source", "type", "specversion", "data", "data_base64", "time"]), inner)
).map(lambda value: json.dumps(value).encode()))
def test_only_the_documented_error_comes_out(raw: bytes) -> None:
    for parse in (parse_json, lambda raw: parse_batch(raw, 10)):
        try:
            parse(raw)
        except CloudEventError:
            pass


# -- Event -----------------------------------------------------------------------------------------------------------

def test_attributes_that_stand_for_properties_go_both_ways() -> None:
    event = make_event(parse_json(document(
        partitionkey="k", expirytime="2030-01-01T00:00:00Z", correlationid="c", meshgatereplyto="r/1",
        meshgatetopic="x/y")), "x/y")
    assert event.properties is not None
    assert (event.key, event.properties.correlation, event.properties.reply_to) == (b"k", "c", "r/1")
    assert event.properties.expires_at_ms == 1_893_456_000_000
    assert "ce_meshgatetopic" not in dict(event.headers)
    shown = cloud_event(event, "e", lost).attributes
    assert shown["expirytime"] == "2030-01-01T00:00:00Z" and shown["meshgatetopic"] == "x/y"
    for wrong in ({"expirytime": "soon"}, {"meshgatereplyto": "a/#"}):
        with pytest.raises(CloudEventError):
            make_event(parse_json(document(**wrong)), "a")


def test_an_event_that_was_no_cloudevent_becomes_one() -> None:
    losses: list[tuple[str, str, str]] = []
    plain = Event("plant/ü", b'{"a":1}', 1, key=b"k", headers=(("region", "at"), ("traceparent", "00-x")),
                  properties=Properties(content_type="application/json", priority=3), timestamp_ms=1)
    shown = json.loads(build_json(cloud_event(plain, "epoch-1", lambda *loss: losses.append(loss))))
    assert shown.pop("id")
    assert shown == {
        "specversion": "1.0", "source": "urn:meshgate:log:epoch-1", "type": "meshgate.event", "subject": "plant/ü",
        "time": "1970-01-01T00:00:00.001Z", "datacontenttype": "application/json", "data": {"a": 1},
        "meshgatetopic": "plant/ü", "partitionkey": "k", "traceparent": "00-x"}
    assert [field for _, _, field in losses] == ["header", "priority"]


def test_data_on_several_lines_stays_on_one() -> None:
    event = Event("a", b'{\n "a": "b\\n"\r\n}', 1, properties=Properties(content_type="application/json"))
    line = build_json(cloud_event(event, "e", lost))
    assert b"\n" not in line and json.loads(line)["data"] == {"a": "b\n"}


@pytest.mark.parametrize("headers", [
    (("ce_specversion", "1.0"),), (("ce_specversion", "2.0"), ("ce_id", "1"), ("ce_source", "/"), ("ce_type", "t")),
    tuple((f"ce_{name}", b"\xff") for name in LEAST), (("ce_id", "1"), ("ce_id", "2")),
])
def test_headers_that_only_look_like_attributes_do_no_harm(headers: tuple[tuple[str, str | bytes], ...]) -> None:
    shown = cloud_event(Event("a", b"x", 1, headers=headers), "e", lost)
    assert shown.attributes["type"] == "meshgate.event"
    assert parse_json(build_json(shown)).data == b"x"


def test_kafka_bytes_are_texts() -> None:
    headers = tuple((f"ce_{name}", value.encode()) for name, value in LEAST.items())
    assert cloud_event(Event("a", b"", 1, headers=headers), "e", lost).attributes == {**LEAST, "meshgatetopic": "a"}


def test_a_publisher_does_not_write_what_only_a_delivery_says() -> None:
    """hostile.md row 96: a token of his would look like ours to whoever reads a stream."""
    forged = {"meshgatetoken": "forged", "meshgateattempt": 9, "meshgatetopic": "b"}
    headers = tuple((f"ce_{name}", value) for name, value in {**LEAST, **forged}.items())
    for event in (Event("a", document(**forged), 1, properties=Properties(content_type=JSON_CONTENT_TYPE)),
                  Event("a", b"x", 1, headers=headers)):
        found = cloud_event(event, "e", lost).attributes
        assert found["meshgatetopic"] == "a" and not {"meshgatetoken", "meshgateattempt"} & set(found)


def test_an_event_in_structured_mode_is_read_and_not_touched() -> None:
    structured = Properties(content_type=JSON_CONTENT_TYPE)
    event = Event("a", document(data={"x": 1}, n=5), 1, properties=structured)
    assert cloud_event(event, "e", lost).attributes == {**LEAST, "n": 5, "meshgatetopic": "a"}
    assert cloud_event(event, "e", lost).data == b'{"x": 1}'
    broken = cloud_event(Event("a", b"{}", 1, properties=structured), "e", lost)
    assert broken.attributes["type"] == "meshgate.event"


# -- MQTT 5 ----------------------------------------------------------------------------------------------------------

def test_user_properties_keep_order_and_names() -> None:
    sent = (("source", "/tests"), ("X-Plain", "1"), ("specversion", "1.0"), ("type", "t"), ("n", 5), ("id", "1"))
    kept = take_user_properties(sent, "text/plain")
    assert kept == (("ce_source", "/tests"), ("X-Plain", "1"), ("ce_specversion", "1.0"), ("ce_type", "t"), ("ce_n", 5),
                    ("ce_id", "1"))
    assert is_cloud_event(Event("a", b"", 1, headers=kept))
    assert give_user_properties(kept) == sent


def test_an_ordinary_header_with_the_name_of_an_attribute_is_kept_apart() -> None:
    event = make_event(parse_json(document()), "a")
    headers = (*event.headers, ("id", "mine"), ("traceparent", "00-x"))
    given_ = give_user_properties(headers)
    assert ("meshgate-header-id", "mine") in given_ and ("traceparent", "00-x") in given_
    assert set(take_user_properties(given_, None)) == {*event.headers, ("id", "mine"), ("ce_traceparent", "00-x")}


@pytest.mark.parametrize("sent", [
    (("specversion", "1.0"),), (("specversion", "0.3"), ("id", "1"), ("source", "/"), ("type", "t")),
    (*LEAST.items(), ("id", "2")), (*LEAST.items(), ("x", b"\xff")), (*LEAST.items(), ("x", "a\nb")),
])
def test_user_properties_that_are_no_cloudevent_stay_as_they_are(sent: tuple[tuple[str, str], ...]) -> None:
    assert take_user_properties(sent, None) == sent
