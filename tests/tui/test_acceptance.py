"""The dashboard as an operator uses it: a real terminal before three real nodes, everything by keys."""
from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.management.test_admin import durable_session
from tests.mesh.management.test_deadletters import buried
from tests.support.node import HOST
from tests.support.node import http as ask
from tests.support.threenodes import ThreeNodes
from tests.tui.tmux import Tmux
from tui.commands import SCREENS as ALL

CHANGE_MAX_S = 2.0
SCREENS = (
    ("map", "Map", "sender ↓"), ("nodes", "Nodes", "this node"), ("links", "Links", "plant-graz"),
    ("streams", "Streams", "events"), ("topics", "Topics", "orders"), ("consumers", "Consumers", "billing"),
    ("deadletters", "Dead letters", "spoiled"), ("clients", "Clients", "mqtt"), ("webhooks", "Webhooks", ""),
    ("policies", "Policies", "no users"), ("denials", "Denials", "Nothing was denied"), ("audit", "Audit", ""),
    ("queues", "Queues", "There is no queue"), ("exchanges", "Exchanges", "amq.topic"), ("bindings", "Bindings", ""),
    ("groups", "Kafka groups", "No Kafka"), ("transactions", "Transactions", "No producer"),
    ("logins", "Logins", "Nobody"), ("listeners", "Listeners", f"{HOST}:"),
    ("browse orders/# from=1h", "Browse", "bad-"),
    ("tail none/#", "Tail", "Waiting"), ("can-i ana publish a", "Can I?", "allowed"), ("contexts", "Contexts", ""),
    ("bridges", "Bridges", ""), ("drafts", "Drafts", "There are no drafts"), ("revisions", "Changes of rules", ""),
    ("conflicts", "Conflicts", "There are no conflicts"), ("users", "Users", ""), ("keys", "API keys", ""),
    ("roles", "Roles", "There are no managed roles"), ("peers", "Link peers", ""),
    ("masks", "Masks", "There are no masks"), ("quotas", "Quotas", "There are no quotas"),
    ("journey events:0:0", "Journey › events:0:0", ""), ("pulse", "Pulse", "published"), ("help", "Help", "palette"),
)
TERMS, SIZES = ("xterm-256color", "xterm-16color", "screen"), ((80, 24), (120, 40), (160, 50))
KINDS = [(term, size) for term in TERMS for size in SIZES
         if os.environ.get("MESHGATE_SOAK") or TERMS.index(term) == SIZES.index(size)]      # each with each, or once


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeNodes]:
    made = ThreeNodes(tmp_path_factory.mktemp("mesh"))
    durable_session(made.cloud, "billing", "plant/#")
    buried(made.cloud, "spoiled", [b"bad-1", b"bad-2"])
    yield made
    made.stop()


@pytest.mark.parametrize(("term", "size"), KINDS)
def test_every_screen_by_keys(mesh: ThreeNodes, tmp_path: Path, term: str, size: tuple[int, int]) -> None:
    """The picture has the size of the terminal, no line runs over, and 16 colours are 16 colours."""
    assert {command.partition(" ")[0] for command, _, _ in SCREENS} >= set(ALL)
    with Tmux(tmp_path, f"tui --url {mesh.cloud.url('console')}", size=size, term=term) as terminal:
        terminal.sees("● live", "Pulse", "cloud-eu")
        for command, title, wanted in SCREENS:
            terminal.command(command)
            terminal.sees(f"\n {title} ", wanted, "? keys", without="asking the node")
            picture = terminal.picture().splitlines()
            assert len(picture) <= size[1] and max(map(len, picture)) <= size[0] + 2, command
            assert "Traceback" not in "".join(picture) and "cannot be shown" not in "".join(picture), command
            many = re.search(r"\x1b\[[0-9;]*[34]8;[25];", terminal.colours()) is not None
            assert many == (term == "xterm-256color"), command
        terminal.command("consumers")
        terminal.sees("\n Consumers  ", "mqtt/billing", "▸")
        for key in ("s", "S", "w", "Right", "Left", "w", "z", "z", "n", "b", "p", "p", "r", "y", "Y", "PageDown",
                    "PageUp", "Home", "End", "Up", "Down"):
            terminal.keys(key)
            terminal.sees("\n Consumers  ", "? keys")
        for key, wanted in (("d", "consumers › "), ("Enter", "consumers › "), ("l", "\n Tail "), ("?", "\n Help "),
                            ("j", "journey"), ("c", "can-i"), ("/", "\n/ "), (":", "\n: "), ("x", "1  pause"),
                            ("C-p", "Go there")):
            terminal.keys(key)
            terminal.sees(wanted)
            terminal.keys("Escape")
            terminal.sees("\n Consumers  ", "● live", "? keys", without=wanted)
        terminal.keys("q")
        terminal.sees("ended 0")


@pytest.mark.measured
def test_a_cut_link_is_seen_within_two_seconds_on_the_map_and_in_the_links(mesh: ThreeNodes, tmp_path: Path) -> None:
    with Tmux(tmp_path, f"tui map --url {mesh.cloud.url('console')}") as terminal:
        terminal.sees("○ plant-graz", "○ plant-lyon", "● live", without="⊠")
        try:
            began_s = time.monotonic()
            mesh.cut()
            terminal.sees("◌ plant-graz", "○ plant-lyon")
            assert time.monotonic() - began_s <= CHANGE_MAX_S
            terminal.command("links")
            terminal.sees("⊠ down")
        finally:
            mesh.mend()
        terminal.sees("○ up", without="⊠")
        terminal.command("map")
        terminal.sees("○ plant-graz", without="◌ plant-graz")


def test_a_consumer_is_paused_its_lag_grows_and_it_goes_on(mesh: ThreeNodes, tmp_path: Path) -> None:
    with Tmux(tmp_path, f"tui consumers --url {mesh.cloud.url('console')}") as terminal:
        terminal.sees("mqtt/billing", "● live")
        terminal.keys("/", "billing", "Enter")
        terminal.sees("/ billing", without="spoiled")
        terminal.keys("x")
        terminal.sees("1  pause  (can be undone)")
        terminal.keys("Enter")
        terminal.sees("for the audit trail")                    # the preview
        terminal.keys("-l", "service")
        terminal.keys("Enter")
        terminal.sees("‖ paused")
        for number in range(20):
            mesh.graz.publish("plant/graz/t", str(number).encode())
        terminal.sees(" 20 ")
        terminal.keys("x")
        terminal.sees("1  resume")
        terminal.keys("Enter")
        terminal.sees("for the audit trail")
        terminal.keys("Enter")
        terminal.sees("mqtt/billing", "● live", without="‖ paused")
    records = mesh.cloud.get("/api/v1/audit?limit=2").json["audit"]
    assert [(one["act"], one["target"]) for one in records] == [
        ("consumer.resume", "mqtt/billing"), ("consumer.pause", "mqtt/billing")]
    assert records[1]["reason"] == "service"


def test_a_dead_letter_is_redriven_and_its_journey_says_so(mesh: ThreeNodes, tmp_path: Path) -> None:
    url, json_type = mesh.cloud.url("http", "/v1/consumers/spoiled"), {"Content-Type": "application/json"}
    with Tmux(tmp_path, f"tui deadletters/spoiled --url {mesh.cloud.url('console')}") as terminal:
        terminal.sees("bad-1", "bad-2", "x acts", "● live")
        terminal.keys("x")
        terminal.sees("redrive this one")
        terminal.keys("Enter")
        terminal.sees("for the audit trail")
        terminal.keys("Enter")
        terminal.sees("bad-2", without="bad-1")
        event = ask("POST", url + "/pull", json.dumps({"wait_s": 20}).encode(), json_type).json["events"][0]
        terminal.command("browse orders/# from=1h")
        terminal.sees("Browse", "bad-1", "bad-2")
        terminal.keys("Home", "j")
        terminal.sees("Journey › events:0:", "orders/guest/spoiled-0", "over http", "spoiled (anonymous")
        terminal.keys("Escape")
        terminal.sees("Browse", "bad-2", without="Journey")     # before a key behind it makes it an alt
        terminal.command(f"journey {event['id']}")
        terminal.sees(f"Journey › {event['id']}  ", "in flight")
        answer = ask("POST", url + "/ack", json.dumps({"tokens": [event["token"]]}).encode(), json_type)
        assert answer.status == 200, answer.text
        terminal.keys("r")
        terminal.sees("○ acked", without="in flight")
        terminal.keys("c", "ana publish orders/1", "Enter")
        terminal.sees("Can I?", "allowed", "no users are configured")
