"""mesh/configuration and checks.py: a configuration file to typed settings, or an error that names the path."""
from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mesh.configuration.config import decode_config, load_config, stream_settings
from mesh.configuration.effective import effective, format_toml, warnings_of
from mesh.configuration.settings import ListenerSettings
from mesh.identity.users import hash_password
from routing.errors import ConfigError
from routing.settings import Durability

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "meshgate.toml"
HASH = hash_password("a long password")

STREAM = '[[streams]]\nname = "orders"\ncapture = ["orders/#"]\n'
USER = f'[[users]]\nname = "ana"\npassword_hash = "{HASH}"\n'


def decode(text: str) -> object:
    return decode_config(text, Path("/base"))


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        decode(text)
    return str(caught.value)


def test_no_file_means_loopback_default_ports_and_one_stream_for_everything() -> None:
    config = load_config(None)
    assert [(protocol, listener.bind) for protocol, listener in config.listeners.all()] == [
        ("amqp", "127.0.0.1:5672"), ("console", "127.0.0.1:8090"), ("http", "127.0.0.1:8080"),
        ("kafka", "127.0.0.1:9092"), ("link", "127.0.0.1:7420"), ("mqtt", "127.0.0.1:1883")]
    assert [(stream.name, stream.capture) for stream in config.streams] == [("events", ("#",))]
    assert config.node.data == str(Path.cwd() / "meshgate-data")


def test_the_tables_of_the_design_are_read() -> None:
    config = decode_config(f'''
[node]
name = "graz-1"
site = "plant-graz"
data = "data"
[listeners]
mqtt = {{ bind = "127.0.0.1:1883" }}
[[streams]]
name = "orders"
capture = ["orders/#"]
partitions = 4
retention = {{ age = "7d", bytes = "10GiB" }}
durability = "write"
{USER}roles = ["operator"]
[[policies]]
allow = ["publish", "subscribe"]
to = ["role:operator", "user:pos-%c"]
topics = ["orders/#"]
''', Path("/base"))
    orders, events = stream_settings(config)
    assert (orders.partitions, orders.retention_ms, orders.retention_bytes) == (4, 604_800_000, 10 * 2**30)
    assert orders.durability is Durability.WRITE
    assert events.name == "events"
    assert config.node.data == "/base/data"
    assert config.listeners.http is None, "a listener that is left out is off"
    assert config.users[0].roles == ("operator",)


def test_a_stream_of_the_default_name_or_filter_replaces_the_default_one() -> None:
    own = decode_config('[[streams]]\nname = "events"\ncapture = ["plant/#"]\n', Path("/"))
    assert [stream.capture for stream in own.streams] == [("plant/#",)]
    everything = decode_config('[[streams]]\nname = "all"\ncapture = ["#"]\n', Path("/"))
    assert [stream.name for stream in everything.streams] == ["all"]


def test_sizes_and_durations_may_have_units_wherever_the_name_says_bytes_or_s() -> None:
    config = decode_config(
        '[limits]\npayload_bytes_max = "2MiB"\n[mqtt]\nsession_expiry_max_s = "2d"\nconnect_timeout_s = "2500ms"\n',
        Path("/"))
    assert config.limits.payload_bytes_max == 2 * 2**20
    assert config.mqtt.session_expiry_max_s == 172_800
    assert config.mqtt.connect_timeout_s == 2.5


def test_a_protocol_may_have_several_listeners() -> None:
    config = decode_config(
        '[listeners]\nmqtt = [{ bind = "127.0.0.1:1883" }, { bind = "[::1]:1884" }]\n', Path("/"))
    assert [listener.bind for _, listener in config.listeners.all()] == ["127.0.0.1:1883", "[::1]:1884"]


@pytest.mark.parametrize(("text", "expected"), [
    ("[nod]\n", "nod: unknown key, did you mean node?"),
    ('[node]\nnmae = "x"\n', "node.nmae: unknown key, did you mean name?"),
    ('[node]\nname = 5\n', "node.name: expected str, got int"),
    ('node = 3\n', "node: expected table, got int"),
    ('[listeners]\nmqtt = { bnd = "x" }\n', "listeners.mqtt.bnd: unknown key, did you mean bind?"),
    ('[listeners]\nmqtt = [{ bind = "127.0.0.1:1", tsl = 1 }]\n', "mqtt[0].tsl: unknown key, did you mean tls?"),
    ('[listeners]\nmqtt = { }\n', "listeners.mqtt.bind: missing"),
    (STREAM + STREAM.replace("orders", "b") + 'retention = { age = "7 days" }\n',
     "streams[1].retention.age: expected a duration such as 10s, 24h or 7d, got '7 days'"),
    (STREAM + 'retention = { age = 7 }\n', "streams[0].retention.age: expected a duration"),
    (STREAM + 'retention = { bytes = "10 Gb" }\n', "streams[0].retention.bytes: expected a size"),
    (STREAM + 'durability = "maybe"\n', "streams[0].durability: invalid enum value 'maybe', expected fsync or write"),
    (STREAM + 'partitions = 0\n', "streams[0].partitions: expected 1 to 1024, got 0"),
    (STREAM + STREAM, "streams[1].name: orders is already the name of streams[0]"),
    (STREAM + '[[streams]]\nname = "b"\ncapture = ["orders/#"]\n', "streams[1].capture[0]: orders/# is captured by"),
    ('[[streams]]\nname = "../etc"\ncapture = ["x"]\n', "streams[0].name: at most 249 letters"),
    ('[[streams]]\nname = "_state"\ncapture = ["x"]\n', "not beginning with an underscore"),
    ('[[streams]]\nname = "a"\ncapture = ["a/#/b"]\n', "streams[0].capture[0]: # must be the whole last level"),
    ('[[streams]]\nname = "a"\ncapture = ["$SYS/#"]\n', "streams[0].capture[0]: topics that begin with $"),
    ('[[streams]]\nname = "a"\n', "streams[0].capture: at least one topic filter"),
    ('[[users]]\nname = "ana"\npassword_hash = "secret"\n', "users[0].password_hash: not an argon2id hash"),
    (USER + USER, "users[1].name: ana is there twice"),
    ('[[users]]\nname = "anonymous"\n', "users[0].name: anonymous is a name that the node uses itself"),
    ('[[policies]]\nallow = ["fly"]\nto = ["*"]\n', "policies[0].allow[0]: invalid enum value 'fly', "
     "expected connect, publish, subscribe, browse, manage, view, operate, audit or administer"),
    ('[listeners]\nmqtt = [{ bind = "127.0.0.1:1" }, { bind = "x" }]\n', "listeners.mqtt[1].bind: expected HOST:PORT"),
    ('[listeners]\nmqtt = [{ bind = "127.0.0.1:1" }]\nhttp = { bind = "127.0.0.1:1" }\n',
     "listeners.mqtt[0].bind: 127.0.0.1:1 is taken by listeners.http"),
    ('[[policies]]\nto = ["*"]\n', "policies[0]: needs allow or deny"),
    ('[[policies]]\nallow = ["publish"]\nto = ["ana"]\n', "policies[0].to[0]: expected \"user:NAME\""),
    ('[[policies]]\nallow = ["publish"]\nto = ["*"]\ntopics = ["a+"]\n', "policies[0].topics[0]: + must be"),
    ('[limits]\npayload_bytes_max = 0\n', "limits.payload_bytes_max: expected at least 1, got 0"),
    ('[mqtt]\nreceive_maximum = 70000\n', "mqtt.receive_maximum: expected at most 65535"),
    ('[[replicate]]\nfilter = "a/#/b"\n', "replicate[0].filter: # must be the whole last level of a topic filter"),
    ('[[replicate]]\nfilter = "a"\n[[replicate]]\nfilter = "a"\n',
     "replicate[1].filter: a stands in replicate[0] already"),
    ('[[replicate]]\nfilter = "$SYS/#"\n',
     "replicate[0].filter: topics that begin with $ belong to each node and are not replicated"),
    ("[mesh]\nexpiry_s = 5\n", "mesh.expiry_s: expected at least three times mesh.gossip_interval_s, or nodes that "
     "live are forgotten"),
    ("[mesh]\nnodes_max = 1\n", "mesh.nodes_max: expected 2 to 100000, got 1"),
    ('[replication]\nwindow_bytes = 0\n', "replication.window_bytes: expected at least 1, got 0"),
    ('[mesh]\ngossip_rate_bytes = "1KiB"\n', "mesh.gossip_rate_bytes: expected 16384 to 2147483647, got 1024"),
    ('[[views]]\nname = "x"\n', "views: this version does not have"),
    ('[node\n', "not valid TOML"),
])
def test_an_error_names_the_path_of_the_setting(text: str, expected: str) -> None:
    assert expected in problem(text)


def test_all_problems_of_the_values_are_told_at_once() -> None:
    text = problem('[limits]\npayload_bytes_max = 0\n[mqtt]\nreceive_maximum = 70000\n')
    assert text.count("\n") == 1


@pytest.mark.parametrize("bind", ["0.0.0.0:1883", "*:1883", "[::]:1883", "192.0.2.7:1883", "graz-1.example:1883"])
def test_other_machines_are_served_only_with_users_and_with_tls_or_insecure_written_down(bind: str) -> None:
    """architecture.md §7, reliability.md Defaults."""
    listener = f'[listeners]\nmqtt = {{ bind = "{bind}"%s }}\n'
    assert "nobody has to log in" in problem(listener % "")
    assert "nobody has to log in" in problem(listener % ", insecure = true")
    assert "without TLS" in problem(listener % "" + USER)
    decode(listener % ", insecure = true" + USER)
    decode(listener % ', tls = { cert = "c", key = "k" }' + USER)
    decode(listener % ', tls = { cert = "c", key = "k", client_ca = "a" }')


@pytest.mark.parametrize("bind", ["127.0.0.1:1883", "127.9.9.9:0", "[::1]:1883", "localhost:1883"])
def test_loopback_needs_nothing(bind: str) -> None:
    decode(f'[listeners]\nmqtt = {{ bind = "{bind}" }}\n')


@pytest.mark.parametrize("bind", ["1883", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:1883", "a b:1"])
def test_a_bad_address_is_refused(bind: str) -> None:
    assert "listeners.mqtt.bind: " in problem(f'[listeners]\nmqtt = {{ bind = "{bind}" }}\n')


def test_relative_names_count_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        '[node]\ndata = "d"\n[listeners]\nmqtt = { bind = "127.0.0.1:1", tls = { cert = "c.pem", key = "/k.pem" } }\n'
        '[[users]]\nname = "ana"\npassword_hash = "file:ana.hash"\n')
    config = load_config(file)
    assert config.node.data == str(tmp_path / "d")
    assert isinstance(config.listeners.mqtt, ListenerSettings) and config.listeners.mqtt.tls is not None
    assert (config.listeners.mqtt.tls.cert, config.listeners.mqtt.tls.key) == (str(tmp_path / "c.pem"), "/k.pem")
    assert config.users[0].password_hash == f"file:{tmp_path}/ana.hash"


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothere.toml: No such file"):
        load_config(tmp_path / "nothere.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 0"):
        load_config(tmp_path / "binary")


def test_the_effective_configuration_hides_secrets_and_reads_back() -> None:
    config = decode_config(STREAM + 'retention = { age = "36h" }\n' + USER, Path("/base"))
    text = format_toml(effective(config))
    assert HASH not in text and "(hidden)" in text
    assert HASH not in repr(config)
    again = decode_config(text.replace("(hidden)", HASH), Path("/base"))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(config)


def test_what_is_probably_not_meant_is_warned_about() -> None:
    config = decode_config(STREAM + USER + '[listeners]\nmqtt = { bind = "*:1883", insecure = true }\n', Path("/"))
    warnings = "\n".join(warnings_of(config))
    assert "no user" not in warnings
    assert "nobody may publish" in warnings and "clear text" in warnings and "orders: no retention" in warnings


PEOPLE = """
[[users]]
name = "ana"
roles = ["operator"]
[[policies]]
allow = ["publish"]
to = ["user:anna", "role:operators", "role:admin", "user:ana", "role:authenticated", "*", "anonymous", "user:pos-%c"]
[[policies]]
deny = ["publish"]
to = ["role:guest", "user:machine-1"]
"""
ISSUER = """
[[jwt]]
issuer = "https://login.example"
audience = ["meshgate"]
jwks = "https://login.example/keys"
"""
ANNA = "policies[0].to[0]: there is no user anna; did you mean ana?"
OPERATORS = "policies[0].to[1]: there is no role operators; did you mean operator?"
GUEST = "policies[1].to[0]: there is no role guest"
MACHINE = "policies[1].to[1]: there is no user machine-1"
CLIENTS = '[listeners]\nmqtt = { bind = "127.0.0.1:1", tls = { cert = "c", key = "k", client_ca = "a" } }\n'


@pytest.mark.parametrize(("more", "expected"), [
    ("", [ANNA, OPERATORS, GUEST, MACHINE]),
    (CLIENTS, [ANNA, OPERATORS, GUEST]),                # a certificate may be machine-1
    (ISSUER, [ANNA, OPERATORS]),                        # a token may have any role
])
def test_a_policy_about_nobody_is_warned_about(more: str, expected: list[str]) -> None:
    warnings = warnings_of(decode_config(PEOPLE + more, Path("/")))
    assert [text for text in warnings if text.startswith("policies")] == expected


def test_the_example_file_is_valid() -> None:
    config = load_config(EXAMPLE)
    assert config.streams
