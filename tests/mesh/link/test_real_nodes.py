"""Two real node processes: links in the configuration, on the command line, in metrics, across kills and reloads."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.node import Node, meshgate
from tests.support.wait import wait_until

TOKEN = "0123456789abcdef"
FAST = '[link]\nheartbeat_s = "100ms"\nstale_after_s = "1s"\nretry_max_s = "300ms"\n'
LISTENERS = ("mqtt", "http", "console", "link")


def links(node: Node) -> dict[str, Any]:
    return {link["id"]: link for link in node.get("/api/v1/links").json["links"]}


def state(node: Node, identifier: str) -> Callable[[], bool]:
    return lambda: links(node).get(identifier, {}).get("state") == "up"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    peers = f'[[link_peers]]\nnode = "graz"\ntoken = "{TOKEN}"\n'
    node = Node(tmp_path_factory.mktemp("cloud"), name="cloud", extra=peers + FAST, listeners=LISTENERS).start()
    yield node
    node.kill9()


@pytest.fixture(scope="module")
def graz(tmp_path_factory: pytest.TempPathFactory, cloud: Node) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("graz")
    (folder / "token").write_text(TOKEN)
    node = Node(folder, name="graz", extra=link(cloud, "main") + FAST)     # no inbound port for links
    node.start()
    yield node
    node.kill9()


def link(cloud: Node, name: str) -> str:
    return f'[[links]]\nto = "ws://127.0.0.1:{cloud.ports["link"]}"\nname = "{name}"\ntoken = "file:token"\n'


def test_a_link_of_the_configuration_comes_up(graz: Node, cloud: Node) -> None:
    wait_until(state(graz, "main"), "the link is up")
    wait_until(state(cloud, "graz:main"), "the other end sees it")
    wait_until(lambda: links(graz)["main"]["rtt_ms"] is not None, "the round trip is measured")
    found = links(graz)["main"]
    assert (found["node"], found["direction"], found["protocol"]) == ("cloud", "out", 1)
    assert TOKEN not in graz.get("/api/v1/links").text + graz.process.log_text() + cloud.process.log_text()


def test_the_command_line_shows_and_pauses_it(graz: Node, cloud: Node) -> None:
    wait_until(state(graz, "main"), "the link is up")
    url = ["--url", graz.url("console")]
    table = meshgate("links", *url).stdout.decode()
    assert table.splitlines()[0].split()[:4] == ["LINK", "DIR", "STATE", "NODE"]
    assert table.splitlines()[1].split()[:4] == ["main", "out", "up", "cloud"]
    assert meshgate("links", "pause", "main", *url).stdout == b"pause: main\n"
    wait_until(lambda: links(cloud)["graz:main"]["state"] == "down", "the other end sees the pause")
    assert links(graz)["main"]["state"] == "paused"
    assert meshgate("links", "resume", "main", *url).returncode == 0
    wait_until(state(cloud, "graz:main"), "the link is up again")
    assert b"there is no link nobody" in meshgate("links", "kick", "nobody", *url).stderr
    assert json.loads(meshgate("links", "--json", *url).stdout)["total"] == 1


def test_metrics_have_the_link(graz: Node) -> None:
    wait_until(state(graz, "main"), "the link is up")
    families = {family.name: family for family in text_string_to_metric_families(graz.get("/metrics").text)}
    states = {sample.labels["state"]: sample.value for sample in families["meshgate_link_state"].samples}
    assert states == {"up": 1, "throttled": 0, "blocked": 0, "down": 0, "paused": 0}
    assert families["meshgate_link_sent_bytes"].samples[0].value > 0


def test_a_killed_node_is_found_again(graz: Node, cloud: Node) -> None:
    wait_until(state(graz, "main"), "the link is up")
    cloud.kill9()
    wait_until(lambda: links(graz)["main"]["state"] == "down", "the loss is noticed")
    cloud.start()
    wait_until(state(graz, "main"), "the link is up again")
    boot_before = links(cloud)["graz:main"]["connects"]
    graz.kill9()
    graz.start()
    wait_until(state(cloud, "graz:main"), "the link is up again")
    assert boot_before == 1


def test_a_reload_adds_and_removes_links_and_leaves_the_others(graz: Node, cloud: Node) -> None:
    wait_until(state(graz, "main"), "the link is up")
    since = links(graz)["main"]["since_ms"]
    graz.write_config(link(cloud, "main") + link(cloud, "second") + FAST)
    graz.sighup()
    wait_until(lambda: state(graz, "second")() if "second" in links(graz) else False, "the second link is up")
    graz.write_config(link(cloud, "main") + FAST)
    graz.sighup()
    wait_until(lambda: set(links(graz)) == {"main"}, "the second link is gone")
    assert links(graz)["main"]["since_ms"] == since
    graz.write_config('[[links]]\nto = "nonsense"\n' + FAST)
    graz.sighup()
    wait_until(lambda: "links[0].to" in graz.process.log_text(), "the bad configuration is refused")
    assert set(links(graz)) == {"main"}
    graz.write_config(link(cloud, "main") + FAST)


def test_the_configuration_is_checked_with_its_secrets(graz: Node, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('[[links]]\nto = "ws://127.0.0.1:1"\ntoken = "file:missing"\n')
    done = meshgate("check", str(file))
    assert done.returncode == 1 and b"links[0].token" in done.stderr
    shown = meshgate("check", str(graz.config)).stdout.decode()
    assert "[[links]]" in shown and TOKEN not in shown
