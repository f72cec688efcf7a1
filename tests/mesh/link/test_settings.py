"""Links in a configuration file: what is refused with which path, what is hidden, which listeners need proof."""
from __future__ import annotations

from pathlib import Path

import pytest

from mesh.configuration.config import decode_config
from mesh.configuration.effective import effective, format_toml, warnings_of
from mesh.configuration.outside import resolve_links
from mesh.link.dialling.target import link_name
from mesh.link.proof.prepare import prepare_links
from routing.errors import ConfigError

LINK = '[[links]]\nto = "ws://127.0.0.1:7421"\n'
PEER = '[[link_peers]]\nnode = "graz"\n'
TOKEN = 'token = "0123456789abcdef"\n'


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        decode_config(text, Path("/base"))
    return str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [
    ('[[links]]\nto = "http://x:1"\n', "links[0].to: expected ws://HOST:PORT or wss://HOST:PORT"),
    ('[[links]]\nto = "ws://a:b@127.0.0.1:1"\n', "links[0].to: expected ws://"),
    ('[[links]]\nto = "ws://127.0.0.1:99999"\n', "links[0].to: expected ws://"),
    ('[[links]]\nto = "ws://cloud.example:7420"\n', "links[0].to: ws://cloud.example:7420 leaves this machine"),
    ('[[links]]\n', "links[0].to: missing"),
    (LINK + LINK, "links[1].name: 127.0.0.1-7421 is already the name of links[0]"),
    (LINK + 'name = "a b"\n', "links[0].name: at most 64 letters"),
    (LINK + 'cert = "a.pem"\n', "links[0]: cert and key belong together"),
    (LINK + 'ca = "a.pem"\n', "links[0]: ca, cert and server_name need wss://"),
    (LINK + 'proxy = "https://p:1"\n', "links[0].proxy: expected http://HOST:PORT"),
    (LINK + 'proxy = "http://u:p@p:1"\n', "links[0].proxy: write the user as proxy_user"),
    (LINK + 'proxy_user = "u"\n', "links[0].proxy: proxy_user and proxy_password need a proxy"),
    (LINK + 'proxy = "http://p:1"\nproxy_user = "u:v"\n', "links[0].proxy_user: Basic authentication"),
    (LINK + 'cost = 0\n', "links[0].cost: expected 1 to 65535"),
    (LINK + 'priority = 10\n', "links[0].priority: expected 0 to 9"),
    (LINK + 'rate_bytes = "fast"\n', "links[0].rate_bytes: expected a size"),
    (LINK + 'export = ["a/#/b"]\n', "links[0].export[0]: # must be the whole last level"),
    (LINK + 'prefix = "a/+"\n', "links[0].prefix: a topic must not contain"),
    (LINK + 'prefix = "a/"\n', "links[0].prefix: levels such as"),
    (LINK + 'tokn = "x"\n', "links[0].tokn: unknown key, did you mean token?"),
    (PEER, "link_peers[0]: needs token or jwt_key, or listeners.link needs tls with client_ca"),
    (PEER + TOKEN + 'jwt_key = "x"\n', "link_peers[0]: either token or jwt_key"),
    ('[[link_peers]]\nnode = "a/b"\n' + TOKEN, "link_peers[0].node: the name of a node"),
    ('[link]\nstale_after_s = 1\n', "link.stale_after_s: expected more than link.heartbeat_s"),
    ('[link]\nframe_bytes_max = 10\n', "link.frame_bytes_max: expected at least 1024"),
    ('[listeners]\nlink = { bind = "0.0.0.0:7420" }\n',
     "listeners.link.bind: 0.0.0.0:7420 can be reached from other machines, but any node may link"),
    ('[listeners]\nlink = { bind = "0.0.0.0:7420" }\n' + PEER + TOKEN,
     "listeners.link.bind: 0.0.0.0:7420 can be reached from other machines without TLS"),
])
def test_an_error_names_the_path_of_the_setting(text: str, expected: str) -> None:
    assert expected in problem(text)


@pytest.mark.parametrize("text", [
    '[listeners]\nlink = { bind = "0.0.0.0:7420", insecure = true }\n' + PEER + TOKEN,
    '[listeners]\nlink = { bind = "0.0.0.0:7420", tls = { cert = "a", key = "b", client_ca = "c" } }\n' + PEER,
    '[[links]]\nto = "ws://cloud.example:7420"\ninsecure = true\n',
    '[[links]]\nto = "wss://cloud.example"\nproxy = "http://proxy.plant:3128"\nproxy_user = "u"\n',
])
def test_what_is_safe_or_written_down_is_taken(text: str) -> None:
    decode_config(text, Path("/base"))


def test_relative_names_count_from_the_file() -> None:
    config = decode_config(
        '[[links]]\nto = "wss://c:1"\nca = "ca.pem"\ntoken = "file:t"\n[[link_peers]]\nnode = "a"\ntoken = "file:u"\n',
        Path("/base"))
    assert (config.links[0].ca, config.links[0].token) == ("/base/ca.pem", "file:/base/t")
    assert config.link_peers[0].token == "file:/base/u"


def test_secrets_are_not_shown() -> None:
    link = LINK + TOKEN + 'proxy = "http://p:1"\nproxy_password = "pass"\n'
    config = decode_config(link + PEER + TOKEN, Path("/base"))
    shown = format_toml(effective(config))
    assert "0123456789abcdef" not in shown and '"pass"' not in shown
    assert "0123456789abcdef" not in repr(config)


@pytest.mark.parametrize(("text", "expected"), [
    (LINK + 'token = "env:NO_SUCH_VARIABLE"\n', "links[0].token: the environment has no NO_SUCH_VARIABLE"),
    ('[[links]]\nto = "wss://c:1"\nca = "no.pem"\n', "links[0]: /base/no.pem: No such file"),
    (PEER + 'token = "short"\n', "link_peers[0].token: expected at least 16 characters"),
    (PEER + 'jwt_key = "short"\n', "link_peers[0].jwt_key: a shared secret needs at least 32 bytes"),
    (PEER + 'jwt_key = "-----BEGIN PUBLIC KEY-----"\n', "link_peers[0].jwt_key: not a public key in PEM"),
])
def test_what_lies_outside_of_the_file_is_checked_before_anything_starts(text: str, expected: str) -> None:
    config = decode_config(text, Path("/base"))
    with pytest.raises(ConfigError) as caught:
        resolve_links(config)
    assert expected in str(caught.value)


def test_the_examples_of_the_documentation_are_taken() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "links.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    cloud, plant = (decode_config(block, Path("/base")) for block in blocks)
    assert cloud.link_peers[0].node == plant.node.name and plant.links[0].node == cloud.node.name
    assert plant.listeners.link is None


def test_what_is_probably_not_meant_is_told() -> None:
    text = "[listeners]\nmqtt = { bind = \"127.0.0.1:0\" }\n" + PEER + TOKEN + LINK + "insecure = true\n"
    warnings = warnings_of(decode_config(text, Path("/base")))
    assert any(warning.startswith("[[link_peers]] without listeners.link") for warning in warnings)
    assert any(warning.startswith("links[0]: insecure = true") for warning in warnings)


def test_a_link_without_a_name_gets_one_from_its_address() -> None:
    config = decode_config('[[links]]\nto = "ws://[::1]:7421/path"\n', Path("/base"))
    assert link_name(config.links[0]) == "--1--7421".strip("-")


def test_anonymous_links_need_a_node_without_users_and_peers() -> None:
    assert prepare_links((), (), users=False).anonymous
    assert not prepare_links((), (), users=True).anonymous
