"""What a new protocol costs: a folder (tests/mesh/echo) and one line. The rest comes with the node."""
from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from mesh.identity.users import hash_password
from tests.support.node import HOST, ROOT, Node
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import DEADLINE_S, wait_until

COMMAND = (sys.executable, "-m", "tests.mesh.echo")


class Lines:
    """A client of the toy."""

    def __init__(self, node: Node, tls=None) -> None:
        self.socket = socket.create_connection((HOST, node.ports["echo"]), DEADLINE_S)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rwb")
        self.greeting = self.read()

    def read(self) -> str:
        return self.file.readline().decode().rstrip("\n")

    def ask(self, line: str) -> str:
        self.file.write(line.encode() + b"\n")
        self.file.flush()
        return self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    it = Node(tmp_path_factory.mktemp("echo"), '[echo]\ngreeting = "good day"\nline_bytes_max = "2KiB"\n',
              listeners=("echo", "mqtt", "http", "console"), command=COMMAND)
    yield it.start()
    it.stop()


def clients(node: Node) -> list[dict]:
    return [row for row in node.get("/api/v1/clients").json["clients"] if row["protocol"] == "echo"]


def test_it_publishes_and_subscribes_across_protocols(node):
    with Lines(node) as lines, open_mqtt(node.mqtt, "reader") as reader:
        assert lines.greeting == "good day"                     # its settings
        assert lines.ask("HELLO") == "OK"
        assert lines.ask("SUB from/mqtt/#") == "OK"
        reader.subscribe(("from/echo", 1))
        assert lines.ask("PUB from/echo hello") == "OK"
        assert reader.message().payload == b"hello"
        reader.publish("from/mqtt/1", b"and back", qos=1)
        assert lines.read() == "EVENT from/mqtt/1 and back"


def test_its_clients_counters_and_kick_are_those_of_the_node(node):
    before = node.metrics()
    with Lines(node) as lines:
        assert lines.ask("HELLO") == "OK"
        [row] = clients(node)
        assert row["user"] == "anonymous" and row["connected"]
        assert lines.ask("PUB a/b c") == "OK"
        after = node.metrics()
        assert after["meshgate_echo_connections"] == 1
        assert after["meshgate_echo_events_in_total"] == before.get("meshgate_echo_events_in_total", 0) + 1
        wait_until(lambda: node.metrics()["meshgate_echo_ticks_total"] > 2, "it is called by the clock")
        assert node.get("/api/v1/status").json["connections"] >= 1
        done = node.post(f"/api/v1/clients/{row['client_id']}/kick", b"", listener="console")
        assert done.status < 300, done.text
        assert lines.read() == "BYE an operator ended it"
        assert lines.read() == ""
    wait_until(lambda: not clients(node), "it is gone")


def test_its_settings_are_checked_like_all_others(node, tmp_path):
    def check(extra: str) -> str:
        file = tmp_path / "node.toml"
        file.write_text(extra)
        done = subprocess.run([*COMMAND, "check", str(file)], capture_output=True, cwd=ROOT, timeout=DEADLINE_S,
                              check=False)
        return (done.stdout + done.stderr).decode()

    assert "echo.greting: unknown key, did you mean greeting?" in check('[echo]\ngreting = "x"\n')
    assert "echo.line_bytes_max: -1 is out of range" in check("[echo]\nline_bytes_max = -1\n")
    assert "echo.greeting: expected one line" in check('[echo]\ngreeting = "a\\nb"\n')
    assert "listeners.echo.bind: 0.0.0.0:7 can be reached from other machines" in check(
        '[listeners]\necho = { bind = "0.0.0.0:7" }\n')


def test_it_says_goodbye_and_takes_part_in_logins_and_tls(tmp_path, certificates):
    users = (f'[[users]]\nname = "ana"\npassword_hash = "{hash_password("secret")}"\n'
             '[[policies]]\nallow = ["publish", "subscribe"]\nto = ["user:ana"]\ntopics = ["plant/#"]\n')
    node = Node(tmp_path, users, listeners=("echo", "console"), tls=("echo",), certificates=certificates,
                command=COMMAND).start()
    try:
        context = certificates.client_context()
        with Lines(node, context) as lines:
            assert lines.ask("HELLO ana wrong").startswith("BYE user name or password")
        with Lines(node, context) as lines:
            assert lines.ask("HELLO ana secret") == "OK"
            assert lines.ask("PUB plant/1 x") == "OK"
            assert lines.ask("PUB office/1 x").startswith("NO ")
            assert node.stop() == 0
            assert lines.read() == "BYE the node shuts down"
    finally:
        node.process.kill9()
