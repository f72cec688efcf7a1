"""What was acknowledged survives `kill -9`: sessions, offline queues, retained events, SSE positions, QoS 2."""
from __future__ import annotations

import threading

import pytest

from tests.support import rawmqtt as m
from tests.support.node import meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.sse import CurlSse
from tests.support.wait import wait_until

KEEP = [(m.SESSION_EXPIRY, 600)]


def test_an_offline_session_gets_its_events_after_kill_9(node):
    """Subscribed, gone, published (MQTT QoS 1 and 2, REST), kill -9, restart, back: everything, once, in order."""
    with open_mqtt(node.mqtt, "durable", values=KEEP) as client:
        client.subscribe(("jobs/#", 1))
        client.disconnect()
    with open_mqtt(node.mqtt, "writer") as writer:
        for number in range(0, 30, 3):
            writer.publish_acked("jobs/a", b"%d" % number, qos=1)
            writer.publish_acked("jobs/a", b"%d" % (number + 1), qos=2)
            assert node.publish("jobs/a", b"%d" % (number + 2)).status == 200
    node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "durable", clean=False, values=KEEP) as client:
        assert client.connack.session_present
        found = client.messages(30)
        assert [int(one.payload) for one in found] == list(range(30))
        client.publish_acked("jobs/a", b"after")
        assert client.message().payload == b"after"


def test_an_online_session_resumes_after_kill_9(node):
    """Unacked deliveries come again after the restart; acked ones at most as marked duplicates, none is lost."""
    with open_mqtt(node.mqtt, "durable", values=KEEP) as client, open_mqtt(node.mqtt, "writer") as writer:
        client.subscribe(("jobs", 1))
        for number in range(10):
            writer.publish_acked("jobs", b"%d" % number)
        found = client.messages(10, ack=False)
        for one in found[:5]:
            client.ack(m.PUBACK, one.packet_id)
        client.ping()
        node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "durable", clean=False, values=KEEP) as client:
        assert client.connack.session_present
        client.publish_acked("jobs", b"end")
        again = client.messages_until(b"end")
        payloads = [int(one.payload) for one in again]
        assert payloads[-5:] == [5, 6, 7, 8, 9] and payloads == sorted(payloads)
        assert all(one.dup for one in again)


def test_a_qos2_exchange_survives_kill_9(node):
    """PUBREC was sent, the node is killed: the repeated PUBLISH and the PUBREL make no second event."""
    with open_mqtt(node.mqtt, "writer", values=KEEP) as writer:
        writer.publish("once", b"x", qos=2, packet_id=9)
        writer.expect(m.PUBREC, packet_id=9)
        node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "writer", clean=False, values=KEEP) as writer:
        writer.publish("once", b"x", qos=2, packet_id=9, dup=True)
        writer.expect(m.PUBREC, packet_id=9)
        writer.ack(m.PUBREL, 9)
        writer.expect(m.PUBCOMP, packet_id=9)
        writer.publish_acked("once", b"end")
    with CurlSse(node.url("http", "/v1/events?filter=once&from=earliest")) as stream:
        assert stream.payloads(2) == ["x", "end"]


def test_an_outbound_qos2_exchange_survives_kill_9(node):
    """The subscriber has sent PUBREC, the node is killed: after the restart PUBREL comes, or the PUBLISH with DUP."""
    with open_mqtt(node.mqtt, "reader", values=KEEP) as reader, open_mqtt(node.mqtt, "writer") as writer:
        reader.subscribe(("two", 2))
        writer.publish_acked("two", b"x", qos=2)
        found = reader.message(ack=False)
        reader.ack(m.PUBREC, found.packet_id)
        reader.expect(m.PUBREL, packet_id=found.packet_id)
        node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "reader", clean=False, values=KEEP) as reader:
        again = reader.expect(m.PUBREL, m.PUBLISH)
        assert again.packet_id == found.packet_id
        assert again.kind == m.PUBREL or again.dup
        if again.kind == m.PUBLISH:
            reader.ack(m.PUBREC, again.packet_id)
            reader.expect(m.PUBREL, packet_id=again.packet_id)
        reader.ack(m.PUBCOMP, again.packet_id)
        reader.publish_acked("two", b"end", qos=2)
        assert reader.messages_until(b"end") == []


def test_retained_events_survive_kill_9_and_clearing_does_too(node):
    with open_mqtt(node.mqtt, "writer") as writer:
        writer.publish_acked("state/a", b"old", retain=True)
        writer.publish_acked("state/a", b"new", retain=True)
        writer.publish_acked("state/b", b"gone", retain=True)
        writer.publish_acked("state/b", b"", retain=True)
        writer.publish_acked("state/c", b"two", qos=2, retain=True)
    node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "reader") as reader:
        reader.subscribe(("state/#", 2))
        reader.publish_acked("state/end", b"end")
        found = {one.topic: one for one in reader.messages_until(b"end")}
        assert {name: one.payload for name, one in found.items()} == {"state/a": b"new", "state/c": b"two"}
        assert all(one.retain for one in found.values())


def test_a_share_group_keeps_its_events_over_kill_9(node):
    """All members are away, the node is killed: the group gets everything when one is back."""
    with open_mqtt(node.mqtt, "member", values=KEEP) as member:
        member.subscribe(("$share/g/work", 1))
        member.disconnect()
    with open_mqtt(node.mqtt, "writer") as writer:
        for number in range(5):
            writer.publish_acked("work", b"%d" % number)
    node.kill9()
    node.restart()
    with open_mqtt(node.mqtt, "member", clean=False, values=KEEP) as member:
        assert [int(one.payload) for one in member.messages(5)] == list(range(5))


def test_an_sse_reader_resumes_by_last_event_id_across_a_restart(node):
    """The id of the last event, given back as Last-Event-ID after kill -9, goes on right behind it."""
    for number in range(6):
        assert node.publish(f"feed/{number % 2}", b"%d" % number).status == 200
    with CurlSse(node.url("http", "/v1/events?filter=feed/%2B&from=earliest")) as stream:
        events = [stream.next() for _ in range(4)]
        assert [event.json["payload"] for event in events] == ["0", "1", "2", "3"]
    node.kill9()
    node.restart()
    assert node.publish("feed/0", b"6").status == 200
    header = "Last-Event-ID: " + events[-1].id
    with CurlSse(node.url("http", "/v1/events?filter=feed/%2B"), "-H", header) as stream:
        assert stream.payloads(3) == ["4", "5", "6"]


def test_an_sse_reader_that_saw_nothing_resumes_too(node):
    """The id of the greeting counts: what was published during the restart is not missed."""
    with CurlSse(node.url("http", "/v1/events?filter=feed")) as stream:
        seen = stream.last_id
        assert seen
    node.kill9()
    node.restart()
    assert node.publish("feed", b"missed").status == 200
    with CurlSse(node.url("http", "/v1/events?filter=feed"), "-H", f"Last-Event-ID: {seen}") as stream:
        assert stream.payloads(1) == ["missed"]


def test_an_id_of_a_wiped_log_is_refused(node_factory, tmp_path):
    """410: the position belongs to a log that is gone; the reader must not be given something else in silence."""
    node = node_factory()
    assert node.publish("feed", b"x").status == 200
    with CurlSse(node.url("http", "/v1/events?filter=feed&from=earliest")) as stream:
        last = stream.next().id
    node.stop()
    node.data.rename(tmp_path / "old")
    node.restart()
    answer = node.get("/v1/events?filter=feed", {"Last-Event-ID": last}, listener="http")
    assert answer.status == 410


def test_a_delayed_will_survives_kill_9(node):
    """§3.1.2.5 of MQTT 5: the will is part of the session; a node that dies does not forget it."""
    client = open_mqtt(node.mqtt, "machine", values=KEEP,
                       will=m.Will("wills", b"gone", qos=1, properties=[(m.WILL_DELAY, 3)]))
    client.drop()
    wait_until(lambda: not [row for row in node.get("/api/v1/clients").json["clients"]
                            if row["client_id"] == "machine" and row.get("connected", True)], "machine is away")
    assert node.publish("barrier", b"x").status == 200      # CONNACK promises no fsync; what came before this is stored
    node.kill9()
    node.restart()
    with CurlSse(node.url("http", "/v1/events?filter=wills&from=earliest")) as stream:
        assert stream.payloads(1) == ["gone"]


def test_offsets_go_on_after_a_restart(node):
    assert node.publish("a", b"1").json["offset"] == 0
    node.kill9()
    node.restart()
    assert node.publish("a", b"2").json["offset"] == 1
    node.stop()
    node.restart()
    assert node.publish("a", b"3").json["offset"] == 2


@pytest.mark.parametrize("round_number", range(3))
def test_kill_9_under_load_loses_no_acked_event(node, round_number):
    """A publisher at full speed, killed in the middle; afterwards the log holds every acked event and verifies."""
    acked: list[int] = []
    stop = threading.Event()

    def publish() -> None:
        with open_mqtt(node.mqtt, "writer") as writer:
            number = 0
            try:
                while not stop.is_set():
                    writer.send(b"".join(m.publish_packet("load", b"%d" % (number + index), qos=1,
                                                          packet_id=index + 1) for index in range(50)))
                    for index in range(50):
                        assert writer.expect(m.PUBACK).packet_id == index + 1
                        acked.append(number + index)
                    number += 50
            except (m.ConnectionClosed, OSError):
                pass

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    wait_until(lambda: len(acked) > 400 * (round_number + 1), "some load")
    node.kill9()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()
    node.restart()
    assert node.publish("load", b"end").status == 200
    got = []
    with CurlSse(node.url("http", "/v1/events?filter=load&from=earliest")) as stream:
        while (payload := stream.next().json["payload"]) != "end":
            got.append(int(payload))
    assert got == list(range(len(got)))
    assert len(got) >= len(acked)
    node.stop()
    verified = meshgate("log", "verify", str(node.data))
    assert verified.returncode == 0, verified.stdout + verified.stderr
