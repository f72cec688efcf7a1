"""The command `meshgate` as a user runs it: against a real node, a dead one, and files."""
from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh.identity.users import hash_password
from tests.support.certificates import Certificates
from tests.support.node import COMMAND, ROOT, Node, meshgate
from tests.support.ports import free_port
from tests.support.rawmqtt import open_mqtt
from tests.support.wait import wait_until


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> object:
    started = Node(tmp_path_factory.mktemp("cli")).start()
    yield started
    started.kill9()


def run(*arguments: str, **options: object) -> str:
    done = meshgate(*arguments, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def fails(*arguments: str, **options: object) -> str:
    done = meshgate(*arguments, **options)  # type: ignore[arg-type]
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr.decode()
    return done.stderr.decode()


def test_version() -> None:
    assert run("--version").startswith("meshgate 0.")


def test_wrong_arguments_exit_with_2() -> None:
    assert meshgate("fly").returncode == 2
    assert meshgate().returncode == 2


@pytest.mark.parametrize("command", [["status"], ["streams"], ["consumers"], ["clients"], ["denials"]])
def test_no_node_is_one_clear_line(command: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    text = fails(*command, "--url", url)
    assert text == f"meshgate: nothing listens on {url}: is the node up? start it with `meshgate up`\n"


def test_something_else_that_listens_is_told_apart(node: Node) -> None:
    assert "without an HTTP answer" in fails("status", "--url", f"http://127.0.0.1:{node.ports['mqtt']}")
    assert "console and management API have a listener of their own" in fails("status", "--url", node.url("http"))
    over_tls = node.url("console").replace("http", "https")
    assert "does this listener have TLS? try http://" in fails("status", "--url", over_tls)
    assert "is not a URL" in fails("status", "--url", "ftp://x")


def test_status_streams_and_clients_are_tables_or_json(node: Node) -> None:
    config = ["--config", str(node.config)]
    with open_mqtt(node.mqtt, "a-client"):
        assert "test-1" in run("status", *config)
        assert json.loads(run("status", "--json", *config))["state"] == "ready"
        header, row = run("streams", *config).splitlines()
        assert header.split()[0] == "STREAM" and row.split()[0] == "events"
        assert "a-client" in run("clients", *config)
        assert run("consumers", *config).startswith("CONSUMER")
        assert run("clients", "kick", "a-client", *config) == "kicked a-client\n"


def test_the_doctor_says_what_is_well_and_what_to_do(node: Node, tmp_path: Path) -> None:
    text = run("doctor", "--config", str(node.config))
    assert "is a configuration that a node would take" in text and "node test-1 answers, version" in text
    assert "All is well: 1 node" in text and " free" in text and "open files" in text
    assert all(line.startswith(("ok ", "notice ", "          →")) for line in text.splitlines()), text
    broken = tmp_path / "node.toml"
    broken.write_text("[node]\nnam = 1\n")
    done = meshgate("doctor", "--config", str(broken), "--url", f"http://127.0.0.1:{free_port()}", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1 and [one["state"] for one in found] == ["broken", "broken"]
    assert "nam" in found[0]["what"] and "meshgate check" in found[0]["do"] and "is the node up?" in found[1]["what"]


def test_what_pub_publishes_sub_prints(node: Node) -> None:
    config = ["--config", str(node.config)]
    told = run("pub", "cli/a", "hello", "--header", "Shift=früh", "--key", "k", "--content-type", "text/plain", *config)
    assert told.startswith("stored as events/0, offset ")
    run("pub", "cli/b", "-", *config, input=b"from standard input\n")
    text = run("sub", "cli/#", "--from", "earliest", "--count", "2", *config)
    assert text.splitlines() == ["cli/a hello", r"cli/b from standard input\n"]
    event = json.loads(run("sub", "cli/+", "--from", "earliest", "--count", "1", "--json", *config))
    assert (event["payload"], event["key"], event["content_type"]) == ("hello", "k", "text/plain")
    assert event["headers"] == [["Shift", "früh"]]


def test_pub_takes_a_line_per_event(node: Node) -> None:
    config = ["--config", str(node.config)]
    run("pub", "lines", "--lines", *config, input=b"one\ntwo\nthree\n")
    assert run("sub", "lines", "--from", "earliest", "--count", "3", "--payload", *config) == "one\ntwo\nthree\n"


def test_a_topic_with_any_characters_arrives(node: Node) -> None:
    config = ["--config", str(node.config)]
    topic = "odd/a b?c=d&e%20/ü"
    run("pub", topic, "x", *config)
    assert json.loads(run("sub", "odd/#", "--from", "earliest", "--count", "1", "--json", *config))["topic"] == topic


@pytest.mark.parametrize(("arguments", "expected"), [
    (["pub", "a/#", "x"], "must not contain the wildcards"),
    (["pub", "a", "x", "--header", "novalue"], "expected NAME=VALUE"),
    (["pub", "a", "x", "--ttl", "soon"], "--ttl: expected a duration"),
    (["pub", "a", "--file", "/no/such/file"], "No such file"),
    (["sub", "a#"], "a#: # must be the whole last level"),
    (["sub", "a", "--from", "yesterday"], "an RFC 3339 time"),
])
def test_a_mistake_is_told_before_or_by_the_node(node: Node, arguments: list[str], expected: str) -> None:
    assert expected in fails(*arguments, "--config", str(node.config))


def test_a_certificate_that_is_not_trusted_is_told_with_the_way_out(tmp_path: Path, certificates: Certificates) -> None:
    node = Node(tmp_path, tls=("console",), certificates=certificates).start()
    try:
        url = f"https://127.0.0.1:{node.ports['console']}"
        text = fails("status", "--url", url)
        assert "the node's certificate is not trusted" in text and "--ca FILE" in text
        assert "test-1" in run("status", "--url", url, "--ca", str(certificates.ca))
    finally:
        node.kill9()


def test_sub_goes_on_where_it_was_when_the_node_comes_back(tmp_path: Path) -> None:
    node = Node(tmp_path / "node").start()
    url = node.url("http")
    process = subprocess.Popen([*COMMAND, "sub", "x/#", "--url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: node.metrics()["meshgate_http_sse_readers"] == 1, "the reader is there")
        node.publish("x/1", b"before")
        assert process.stdout is not None and process.stdout.readline() == b"x/1 before\n"
        node.kill9()
        time.sleep(0.2)
        node.start()
        node.publish("x/2", b"while it was away")
        assert process.stdout.readline() == b"x/2 while it was away\n"
    finally:
        process.kill()
        process.communicate()
        node.kill9()


def test_check_prints_the_effective_configuration_without_secrets(tmp_path: Path) -> None:
    password_hash = hash_password("a password")
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\nname = "n"\n[[users]]\nname = "ana"\npassword_hash = "{password_hash}"\n')
    done = meshgate("check", str(file))
    assert done.returncode == 0
    assert b'name = "n"' in done.stdout and b"receive_maximum" in done.stdout
    assert b"argon2" not in done.stdout
    assert b"warning: users are configured but no [[policies]]" in done.stderr
    file.write_text("[node]\nnmae = 1\n")
    assert "node.toml: node.nmae: unknown key, did you mean name?" in fails("check", str(file))
    file.write_text('[listeners]\nmqtt = { bind = "127.0.0.1:1", tls = { cert = "no.pem", key = "no.key" } }\n')
    assert "listeners.mqtt.tls: " in fails("check", str(file))


def test_passwd_makes_a_hash_that_logs_in(tmp_path: Path) -> None:
    table = run("passwd", "ana", input=b"a long password\n")
    file = tmp_path / "node.toml"
    file.write_text(table)
    assert meshgate("check", str(file)).returncode == 0
    file.write_text(run("passwd", "ana", "--role", "admin", "--role", "a \"b\"", input=b"a long password\n"))
    assert json.loads(run("check", "--json", str(file)))["users"][0]["roles"] == ["admin", 'a "b"']
    file.write_text(file.read_text() + "roles = []\n")
    assert "not valid TOML: this name has a value already (at line 5, " in fails("check", str(file))
    assert "needs the name of a user" in fails("passwd", "--role", "admin", input=b"a long password\n")
    assert "at least 8 characters" in fails("passwd", input=b"short\n")


def test_log_verify_and_dump(tmp_path: Path) -> None:
    node = Node(tmp_path / "node").start()
    for number in range(3):
        node.publish(f"v/{number}", b"payload")
    assert "0 damaged places" in run("log", "verify", str(node.data))
    assert node.stop() == 0
    assert "0 damaged places" in run("log", "verify", str(node.data))
    dumped = run("log", "dump", str(node.data / "streams" / "events"), "--count", "2").splitlines()
    assert len(dumped) == 2 and "v/0" in dumped[0] and "v/1" in dumped[1]
    file = next((node.data / "streams" / "events" / "0").glob("*.log"))
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    done = meshgate("log", "verify", str(node.data))
    assert done.returncode == 1 and b"damage" in done.stdout
    assert "no such directory" in fails("log", "verify", str(tmp_path / "nothing"))


def test_a_command_imports_what_it_needs_and_no_more():
    """aiohttp alone costs as much as all the rest of a start: who asks for a version does not wait for it."""
    code = ("import sys; import mesh.cli, mesh.configuration.config; "
            "print([name for name in ('aiohttp', 'jwt', 'jinja2', 'kio') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, timeout=60)
    assert done.stdout.decode().strip() == "[]"
