"""One event, several protocols, as a user tries it: mosquitto_pub, curl, mosquitto_sub, REST, raw MQTT 5."""
from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
from urllib.parse import quote

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import require_peer
from tests.support import rawmqtt as m
from tests.support.node import Node
from tests.support.rawmqtt import open_mqtt
from tests.support.sse import CurlSse

DEADLINE_S = 60


def mosquitto_pub(node: Node, *arguments: str, stdin: bytes | None = None) -> None:
    require_peer(shutil.which("mosquitto_pub"), "mosquitto-clients")
    done = subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(node.mqtt[1]), *arguments], input=stdin,
                          capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr


def test_mosquitto_pub_to_curl_to_mosquitto_sub(node):
    """The way of the first five minutes: one event, published once, seen by both."""
    require_peer(shutil.which("mosquitto_sub"), "mosquitto-clients")
    with CurlSse(node.url("http", "/v1/events?filter=plant/%23")) as stream:
        ready = threading.Event()
        subscriber = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(node.mqtt[1]), "-t", "plant/#", "-q", "1",
             "-C", "1", "-d", "-v"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines: list[str] = []

        def read() -> None:
            for raw in subscriber.stdout:
                lines.append(raw.decode().strip())
                if lines[-1].startswith("Subscribed"):
                    ready.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            assert ready.wait(DEADLINE_S), lines
            mosquitto_pub(node, "-t", "plant/graz/temperature", "-m", "21.5", "-q", "1")
            assert subscriber.wait(DEADLINE_S) == 0
            reader.join(DEADLINE_S)
        finally:
            subscriber.kill()
        assert "plant/graz/temperature 21.5" in lines
        event = stream.next().json
        assert (event["topic"], event["payload"]) == ("plant/graz/temperature", "21.5")
        assert (event["stream"], event["partition"], event["offset"]) == ("events", 0, 0)


def test_rest_to_mqtt_5_with_every_field(node):
    """Headers, key, content type, reply, correlation and TTL of REST become properties of MQTT 5."""
    with open_mqtt(node.mqtt, "reader") as reader:
        reader.subscribe(("orders/#", 2))
        answer = node.publish("orders/eu/4711", b'{"qty": 1}', {
            "Content-Type": "application/json", "Meshgate-Header-region": "eu", "Meshgate-Header-trace-no": "7",
            "Meshgate-Reply-To": "answers/4711", "Meshgate-Correlation-Id": "c-1", "Meshgate-TTL": "60000",
            "Meshgate-Key": "customer-9"})
        assert answer.status == 200
        assert answer.json == {"stream": "events", "partition": 0, "offset": 0, "id": "events:0:0"}
        found = reader.message()
        assert (found.topic, found.payload, found.qos) == ("orders/eu/4711", b'{"qty": 1}', 1)
        assert found.get(m.CONTENT_TYPE) == "application/json"
        assert found.get(m.RESPONSE_TOPIC) == "answers/4711"
        assert found.get(m.CORRELATION) == b"c-1"
        assert 50 <= found.get(m.MESSAGE_EXPIRY) <= 60
        assert ("region", "eu") in found.user_properties and ("trace-no", "7") in found.user_properties
        assert ("meshgate-key", "customer-9") in found.user_properties


def test_mqtt_5_to_sse_with_every_field(node):
    """User properties keep order and repeats; the bytes of a payload that is not text come as base64."""
    with open_mqtt(node.mqtt, "writer") as writer, \
            CurlSse(node.url("http", "/v1/events?filter=a/%2B")) as stream:
        writer.publish_acked("a/b", b"\x00\xff", values=[
            (m.CONTENT_TYPE, "application/octet-stream"), (m.RESPONSE_TOPIC, "re/ply"), (m.CORRELATION, b"42"),
            (m.USER_PROPERTY, ("b", "2")), (m.USER_PROPERTY, ("a", "1")), (m.USER_PROPERTY, ("b", "2")),
            (m.MESSAGE_EXPIRY, 600)])
        event = stream.next().json
        assert base64.b64decode(event["payload_base64"]) == b"\x00\xff"
        assert [tuple(pair) for pair in event["headers"]] == [("b", "2"), ("a", "1"), ("b", "2")]
        assert (event["content_type"], event["reply_to"], event["correlation_id"]) == (
            "application/octet-stream", "re/ply", "42")
        assert event["expires"] > event["time"]


def test_a_key_given_by_mqtt_is_the_key_elsewhere(node):
    """User property `meshgate-key` is the event's key."""
    with open_mqtt(node.mqtt, "writer") as writer, CurlSse(node.url("http", "/v1/events?filter=k")) as stream:
        writer.publish_acked("k", b"x", values=[(m.USER_PROPERTY, ("meshgate-key", "customer-9"))])
        assert stream.next().json["key"] == "customer-9"


def test_mqtt_3_1_1_and_rest_and_websocket_meet(node):
    """The same topic through TCP 3.1.1, WebSocket (paho) and REST, each seen by SSE, in order."""
    with open_mqtt(node.mqtt, "old", version=4) as old, CurlSse(node.url("http", "/v1/events?filter=mix")) as stream:
        old.publish_acked("mix", b"mqtt 3.1.1", qos=2)
        assert stream.next().json["payload"] == "mqtt 3.1.1"
        assert node.publish("mix", b"rest").status == 200
        assert stream.next().json["payload"] == "rest"
        web = Client(CallbackAPIVersion.VERSION2, "web", transport="websockets")
        web.ws_set_options(path="/mqtt")
        web.connect(*node.address("http"))
        web.loop_start()
        web.publish("mix", b"websocket", 1).wait_for_publish(DEADLINE_S)
        assert stream.next().json["payload"] == "websocket"
        web.disconnect()
        web.loop_stop()


def test_retained_by_rest_is_retained_for_mqtt(node):
    assert node.publish("state/door", b"open", {"Meshgate-Retain": "true"}).status == 200
    with open_mqtt(node.mqtt, "late") as late:
        late.subscribe(("state/+", 1))
        found = late.message()
        assert (found.payload, found.retain) == (b"open", True)


def test_a_direct_event_is_not_acked_as_durable(node):
    """Meshgate-Guaranteed: false is 202; subscribers still get it."""
    with open_mqtt(node.mqtt, "reader") as reader:
        reader.subscribe(("d", 1))
        answer = node.publish("d", b"x", {"Meshgate-Guaranteed": "false"})
        assert answer.status == 202 and answer.json["offset"] is None
        found = reader.message()
        assert (found.payload, found.qos) == (b"x", 0)


@pytest.mark.parametrize("topic", ["grüße/a b", "a//b", "a%2Fb", "ünï/čode/☃", "q?x&y=z", "a.b/c*d>e"])
def test_odd_topics_survive_the_way_through_http(node, topic):
    """Percent-encoding in the path is undone once, nothing turns into a separator or wildcard."""
    with open_mqtt(node.mqtt, "reader") as reader:
        reader.subscribe((topic, 1))
        assert node.publish(quote(topic, safe="/"), b"x").status == 200
        assert reader.message().topic == topic
        with CurlSse(node.url("http", "/v1/events?from=earliest&filter=" + quote(topic, safe=""))) as stream:
            assert stream.next().json["topic"] == topic


def test_many_events_cross_in_order(node):
    """2,000 events by pipelined QoS 1, seen in order by SSE and by MQTT."""
    count = 2000
    with open_mqtt(node.mqtt, "reader") as reader, open_mqtt(node.mqtt, "writer") as writer, \
            CurlSse(node.url("http", "/v1/events?filter=many")) as stream:
        reader.subscribe(("many", 1))
        for first in range(0, count, 500):
            writer.send(b"".join(m.publish_packet("many", b"%d" % number, qos=1, packet_id=number + 1)
                                 for number in range(first, first + 500)))
            for _ in range(500):
                writer.expect(m.PUBACK)
        assert [int(one.payload) for one in reader.messages(count)] == list(range(count))
        events = [stream.next().json for _ in range(count)]
        assert [int(event["payload"]) for event in events] == list(range(count))
        assert [event["offset"] for event in events] == list(range(count))


def test_sse_begins_where_it_is_told(node):
    """from=earliest, from=<event id>, from=<time>; several filters."""
    ids = [node.publish(f"s/{number % 3}", b"%d" % number).json["id"] for number in range(9)]
    with CurlSse(node.url("http", "/v1/events?filter=s/%2B&from=earliest")) as stream:
        events = [stream.next().json for _ in range(9)]
        assert [event["payload"] for event in events] == [str(number) for number in range(9)]
    with CurlSse(node.url("http", f"/v1/events?filter=s/%2B&from={ids[4]}")) as stream:
        assert stream.payloads(4) == ["5", "6", "7", "8"]
    with CurlSse(node.url("http", "/v1/events?filter=s/0&filter=s/2&from=" + quote(events[3]["time"]))) as stream:
        assert stream.next().json["payload"] in [str(number) for number in (0, 2, 3, 5)]


@pytest.mark.parametrize("path, status", [
    ("/v1/events/a/%2B", 400), ("/v1/events/%23", 400), ("/v1/events/", 400), ("/v1/events/a%00b", 400),
    ("/v1/events/a%FF", 400), ("/v1/events/..%2f..%2fetc", 400), ("/nowhere", 404),
])
def test_wrong_requests_get_a_problem(node, path, status):
    """RFC 9457 problem+json with a type, also for topics that are none (hostile.md row 81)."""
    answer = node.post(path, b"x")
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["status"] == status


def test_unknown_positions_and_filters_get_a_problem(node):
    for query in ("", "?filter=a/%23/b", "?filter=a&from=nonsense", "?filter=a&from=events:0:99", "?filer=a"):
        assert node.get("/v1/events" + query, listener="http").status == 400, query


def test_a_payload_over_the_limit_is_413(node):
    assert node.publish("big", b"x" * (1024 * 1024 + 1)).status == 413
    assert node.publish("big", b"x" * 1000).status == 200


def test_an_idempotency_key_makes_a_retry_harmless(node):
    """The same id from the same publisher within the window is stored once."""
    headers = {"Idempotency-Key": "order-1"}
    first, second = (node.publish("once", b"x", headers) for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert node.publish("once", b"end").status == 200
    with CurlSse(node.url("http", "/v1/events?filter=once&from=earliest")) as stream:
        assert stream.payloads(2) == ["x", "end"]
