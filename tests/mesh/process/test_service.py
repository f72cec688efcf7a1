"""The life of a node in a process of its own: start, refusals to start, signals, reload."""
from __future__ import annotations

import base64
import json
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from mesh.configuration.config import load_config
from mesh.identity.users import hash_password
from mesh.process.reload import prepare
from routing.errors import ConfigError
from tests.support.certificates import Certificates, make_certificates
from tests.support.node import Node, http, meshgate
from tests.support.rawmqtt import DISCONNECT, SESSION_EXPIRY, ConnectionClosed, open_mqtt
from tests.support.wait import DEADLINE_S, wait_until

ANA = f'[[users]]\nname = "ana"\npassword_hash = "{hash_password("first password")}"\n'
ANA_LATER = f'[[users]]\nname = "ana"\npassword_hash = "{hash_password("second password")}"\n'
ALLOW = '[[policies]]\nallow = ["publish", "subscribe"]\nto = ["user:ana"]\ntopics = ["{topics}"]\n'

NodeFactory = Callable[..., Node]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def reload(node: Node, extra: str, result: str) -> None:
    """Write the configuration, send SIGHUP, wait until it was taken ("configuration taken") or refused."""
    before = node.process.log_text().count(result)
    node.write_config(extra)
    node.sighup()
    wait_until(lambda: node.process.log_text().count(result) > before, result, also=node.process.log_tail)


# --- start --------------------------------------------------------------------------------------------------------

def test_the_banner_says_where_it_listens_where_data_is_and_that_it_is_local(node: Node) -> None:
    text = node.process.log_text()
    for listener, scheme in (("mqtt", "mqtt"), ("http", "http"), ("console", "http")):
        assert f"{scheme}://127.0.0.1:{node.ports[listener]}" in text
    assert str(node.data) in text and "serves programs on this machine only" in text


def test_a_second_node_on_the_same_data_or_port_fails_in_one_line_and_harms_nothing(node: Node, tmp_path: Path) -> None:
    same_port = meshgate("up", "--config", str(node.config))
    assert same_port.returncode == 1 and b"another program listens there" in same_port.stderr
    assert b"Traceback" not in same_port.stderr
    other = tmp_path / "other.toml"
    other.write_text(f'[node]\ndata = "{node.data}"\n[listeners]\nconsole = {{ bind = "127.0.0.1:0" }}\n')
    same_data = meshgate("up", "--config", str(other))
    assert same_data.returncode == 1 and str(node.data).encode() in same_data.stderr
    assert b"Traceback" not in same_data.stderr
    assert node.publish("a", b"1").status == 200


@pytest.mark.parametrize(("listener", "expected"), [
    ('mqtt = { bind = "0.0.0.0:0" }', b"nobody has to log in"),
    ('mqtt = { bind = "0.0.0.0:0", insecure = true }', b"nobody has to log in"),
])
def test_serving_other_machines_without_users_refuses_to_start(tmp_path: Path, listener: str, expected: bytes) -> None:
    """architecture.md §7."""
    file = tmp_path / "node.toml"
    file.write_text(f"[listeners]\n{listener}\n")
    done = meshgate("up", "--config", str(file), "--data", str(tmp_path / "data"))
    assert done.returncode == 1 and expected in done.stderr
    assert not (tmp_path / "data").exists(), "nothing was touched"


def test_port_0_is_told_in_listening_json(tmp_path: Path) -> None:
    node = Node(tmp_path / "n")
    free = '{ bind = "127.0.0.1:0" }'
    node.config.write_text(f'[node]\ndata = "{node.data}"\n[listeners]\nconsole = {free}\nmqtt = {free}\n')
    node.process.start()
    note = node.data / "listening.json"
    try:
        wait_until(note.exists, "the note is there", also=node.process.log_tail)
        found = json.loads(note.read_text())["listeners"]
        assert http("GET", f"http://{found['console'][0]}/readyz").status == 200
        assert node.stop() == 0
        assert not note.exists()
    finally:
        node.kill9()


def test_users_without_an_admin_get_one_with_a_random_password_that_is_shown_once(node_factory: NodeFactory) -> None:
    """reliability.md Defaults: no default password."""
    node = node_factory(extra=ANA)
    line = next(line for line in node.process.log_text().splitlines() if "user admin" in line)
    password = line.split()[-1]
    assert len(password) == 24
    login = basic("admin", password)
    assert node.get("/api/v1/status", login).status == 200
    assert (node.data / "admin.hash").stat().st_mode & 0o777 == 0o600
    node.restart()
    assert node.process.log_text().count("user admin") == 1, "not shown a second time"
    assert node.get("/api/v1/status", login).status == 200
    node.stop()
    node.write_config(ANA + 'roles = ["admin"]\n')
    node.start()
    assert node.get("/api/v1/status", login).status == 401, "a configured admin ends the generated one"
    assert node.get("/api/v1/status", basic("ana", "first password")).status == 200


# --- stop ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_says_goodbye_flushes_and_exits_with_0(node_factory: NodeFactory, number: signal.Signals) -> None:
    node = node_factory()
    with open_mqtt(node.mqtt, "guest", clean=False, values=[(SESSION_EXPIRY, 600)]) as client:
        client.subscribe(("bye/#", 1))
        client.publish_acked("bye/x", b"1")
        client.message()
        node.process.signal(number)
        assert client.expect(DISCONNECT).code == 0x8B
        with pytest.raises(ConnectionClosed):
            client.next()
    assert node.process.wait() == 0
    assert "has stopped" in node.process.log_text()
    node.start()
    assert node.get("/api/v1/streams").json["streams"][0]["events"] == 1


def test_an_sse_reader_does_not_hold_up_the_stop(node: Node) -> None:
    with socket.create_connection(node.address("http")) as reader:
        reader.sendall(b"GET /v1/events?filter=%23 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in reader.recv(1_000)
        assert node.stop() == 0
        reader.settimeout(DEADLINE_S)
        while reader.recv(1_000):
            pass


# --- reload -------------------------------------------------------------------------------------------------------

def test_reload_takes_users_policies_and_streams_and_drops_nobody(node_factory: NodeFactory) -> None:
    node = node_factory(extra=ANA + ALLOW.format(topics="old/#"))
    first, second = basic("ana", "first password"), basic("ana", "second password")
    assert node.publish("old/x", b"1", first).status == 200
    with open_mqtt(node.mqtt, "stays", username="ana", password=b"first password") as client:
        reload(node, ANA_LATER + ALLOW.format(topics="new/#")
               + '[[streams]]\nname = "fresh"\ncapture = ["new/#"]\n', "configuration taken")
        assert node.publish("new/x", b"1", second).json["stream"] == "fresh"
        assert node.publish("old/x", b"1", second).status == 403
        assert node.publish("new/x", b"1", first).status == 401
        client.ping()
        assert client.publish_acked("new/y", b"2").code in (0, 0x10), "the new policy holds for who is connected"
        assert client.publish_acked("old/y", b"2").code == 0x87


@pytest.mark.parametrize(("extra", "expected"), [
    ("[[streams]\n", "not valid TOML"),
    (ANA + ALLOW.format(topics="a/#/b"), "policies[0].topics[0]"),
    (ANA + "[mqtt]\nreceive_maximum = 7\n", "mqtt: cannot change while the node runs"),
    ("", "users, api_keys and jwt: between none and some"),
    (ANA.replace("$argon2id", "env:NOT_SET$argon2id"), "the environment has no"),
    (ANA + '[[streams]]\nname = "events"\ncapture = ["#"]\npartitions = 9\n', "events: partitions cannot change"),
])
def test_a_bad_configuration_is_refused_whole_and_the_old_one_stays(
    node_factory: NodeFactory, extra: str, expected: str,
) -> None:
    node = node_factory(extra=ANA + 'roles = ["admin"]\n' + ALLOW.format(topics="old/#"))
    login = basic("ana", "first password")
    reload(node, extra, "configuration refused")
    assert expected in node.process.log_text()
    assert node.publish("old/x", b"1", login).status == 200
    status = node.get("/api/v1/status", login).json
    assert expected in status["reload_problem"] and status["reloads"] == {"ok": 0, "refused": 1}


def test_without_a_file_there_is_nothing_to_reload() -> None:
    with pytest.raises(ConfigError, match="runs without a configuration file"):
        prepare(load_config(None), None, None)


def test_reload_serves_new_certificates(node_factory: NodeFactory, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old, new = make_certificates(tmp_path / "a"), make_certificates(tmp_path / "b")
    node = node_factory(tls=("mqtt",), start=False)
    node.certificates = old
    node.write_config()
    node.start()
    with open_mqtt(node.mqtt, "old", tls=old.client_context()) as client:
        _put(new, old)
        reload(node, node.extra, "configuration taken")
        client.ping()
        with open_mqtt(node.mqtt, "new", tls=new.client_context()) as other:
            other.ping()


def _put(source: Certificates, target: Certificates) -> None:
    target.server_cert.write_bytes(source.server_cert.read_bytes())
    target.server_key.write_bytes(source.server_key.read_bytes())


@pytest.fixture
def mutual(node_factory: NodeFactory, certificates: Certificates) -> Node:
    """A node without users, whose MQTT and HTTP clients must show a certificate."""
    node = node_factory(tls=("mqtt", "http"), start=False)
    text = node.config_text().replace("tls = {", f'tls = {{ client_ca = "{certificates.ca}",')
    node.config.write_text(text)
    node.process.start()
    node.wait_ready()
    return node


def _device(certificates: Certificates) -> tuple[ssl.SSLContext, str]:
    """A TLS context with the client certificate, and its common name."""
    context = certificates.client_context()
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    subject = x509.load_pem_x509_certificate(certificates.client_cert.read_bytes()).subject
    return context, str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_client_certificate_is_the_user_on_mqtt(mutual: Node, certificates: Certificates) -> None:
    context, name = _device(certificates)
    with open_mqtt(mutual.mqtt, "device", tls=context) as client:
        assert client.publish_acked("a", b"1").code in (0, 0x10)
        shown, = mutual.get("/api/v1/clients").json["clients"]
        assert shown["user"] == name
    with pytest.raises((OSError, ConnectionClosed)):
        open_mqtt(mutual.mqtt, "stranger", tls=certificates.client_context())


def test_a_client_certificate_is_the_user_on_http(mutual: Node, certificates: Certificates) -> None:
    context, name = _device(certificates)
    url = mutual.url("http", "/v1/events/a")
    assert http("POST", url, b"1", tls=context).status == 200
    assert http("POST", url, b"1", basic(name, "whatever"), tls=context).status == 200
    assert http("POST", url, b"1", basic("somebody-else", "x"), tls=context).status == 401
    with pytest.raises(OSError):
        http("POST", url, b"1", tls=certificates.client_context())
