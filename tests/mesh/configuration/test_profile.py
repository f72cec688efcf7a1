"""`profile = "hardened"`: what it refuses, what it decides, and that a node that runs keeps to it."""
from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from mesh.configuration.config import decode_config
from mesh.configuration.outside import resolve_outside
from mesh.configuration.profile import effects
from mesh.connectors.webhook_guard import Guard, TargetRefused
from mesh.connectors.webhooks import Prepared
from mesh.identity.users import hash_password
from mesh.management.acts.audit import AuditRefused
from mesh.management.security.trail import Trail
from mesh.management.sessions import Sessions
from protocols.rest.problems import Problem
from routing.errors import ConfigError, Reason, Refusal
from routing.rights.policy import Identity
from tests.support.admin import ROOT_LOGIN, Admin, basic
from tests.support.certificates import make_certificates
from tests.support.node import Node, http, meshgate
from tests.support.ports import free_port
from tests.support.wait import wait_until

HASH = hash_password("the admin password")
HARDENED = '[node]\nprofile = "hardened"\n'
ROOT = f'[[users]]\nname = "root"\npassword_hash = "{HASH}"\nroles = ["admin"]\n'
GOOD = HARDENED + ROOT


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, Path("/base"))
    return [line.removesuffix(' (profile = "hardened")') for line in str(caught.value).splitlines()
            if line.endswith('(profile = "hardened")')]


TLS = 'tls = { cert = "c.pem", key = "k.pem" }'


@pytest.mark.parametrize(("text", "path"), [
    (HARDENED, "node.profile"),
    (GOOD + '[listeners]\nmqtt = { bind = "0.0.0.0:1883", insecure = true }\n', "listeners.mqtt.insecure"),
    (GOOD + f'[listeners]\nmqtt = [{{ bind = "127.0.0.1:1" }}, {{ bind = "*:2", insecure = true, {TLS} }}]\n',
     "listeners.mqtt[1].insecure"),
    (GOOD + f'[listeners]\nlink = {{ bind = "*:7420", {TLS} }}\n[[link_peers]]\nnode = "graz"\ntoken = "env:T"\n',
     "listeners.link.tls.client_ca"),
    (GOOD + '[[policies]]\nallow = ["connect"]\nto = ["role:a", "anonymous"]\n', "policies[0].to[1]"),
    (GOOD + '[[links]]\nto = "ws://far:7420"\ninsecure = true\n', "links[0].insecure"),
    (GOOD + '[[links]]\nto = "wss://far:7420"\ntoken = "env:T"\n', "links[0].cert"),
    (GOOD + '[[links]]\nto = "ws://127.0.0.1:7420"\ntoken = "0123456789abcdef"\n', "links[0].token"),
    (GOOD + '[[link_peers]]\nnode = "graz"\ntoken = "0123456789abcdef"\n', "link_peers[0].token"),
    (GOOD + '[[kafka_bridges]]\nname = "erp"\nservers = ["127.0.0.1:9092", "far:9092"]\n', "kafka_bridges[0].tls"),
    (GOOD + '[http.cors]\norigins = ["*"]\n', "http.cors.origins"),
    (GOOD + '[websocket]\nallowed_origins = ["*"]\n', "websocket.allowed_origins"),
])
def test_what_stands_against_it_is_named_by_its_path_alone(text: str, path: str) -> None:
    assert [line.partition(": ")[0] for line in problems(text)] == [path]
    assert "0123456789abcdef" not in str(problems(text)), "no secret in an error"


def test_all_of_it_is_told_at_once_and_the_standard_profile_takes_it() -> None:
    text = '[[policies]]\nallow = ["connect"]\nto = ["anonymous"]\n[http.cors]\norigins = ["*"]\n'
    assert len(problems(HARDENED + text)) == 3
    assert effects(decode_config(text, Path("/base"))) == []


def test_a_profile_that_there_is_not_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"node\.profile: invalid enum value 'hard', expected standard or hardened"):
        decode_config('[node]\nprofile = "hard"\n', Path("/base"))


def test_it_shortens_sessions_and_never_makes_them_longer() -> None:
    config = decode_config(GOOD + '[console]\nsession_idle_s = "5m"\nsession_s = "24h"\n', Path("/base"))
    assert (config.console.session_idle_s, config.console.session_s) == (300, 4 * 3600)
    assert config.console.record_every_view and config.webhooks.https_only
    clock = [0.0]
    sessions = Sessions(lambda: clock[0], lambda: 0, config.console)
    secret = sessions.open(Identity("ana"), "browser")
    clock[0] = 299.0
    assert sessions.find(secret) is not None
    clock[0] = 299.0 + 301.0
    assert sessions.find(secret) is None


def test_receivers_of_webhooks_are_called_over_tls() -> None:
    prepared = Prepared(decode_config(GOOD, Path("/base")).webhooks, ())
    prepared.guard.check_url("https://example.com/hook")
    with pytest.raises(TargetRefused, match="over TLS only"):
        prepared.guard.check_url("http://example.com/hook")
    Guard(("127.0.0.0/8",), https_only=True).check_url("http://127.0.0.1:1/hook")
    Guard().check_url("http://example.com/hook")


def test_a_private_key_that_everybody_may_read_is_no_start(tmp_path: Path) -> None:
    pki = make_certificates(tmp_path)
    text = GOOD + (f'[listeners]\nmqtt = {{ bind = "*:0", tls = {{ cert = "{pki.server_cert}", '
                   f'key = "{pki.server_key}" }} }}\n')
    with pytest.raises(ConfigError, match=r"listeners\.mqtt\.tls\.key: every user of this machine may read"):
        resolve_outside(decode_config(text, tmp_path))
    pki.server_key.chmod(0o640)
    resolve_outside(decode_config(text, tmp_path))
    pki.server_key.chmod(0o644)
    resolve_outside(decode_config(text.replace("hardened", "standard"), tmp_path))


def test_check_prints_line_by_line_what_holds_and_what_stands_in_its_way(tmp_path: Path) -> None:
    pki = make_certificates(tmp_path)
    pki.server_key.chmod(0o600)
    file = tmp_path / "node.toml"
    file.write_text(GOOD + f'[listeners]\nhttp = {{ bind = "127.0.0.1:8080" }}\nmqtt = {{ bind = "*:8883", tls = '
                    f'{{ cert = "{pki.server_cert}", key = "{pki.server_key}" }} }}\n')
    done = meshgate("check", str(file))
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "# profile hardened: what holds because of it"
    assert "#   listeners.mqtt: *:8883, TLS 1.2 or 1.3" in lines
    assert "#   listeners.http: 127.0.0.1:8080, this machine only, without TLS" in lines
    assert any(line.startswith("#   anonymous: nobody") for line in lines)
    assert json.loads(meshgate("check", "--json", str(file)).stdout)["profile_effects"]
    decode_config(done.stdout.decode().replace("(hidden)", HASH), tmp_path)      # it is still a configuration
    file.write_text(HARDENED + '[http.cors]\norigins = ["*"]\n')
    done = meshgate("check", str(file))
    assert done.returncode != 0 and done.stderr.decode().count('(profile = "hardened")') == 2, done.stderr


class HardenedNode(Node):
    def config_text(self) -> str:
        return super().config_text().replace("[node]\n", HARDENED, 1)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory):
    rules = '[[policies]]\nallow = ["connect", "publish", "subscribe"]\nto = ["*"]\n'
    node = HardenedNode(tmp_path_factory.mktemp("hardened"), extra=ROOT + rules)
    node.start()
    yield node
    node.kill9()


def test_nobody_comes_in_without_a_proof_also_where_a_managed_policy_says_so(node: Node) -> None:
    Admin(node).must_put("policies/guests", allow=["connect", "publish", "subscribe"], to=["anonymous", "*"],
                         topics=["#"])
    assert http("POST", node.url("http", "/v1/events/a"), b"x").status == 401
    assert http("GET", node.url("console", "/api/v1/status")).status == 401
    assert _connack(node) == 4, "MQTT 3.1.1: bad user name or password"
    assert http("POST", node.url("http", "/v1/events/a"), b"x", basic("root", "the admin password")).status < 300


def _connack(node: Node) -> int:
    """The return code of a CONNECT without user name.                        Source: MQTT 3.1.1 §3.2.2.3"""
    with socket.create_connection(node.mqtt, 5) as client:
        client.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")
        return client.recv(4)[3]


def test_every_page_of_payloads_is_on_record_before_it_is_shown(node: Node) -> None:
    admin = Admin(node)
    assert node.publish("seen", b"x", ROOT_LOGIN).status < 300
    for _ in range(2):
        assert admin.ask("GET", "browse?filter=seen").json["events"]
        assert admin.rows("audit")[0]["act"] == "payload.browse"
    event = admin.ask("GET", "browse?filter=seen").json["events"][0]
    assert admin.ask("GET", f"journey?id={event['id']}").status == 200
    rows = [(row["act"], row["target"]) for row in admin.rows("audit")[:4]]
    assert rows == [("payload.journey", event["id"]), *[("payload.browse", "seen")] * 3]


async def test_a_view_that_cannot_be_recorded_is_not_shown(tmp_path: Path) -> None:
    """The same door as acts: what cannot be written down is not done."""
    class Full:
        async def record(self, *_: object, **__: object) -> int:
            raise AuditRefused(Refusal(Reason.STORAGE_FULL, "the disk is full"))
    trail = Trail.__new__(Trail)
    trail._audit, trail._every_view = Full(), True      # type: ignore[assignment]
    with pytest.raises(Problem) as caught:
        await trail.viewed(Identity("ana"), "browse", "#")
    assert caught.value.status == 507


def test_the_profile_does_not_change_while_the_node_runs(node: Node) -> None:
    node.write_config()
    text = node.config.read_text()
    node.config.write_text(text.replace("hardened", "standard"))
    node.sighup()
    refused = wait_until(lambda: next((row for row in Admin(node).rows("audit")
                                       if row["act"] == "configuration.reload"), None), "the reload is on record")
    assert refused["outcome"] == "refused" and "node.profile" in refused["reason"]


def test_two_hardened_nodes_link_by_certificate_over_tls(tmp_path: Path) -> None:
    pki = make_certificates(tmp_path, client_name="graz")
    for key in (pki.server_key, pki.client_key):
        key.chmod(0o600)
    port = free_port()
    tls = f'cert = "{pki.server_cert}", key = "{pki.server_key}"'
    cloud = HardenedNode(tmp_path / "cloud", name="cloud", listeners=("http", "console"), extra=ROOT + (
        '[[link_peers]]\nnode = "graz"\n'))
    text = cloud.config.read_text()
    cloud.config.write_text(text.replace("[listeners]\n", "[listeners]\n" + (
        f'link = {{ bind = "*:{port}", tls = {{ {tls}, client_ca = "{pki.ca}" }} }}\n')))
    graz = HardenedNode(tmp_path / "graz", name="graz", listeners=("http", "console"), extra=ROOT + (
        f'[[links]]\nto = "wss://localhost:{port}"\nca = "{pki.ca}"\ncert = "{pki.client_cert}"\n'
        f'key = "{pki.client_key}"\n'))
    try:
        cloud.start()
        graz.start()
        link = wait_until(lambda: next((row for row in Admin(graz).rows("links") if row["state"] == "up"), None),
                          "the link is up")
        assert link["tls"]
    finally:
        cloud.kill9()
        graz.kill9()
