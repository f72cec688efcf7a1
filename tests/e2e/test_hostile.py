"""Hostile bytes over real sockets (a selection of hostile.md): afterwards the node lives, is small, and serves.

Each test ends with the same check: a real client connects and gets its message, RSS has hardly grown, no traceback.
"""
from __future__ import annotations

import contextlib
import os
import random
import socket
import ssl
import time

import pytest

from tests.support import rawmqtt as m
from tests.support.node import Node
from tests.support.rawmqtt import RawMqtt, connect_packet, open_mqtt
from tests.support.sse import CurlSse
from tests.support.wait import DEADLINE_S, wait_until

pytestmark = pytest.mark.measured

GROWTH_MAX = 48 * 1024 * 1024
PORTS = ("mqtt", "http", "console", "mqtts", "https")


@pytest.fixture(scope="module")
def target(tmp_path_factory, certificates):
    """One node for the whole file: what one test does to it, the next ones would notice."""
    node = Node(tmp_path_factory.mktemp("hostile"), also_tls=("mqtt", "http"), certificates=certificates,
                extra='[limits]\ntail_cache_bytes = "16MiB"')      # growth is to be told from a cache that fills
    node.start()
    yield node
    node.process.kill9()
    assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)


@pytest.fixture(autouse=True)
def alive_afterwards(target):
    lines_before = target.process.log_text().count("\n")
    before = target.process.rss_bytes()
    yield
    assert target.running, target.process.log_tail()
    began = time.monotonic()
    with open_mqtt(target.mqtt, "honest") as client:
        client.subscribe(("honest", 1))
        client.publish_acked("honest", b"x")
        assert client.message().payload == b"x"
    assert time.monotonic() - began < 30
    assert target.publish("honest", b"x").status == 200
    grown = target.process.rss_bytes() - before
    assert grown < GROWTH_MAX, f"RSS grew by {grown >> 20} MiB"
    assert target.process.log_text().count("\n") - lines_before < 200, "the log is flooded"


def raw(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=30)


def closed(connection: socket.socket) -> bytes:
    """Read until the server closes; what it said. Fails when it does not close in time."""
    end = time.monotonic() + DEADLINE_S
    out = b""
    while True:
        left = end - time.monotonic()
        assert left > 0, f"still open after {DEADLINE_S} s; it said {out[:200]!r}"
        connection.settimeout(left)
        try:
            data = connection.recv(65536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return out
        if not data:
            return out
        out += data


# --- MQTT ----------------------------------------------------------------------------------------------------------
def test_a_giant_length_before_connect(target):
    """Row 4: 268,435,455 bytes announced in CONNECT: closed at the cap, nothing of that size allocated."""
    with raw(target.mqtt) as connection:
        connection.sendall(b"\x10\xff\xff\xff\x7f" + b"\x00\x04MQTT\x05\x02\x00\x00")
        with contextlib.suppress(OSError):
            for _ in range(64):
                connection.sendall(b"x" * 4096)
        closed(connection)


def test_five_hundred_giant_lengths_at_once(target):
    """Row 4, many: memory stays bounded."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(raw(target.mqtt)) for _ in range(500)]
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(b"\x10\xff\xff\xff\x7f" + b"x" * 1000)
        for connection in connections:
            closed(connection)


def test_a_connect_that_never_comes_to_its_end(target):
    """Row 5: some bytes now and then; closed at the connect timeout (10 s), and the others do not notice."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(raw(target.mqtt)) for _ in range(200)]
        data = connect_packet("slow")
        for connection in slow:
            connection.sendall(data[:1])
        began = time.monotonic()
        with open_mqtt(target.mqtt, "quick"):
            assert time.monotonic() - began < 9         # before the slow ones are sent away
        for number, connection in enumerate(slow):
            if number % 10 == 0:
                with contextlib.suppress(OSError):
                    connection.sendall(data[1:2])
        for connection in slow:
            closed(connection)
        assert time.monotonic() - began > 5


def test_ten_thousand_user_properties(target):
    """Row 19: linear time; the connection goes on or is told why not."""
    values = [(m.USER_PROPERTY, ("k", "v"))] * 10_000
    with open_mqtt(target.mqtt, "properties") as client:
        began_s = target.process.cpu_s()
        client.send(m.publish_packet("p", b"x", qos=1, packet_id=1, values=values))
        answer = client.expect(m.PUBACK, m.DISCONNECT)
        assert target.process.cpu_s() - began_s < 5
        assert answer.kind == m.PUBACK or answer.code in (0x95, 0x97, 0x83)


def test_many_unreleased_qos2_ids(target):
    """Row 25: Receive Maximum bounds them for version 5; in 3.1.1 all ids there are may be open, 8 KiB a client."""
    with open_mqtt(target.mqtt, "opens", version=4) as client:
        for first in range(1, 65_536, 4_096):
            numbers = range(first, min(first + 4_096, 65_536))
            client.send(b"".join(m.publish_packet("p", b"x", qos=2, packet_id=number, version=4) for number in numbers))
            assert [client.expect(m.PUBREC).packet_id for _ in numbers] == list(numbers)
        client.send(m.publish_packet("p", b"x", qos=2, packet_id=7, version=4, dup=True))     # [MQTT-4.3.3-10]
        assert client.expect(m.PUBREC).packet_id == 7


def test_deep_filters_and_a_flood_of_subscriptions(target):
    """Row 22: 128 levels of `+`, and 20,000 filters of one client: refused by quota, the node stays quick."""
    with open_mqtt(target.mqtt, "greedy") as client:
        assert client.subscribe(("/".join(["+"] * 128), 0)).codes in ([0], [0x8F], [0x97])
        code = 0
        for first in range(0, 20_000, 1000):
            client.send(m.subscribe_packet(client.next_id(), [(f"+/f{first + n}/+", 0) for n in range(1000)]))
            answer = client.expect(m.SUBACK, m.DISCONNECT)
            code = answer.codes[-1] if answer.kind == m.SUBACK else answer.code
            if code:
                break
        assert code in (0x97, 0x8F)


def test_a_subscriber_that_does_not_read(target):
    """A stalled QoS 0 reader loses events, the publisher and the other reader do not notice, memory stays flat."""
    with open_mqtt(target.mqtt, "stalled") as stalled, open_mqtt(target.mqtt, "reads") as reads, \
            open_mqtt(target.mqtt, "writer") as writer:
        stalled.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.subscribe(("flood", 0))
        reads.subscribe(("flood", 1))
        for first in range(0, 1000, 50):
            writer.send(b"".join(m.publish_packet("flood", b"x" * 50_000, qos=1, packet_id=first + n + 1)
                                 for n in range(50)))
            for _ in range(50):
                writer.expect(m.PUBACK)
            reads.messages(50)
        stalled.drop()


# --- every port ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("port", PORTS)
def test_garbage_on_every_port(target, port):
    """Random bytes, TLS hellos, HTTP and MQTT at the wrong door: answered or closed, never a hang for ever."""
    dice = random.Random(port)
    samples = [dice.randbytes(size) for size in (1, 7, 100, 5000)]
    samples += [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(100), b"GET / HTTP/1.1\r\n\r\n",
                connect_packet("wrong-door"), b"\x00" * 1000, b"\xff" * 1000, b"AMQP\x00\x01\x00\x00",
                b"GET " + b"/" * 100_000, b"\r\n" * 100]
    with contextlib.ExitStack() as stack:
        for sample in samples:
            connection = stack.enter_context(raw(target.address(port)))
            with contextlib.suppress(OSError):
                connection.sendall(sample)
                connection.shutdown(socket.SHUT_WR)
            closed(connection)


@pytest.mark.parametrize("port", ["mqtts", "https"])
def test_plaintext_on_a_tls_port(target, port):
    """Row 86: closed, not kept."""
    sample = connect_packet("plain") if port == "mqtts" else b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with raw(target.address(port)) as connection:
        connection.sendall(sample)
        closed(connection)


@pytest.mark.parametrize("port", ["mqtts", "https"])
def test_a_stalled_tls_handshake(target, certificates, port):
    """Row 86: half a ClientHello, then silence: closed, and an honest TLS client gets in meanwhile."""
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(raw(target.address(port))) for _ in range(50)]
        for connection in stalled:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        context = certificates.client_context()
        with raw(target.address(port)) as plain, context.wrap_socket(plain, server_hostname="localhost") as honest:
            assert honest.version() in ("TLSv1.2", "TLSv1.3")
        for connection in stalled:
            closed(connection)


def test_old_tls_is_refused(target):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with raw(target.address("mqtts")) as plain, pytest.raises(OSError):
        context.wrap_socket(plain)


def test_connections_that_come_and_go(target):
    """2,000 connections, opened and reset at every stage of CONNECT: nothing is left behind."""
    def clients() -> int:
        return target.get("/api/v1/clients").json["total"]

    before = clients()
    data = connect_packet("comes-and-goes")
    for number in range(2000):
        client = RawMqtt(target.mqtt)
        client.send(data[:number % len(data)])
        client.reset()
    wait_until(lambda: clients() <= before, "their sessions are gone")
    assert len(os.listdir(f"/proc/{target.process.pid}/fd")) < 200


# --- HTTP ----------------------------------------------------------------------------------------------------------
BAD_REQUESTS = {
    "CL and TE": b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two CL": b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "bare LF": b"POST /v1/events/a HTTP/1.1\nHost: x\nContent-Length: 1\n\na",
    "folded": b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nA: b\r\n c\r\nContent-Length: 1\r\n\r\na",
    "negative length": b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "bad chunk": b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
}


@pytest.mark.parametrize("request_bytes", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_requests_that_proxies_read_differently_are_refused(target, request_bytes):
    """Row 76: 400 and close; nothing is published."""
    before = target.get("/api/v1/streams").json["streams"][0]["events"]
    with raw(target.address("http")) as connection:
        connection.sendall(request_bytes)
        answer = closed(connection)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
    assert target.get("/api/v1/streams").json["streams"][0]["events"] == before


@pytest.mark.parametrize("port", ["http", "console"])
def test_endless_headers(target, port):
    """Row 77: 10 MiB of header fields: 431 (or 400) and close."""
    with raw(target.address(port)) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1000):
                connection.sendall(b"A: " + b"b" * 10_000 + b"\r\n")
        answer = closed(connection)
    assert answer == b"" or answer.split()[1] in (b"431", b"400")


def test_a_body_over_the_limit_in_chunks(target):
    """Row 77: also without Content-Length: 413."""
    with raw(target.address("http")) as connection:
        connection.sendall(b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        answer = closed(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")


def test_a_slow_header(target):
    """Row 77: a header that stops in the middle: 408 or close at the timeout."""
    with raw(target.address("http")) as connection:
        connection.sendall(b"POST /v1/events/a HTTP/1.1\r\nHost: localhost\r\nCont")
        answer = closed(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("path", ["/v1/events/..%2f..%2fetc%2fpasswd", "/../../etc/passwd", "/%2e%2e/%2e%2e/x",
                                  "/v1/events/a%0d%0aX: y", "//evil.example/v1/events"])
def test_odd_paths(target, path):
    """Row 81: 400 or 404, and never a file."""
    with raw(target.address("http")) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = closed(connection)
    assert answer.split()[1] in (b"400", b"404", b"405") and b"root:" not in answer


def test_a_response_cannot_be_split_by_a_property(target):
    """Row 79: CR and LF in user properties and topics stay data in the SSE stream."""
    with open_mqtt(target.mqtt, "splitter") as client, \
            CurlSse(target.url("http", "/v1/events?filter=split/%23")) as stream:
        client.publish_acked("split/a\r\n\r\nid: evil", b"x\n\ndata: evil", values=[
            (m.USER_PROPERTY, ("a\r\nb", "c\r\n\r\nevent: evil")), (m.CONTENT_TYPE, "t\r\nX: y")])
        client.publish_acked("split/end", b"end")
        first, last = stream.next(), stream.next()
        assert first.kind == last.kind == "message"
        assert first.json["payload"] == "x\n\ndata: evil" and first.json["headers"] == [
            ["a\r\nb", "c\r\n\r\nevent: evil"]]
        assert last.json["payload"] == "end"
