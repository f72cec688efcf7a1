"""A node in the hands of an operator: reload, graceful stop, the command line, metrics, start failures."""
from __future__ import annotations

import json
import socket
import subprocess
import threading

import pytest

from tests.support import rawmqtt as m
from tests.support.node import Node, meshgate
from tests.support.rawmqtt import open_mqtt
from tests.support.sse import CurlSse
from tests.support.wait import wait_until


def run(node: Node, *arguments: str, listener: str = "console", input: bytes | None = None) -> str:
    """Run a command against the node; its standard output. Fails on an exit code that is not 0."""
    done = meshgate(*arguments, "--url", node.url(listener), input=input)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


# --- reload --------------------------------------------------------------------------------------------------------
def reloads(node: Node, result: str) -> int:
    return node.get("/api/v1/status").json["reloads"].get(result, 0)


def test_sighup_takes_a_new_stream_without_dropping_a_connection(node):
    with open_mqtt(node.mqtt, "stays") as client, CurlSse(node.url("http", "/v1/events?filter=old/%23")) as stream:
        client.subscribe(("#", 1))
        client.publish_acked("orders/1", b"before")
        node.write_config('[[streams]]\nname = "orders"\ncapture = ["orders/#"]\nretention = { age = "7d" }\n')
        node.sighup()
        wait_until(lambda: "orders" in [row["name"] for row in node.get("/api/v1/streams").json["streams"]],
                   "the new stream is there", also=node.process.log_tail)
        assert node.publish("orders/2", b"after").json["stream"] == "orders"
        assert node.publish("old/1", b"old").json["stream"] == "events"
        assert sorted(one.payload for one in client.messages(3)) == [b"after", b"before", b"old"]
        assert stream.payloads(1) == ["old"]
        client.ping()


@pytest.mark.parametrize("mistake, path", [
    ("[[streams]]\nname = \"x\"\ncapture = [\"a/#/b\"]\n", "streams"),
    ("[limits]\npayload_bytes_maximum = 5\n", "limits.payload_bytes_maximum"),
    ("this is not TOML", "not valid TOML"),
])
def test_a_wrong_file_is_refused_whole_on_sighup(node, mistake, path):
    """The old configuration stays, the reason is in the log and in the status; a good file then is taken."""
    with open_mqtt(node.mqtt, "stays") as client:
        node.write_config(mistake)
        node.sighup()
        problem = wait_until(lambda: node.get("/api/v1/status").json["reload_problem"], "the reload is refused")
        assert path in problem
        assert path in node.process.log_text()
        assert client.publish_acked("a", b"x").code in (0, 0x10)
        node.write_config("[limits]\npayload_bytes_max = 10\n")
        node.sighup()
        wait_until(lambda: not node.get("/api/v1/status").json["reload_problem"], "the good file is taken")
        assert client.publish_acked("a", b"x" * 11).code >= 0x80
        assert client.publish_acked("a", b"x" * 10).code in (0, 0x10)
        assert node.publish("a", b"x" * 11).status == 413


def test_a_rule_holds_for_connected_clients_after_sighup(node_factory):
    """Deny what was allowed: the next publish and the next delivery obey, nobody has to reconnect."""
    allow = '[[policies]]\nallow = ["publish", "subscribe", "connect", "manage"]\nto = ["anonymous"]\n'
    deny = allow + '[[policies]]\nname = "closed"\ndeny = ["publish", "subscribe"]\nto = ["*"]\ntopics = ["s/#"]\n'
    node = node_factory(extra=allow)
    with open_mqtt(node.mqtt, "reader") as reader, open_mqtt(node.mqtt, "writer") as writer:
        reader.subscribe(("#", 1))
        assert writer.publish_acked("s/1", b"open").code == 0
        assert reader.message().payload == b"open"
        node.write_config(deny)
        node.sighup()
        wait_until(lambda: "closed" in [row["name"] for row in node.get("/api/v1/policies").json["policies"]],
                   "the rule is there")
        assert writer.publish_acked("s/2", b"closed").code == 0x87
        writer.publish_acked("t", b"end")
        assert reader.messages_until(b"end") == []


# --- stop ----------------------------------------------------------------------------------------------------------
def test_sigterm_says_goodbye_in_every_protocol(node):
    """MQTT 5: DISCONNECT 0x8B. 3.1.1: close. SSE: the stream ends. Exit code 0, nothing acked is lost."""
    with open_mqtt(node.mqtt, "five", values=[(m.SESSION_EXPIRY, 60)], will=m.Will("w", b"no", qos=1)) as five, \
            open_mqtt(node.mqtt, "four", version=4) as four, \
            CurlSse(node.url("http", "/v1/events?filter=%23")) as stream:
        five.subscribe(("a", 1))
        five.publish_acked("a", b"last")
        assert stream.payloads(1) == ["last"]
        threading.Thread(target=node.stop).start()
        said = five.expect_close()
        assert said is not None and said.code == 0x8B
        assert four.expect_close() is None
        stream.wait_end()
    assert node.process.wait() == 0
    node.restart()
    with open_mqtt(node.mqtt, "five", clean=False) as five:
        assert five.connack.session_present
        assert five.message().payload == b"last"


def test_sigterm_under_load_loses_no_acked_event(node):
    acked: list[int] = []

    def publish() -> None:
        with open_mqtt(node.mqtt, "writer") as writer:
            try:
                while True:
                    writer.publish_acked("load", b"%d" % len(acked))
                    acked.append(len(acked))
            except (m.ConnectionClosed, OSError):
                pass

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    wait_until(lambda: len(acked) > 200, "some load")
    assert node.stop() == 0
    thread.join(30)
    assert not thread.is_alive()
    node.restart()
    node.publish("load", b"end")
    got = []
    with CurlSse(node.url("http", "/v1/events?filter=load&from=earliest")) as stream:
        while (payload := stream.next().json["payload"]) != "end":
            got.append(int(payload))
    assert got == list(range(len(got))) and len(got) >= len(acked)


# --- start ---------------------------------------------------------------------------------------------------------
def fails_to_start(node: Node) -> str:
    """Start it; it must stop by itself with exit code 1. Its log."""
    node.start(ready=False)
    try:
        assert node.process.wait(30) == 1
    except subprocess.TimeoutExpired:
        pytest.fail("the node goes on")
    return node.process.log_text()


def test_a_second_node_on_the_same_data_is_refused(node, node_factory):
    second = node_factory(start=False)
    second.data = node.data
    second.write_config()
    assert "data" in fails_to_start(second)
    assert node.publish("a", b"x").status == 200


def test_a_port_that_is_taken_is_named(node_factory):
    with socket.socket() as taken:
        node = node_factory(start=False)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(node.mqtt)
        taken.listen()
        assert str(node.mqtt[1]) in fails_to_start(node)


@pytest.mark.parametrize("text, path", [
    ('[node]\nnam = "x"\n', "node.nam"),
    ('[listeners]\nmqtt = { bind = "127.0.0.1" }\n', "listeners.mqtt"),
    ('[listeners]\nmqtt = { bind = "127.0.0.1:99999" }\n', "listeners.mqtt"),
    ('[[streams]]\nname = "a"\ncapture = ["a/#"]\npartitions = "two"\n', "streams[0].partitions"),
    ('[[streams]]\nname = "a"\ncapture = ["a/#"]\n[[streams]]\nname = "a"\ncapture = ["b/#"]\n', "streams[1]"),
    ('[[streams]]\nname = "a"\ncapture = ["a/#"]\nretention = { age = "7 days" }\n', "streams[0].retention.age"),
    ('[[streams]]\nname = "../x"\ncapture = ["a/#"]\n', "streams[0].name"),
    ('[[streams]]\nname = "a"\ncapture = ["a/#/b"]\n', "streams[0].capture"),
    ('[[users]]\nname = "a"\npassword_hash = "plain"\n', "users[0].password_hash"),
    ('[[users]]\nname = "a"\npassword_hash = "file:/does/not/exist"\n', "users[0].password_hash"),
    ('[[policies]]\nallow = ["fly"]\nto = ["*"]\n', "policies[0].allow"),
    ('[[policies]]\nto = ["*"]\n', "policies[0]"),
    ('[limits]\npayload_bytes_max = -1\n', "limits.payload_bytes_max"),
    ('[listeners]\nmqtt = { bind = "127.0.0.1:0", tls = { cert = "no.pem", key = "no.key" } }\n', "listeners.mqtt"),
], ids=lambda value: value if not value.startswith("[") else None)
def test_check_names_the_path_of_a_mistake(tmp_path, text, path):
    file = tmp_path / "node.toml"
    file.write_text(text)
    done = meshgate("check", str(file))
    assert done.returncode == 1
    assert path in done.stderr.decode()
    assert b"Traceback" not in done.stderr and not done.stdout


def test_check_shows_the_effective_settings(tmp_path, node_factory):
    node = node_factory(start=False, extra='[[streams]]\nname = "orders"\ncapture = ["orders/#"]\n')
    done = meshgate("check", str(node.config))
    assert done.returncode == 0
    assert b'name = "orders"' in done.stdout and b"durability" in done.stdout
    shown = tmp_path / "shown.toml"
    shown.write_bytes(done.stdout)
    assert meshgate("check", str(shown)).returncode == 0        # what it prints is a configuration
    assert json.loads(meshgate("check", "--json", str(node.config)).stdout)["node"]["name"] == node.name


# --- the command line ----------------------------------------------------------------------------------------------
def test_pub_and_sub(node):
    """pub says where the event is stored; sub prints it, from the past as well."""
    assert run(node, "pub", "a/b", "hello", listener="http").strip() == "stored as events/0, offset 0"
    answer = json.loads(run(node, "pub", "a/b", "-", "--json", "--header", "Region=eu", "--key", "k", "--retain",
                            listener="http", input=b"from stdin"))
    assert answer["id"] == "events:0:1"
    run(node, "pub", "a/b", "--lines", listener="http", input=b"one\ntwo\n")
    lines = run(node, "sub", "a/#", "--from", "earliest", "--count", "4", listener="http").splitlines()
    assert lines == ["a/b hello", "a/b from stdin", "a/b one", "a/b two"]
    rows = [json.loads(line) for line in run(node, "sub", "a/b", "--from", "earliest", "--count", "2", "--json",
                                             listener="http").splitlines()]
    assert rows[1]["headers"] == [["Region", "eu"]] and rows[1]["key"] == "k"
    assert run(node, "sub", "a/+", "--from", "earliest", "--count", "1", "--payload",
               listener="http").strip() == "hello"


def test_status_streams_and_consumers(node):
    with open_mqtt(node.mqtt, "durable-1", values=[(m.SESSION_EXPIRY, 60)]) as client:
        client.subscribe(("jobs/#", 1))
        client.disconnect()
    for number in range(3):
        node.publish("jobs/a", b"%d" % number)
    status = run(node, "status")
    assert node.name in status
    assert f"127.0.0.1:{node.mqtt[1]}" in status
    assert json.loads(run(node, "status", "--json"))["name"] == node.name
    streams = json.loads(run(node, "streams", "--json"))["streams"]
    assert [(row["name"], row["events"]) for row in streams] == [("events", 3)]
    assert "events" in run(node, "streams")
    consumers = json.loads(run(node, "consumers", "--json"))["consumers"]
    (row,) = [row for row in consumers if "durable-1" in row["name"]]
    assert (row["lag_events"], row["filters"], row["durable"]) == (3, ["jobs/#"], True)
    assert row["lag_seconds"] > 0
    assert "durable-1" in run(node, "consumers") and "jobs/#" in run(node, "consumers")


def test_seek_and_kick(node):
    """A consumer is sent back to the beginning; a client is thrown out by its id."""
    keep = [(m.SESSION_EXPIRY, 60)]
    with open_mqtt(node.mqtt, "reader", values=keep) as reader:
        reader.subscribe(("jobs", 1))
        node.publish("jobs", b"1")
        assert reader.message().payload == b"1"
        reader.ping()
        name = next(row["name"] for row in node.get("/api/v1/consumers").json["consumers"] if "reader" in row["name"])
        run(node, "consumers", "seek", name, "--to", "earliest")
        assert reader.message().payload == b"1"
        assert "reader" in run(node, "clients")
        run(node, "clients", "kick", "reader")
        said = reader.expect_close()
        assert said is not None and said.code == 0x98


def test_errors_of_the_command_line_are_one_line(node):
    node.stop()
    for arguments in (["status", "--url", node.url("console")], ["pub", "a/+", "x", "--url", node.url("http")],
                      ["sub", "a/#/b", "--url", node.url("http")], ["pub", "a", "x", "--url", node.url("http")],
                      ["check", "/does/not/exist.toml"]):
        done = meshgate(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(b"meshgate: ") and done.stderr.count(b"\n") == 1, done.stderr
    assert meshgate("fly").returncode == 2


def test_log_verify_and_dump(node):
    """verify is content with a good log and names file and offset of a damaged place; dump prints records."""
    for number in range(5):
        node.publish("a/b", b"payload-%d" % number, {"Meshgate-Header-x": "y"})
    assert node.stop() == 0
    assert meshgate("log", "verify", str(node.data)).returncode == 0
    dumped = meshgate("log", "dump", str(node.data / "streams" / "events")).stdout.decode()
    assert [f"payload-{number}" in dumped for number in range(5)] == [True] * 5 and "topic='a/b'" in dumped
    (file,) = (node.data / "streams" / "events" / "0").glob("*.log")
    data = bytearray(file.read_bytes())
    data[data.index(b"payload-2")] ^= 0xFF
    file.write_bytes(data)
    done = meshgate("log", "verify", str(node.data))
    assert done.returncode == 1
    assert file.name in done.stdout.decode()


# --- health and metrics --------------------------------------------------------------------------------------------
def test_health_ready_and_metrics(node):
    assert node.get("/healthz").json["status"] == "ok"
    assert node.get("/readyz").json["ready"] is True
    with open_mqtt(node.mqtt, "c", values=[(m.SESSION_EXPIRY, 60)]) as client:
        client.subscribe(("a", 1))
        before = node.metrics()
        for _ in range(10):
            client.publish_acked("a", b"x")
        client.messages(10)
        client.ping()
        after = node.metrics()
        assert after["meshgate_events_published_total"] - before["meshgate_events_published_total"] == 10
        assert after["meshgate_healthy"] == after["meshgate_ready"] == 1
        assert after['meshgate_partition_end_offset{partition="0",stream="events"}'] == 10
        assert any(name.startswith("meshgate_consumer_lag_events{") for name in after)
        text = node.get("/metrics").text
        assert "# HELP meshgate_events_published_total" in text and "# TYPE meshgate_events_published_total" in text


def test_losses_of_translation_are_counted(node):
    """A user property cannot reach a 3.1.1 subscriber: the ledger says so, by route and field."""
    with open_mqtt(node.mqtt, "old", version=4) as old, open_mqtt(node.mqtt, "new") as new:
        old.subscribe(("a", 1))
        new.publish_acked("a", b"x", values=[(m.USER_PROPERTY, ("k", "v")), (m.CONTENT_TYPE, "t")])
        old.message()
        losses = node.get("/api/v1/ledger").json["losses"]
        assert losses and sum(row["count"] for row in losses) >= 2
        assert any(name.startswith("meshgate_translation_losses_total{") for name in node.metrics())


@pytest.mark.parametrize("host, origin, status", [
    ("evil.example", None, 403), ("127.0.0.1.evil.example", None, 403), ("localhost", "http://evil.example", 403),
])
def test_a_web_page_elsewhere_cannot_manage_the_node(node, host, origin, status):
    """DNS rebinding and cross-site requests (hostile.md row 83)."""
    headers = {"Host": host, **({"Origin": origin} if origin else {})}
    done = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "-d", "{}",
         *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")),
         node.url("console", "/api/v1/clients/x/kick")], capture_output=True, timeout=30, check=True)
    assert int(done.stdout) == status
