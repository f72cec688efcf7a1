"""Webhooks on a real node: made over REST, declared in the file, refused, shown, reloaded, and after kill -9."""
from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.node import Node, http, meshgate
from tests.support.wait import wait_until

JSON = {"Content-Type": "application/json"}


class Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got = []
        self.status = 204
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/in"

    @property
    def bodies(self):
        return [body for _, body in self.got]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


@pytest.fixture
def node(node_factory, tmp_path: Path, receiver):
    (tmp_path / "billing.key").write_text("0123456789abcdef0123456789abcdef\n")
    return node_factory(extra=declared(tmp_path, receiver))


def declared(folder: Path, receiver: Receiver, name: str = "billing") -> str:
    return f"""
[webhooks]
allow = ["127.0.0.0/8"]
breaker_open_s = "200ms"
breaker_open_max_s = "1s"

[webhooks.secrets.other]
value = "file:{folder}/billing.key"
urls = ["https://other.example/"]

[[consumers]]
name = "{name}"
filters = ["orders/#"]
start = "earliest"
backoff_initial_s = "50ms"
[consumers.push]
url = "{receiver.url}"
format = "json"
secret = "file:{folder}/billing.key"
"""


def put(node: Node, name: str, push: dict, **fields):
    body = json.dumps({"filters": ["rest/#"], "start": "earliest", "push": push, **fields}).encode()
    return http("PUT", node.url("http", f"/v1/consumers/{name}"), body, JSON)


def test_a_declared_webhook_over_a_kill_and_a_reload(node: Node, receiver: Receiver, tmp_path: Path) -> None:
    node.publish("orders/1", b"one")
    wait_until(lambda: len(receiver.got) == 1, "the first event")
    headers, body = receiver.got[0]
    assert json.loads(body)["topic"] == "orders/1" and headers["webhook-signature"].startswith("v1,")
    receiver.status = 500
    node.publish("orders/1", b"two")
    node.publish("orders/1", b"three")
    wait_until(lambda: len(receiver.got) >= 2, "an attempt")
    node.kill9()
    receiver.status = 204
    node.restart()
    wait_until(lambda: node.get("/api/v1/webhooks").json["webhooks"][0]["lag_events"] == 0, "everything is taken")
    order = [json.loads(body)["payload"] for _, body in receiver.got]
    assert list(dict.fromkeys(order)) == ["one", "two", "three"]
    assert int(receiver.got[-1][0]["Webhook-Attempt"]) >= 1

    row = node.get("/api/v1/webhooks").json["webhooks"][0]
    assert (row["consumer"], row["state"], row["url"]) == ("billing", "closed", receiver.url)
    shown = meshgate("webhooks", "--url", node.url("console")).stdout.decode()
    assert "billing" in shown and receiver.url in shown and "closed" in shown
    assert 'meshgate_webhook_state{consumer="billing",state="closed"} 1.0' in node.get("/metrics").text
    assert "0123456789abcdef" not in node.process.log_text() + str(row)
    assert "0123456789abcdef" not in http("GET", node.url("http", "/v1/consumers")).text

    node.write_config(declared(tmp_path, receiver, "renamed"))
    node.sighup()
    wait_until(lambda: {row["consumer"]: row["state"] for row in node.get("/api/v1/webhooks").json["webhooks"]}
               == {"billing": "not served", "renamed": "closed"}, "the reload")


def test_a_webhook_made_over_rest(node: Node, receiver: Receiver) -> None:
    assert put(node, "mine", {"url": receiver.url}).status == 201
    node.publish("rest/1", b"hello")
    wait_until(lambda: receiver.bodies == [b"hello"], "the event")
    assert put(node, "mine", {"url": receiver.url + "/changed"}).status == 200
    node.publish("rest/1", b"again")
    wait_until(lambda: receiver.bodies == [b"hello", b"again"], "the second event")
    assert http("DELETE", node.url("http", "/v1/consumers/mine")).status == 204
    assert "mine" not in node.get("/api/v1/webhooks").text


@pytest.mark.parametrize(("push", "status"), [
    ({"url": "http://169.254.169.254/latest/"}, 422), ({"url": "http://[::1]/"}, 422),
    ({"url": "file:///etc/passwd"}, 422),
    ({"url": "http://0xa9.16689662/"}, 422), ({"url": "https://example.com/", "secret": "file:/etc/passwd"}, 422),
    ({"url": "https://example.com/", "secret": "in clear text"}, 422),
    ({"url": "https://example.com/", "secret": "secret:other"}, 422),
    ({"url": "https://example.com/", "headers": {"Authorization": "Bearer x"}}, 422),
    ({"url": "https://example.com/", "timeout_s": 0}, 422), ({"url": "https://example.com/", "tpyo": 1}, 400),
    ({}, 400),
])
def test_what_a_client_may_not_have_called(node: Node, push: dict, status: int) -> None:
    """hostile.md row 80."""
    answer = put(node, "evil", push)
    assert answer.status == status, answer.text
    if status == 422:
        assert answer.json["type"] == "/problems/target-refused"
    assert http("GET", node.url("http", "/v1/consumers/evil")).status == 404


def test_rest_does_not_change_what_the_file_declares(node: Node, receiver: Receiver) -> None:
    answer = put(node, "billing", {"url": receiver.url})
    assert (answer.status, answer.json["type"]) == (409, "/problems/conflict")
