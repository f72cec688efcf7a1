"""Qpid JMS 2.10 against a node: what java/JmsPeer.java does, in one program for all."""
from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.interop.peer_process import PeerProcess
from tests.support.node import ROOT, Node

SOURCE = Path(__file__).parent / "java" / "JmsPeer.java"
JARS = ROOT / ".peers" / "jms"


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Iterator[Node]:
    started = Node(tmp_path_factory.mktemp("jms"), listeners=("amqp", "http", "console")).start()
    yield started
    started.kill9()


@pytest.fixture(scope="module")
def jms(node: Node) -> Iterator[PeerProcess]:
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(any(JARS.glob("qpid-jms-client-*.jar")), "Qpid JMS (make peers)")
    peer = PeerProcess(["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
                        str(SOURCE), f"amqp://127.0.0.1:{node.ports['amqp']}?jms.prefetchPolicy.all=100"])
    yield peer
    peer.kill()


@pytest.mark.parametrize("scenario", [
    "kinds", "topics", "durable", "shared", "selectors", "transactions", "browser", "temporary", "options", "delayed",
    "client-id"])
def test_jms(jms: PeerProcess, scenario: str) -> None:
    jms.run(scenario)


def test_what_was_held_comes_again_in_order_after_kill_9(node: Node, jms: PeerProcess) -> None:
    jms.run("fill", "killed", "20")
    jms.begin("hold", "killed", "5")
    jms.wait(until="held")
    node.restart()
    jms.wait()
    jms.run("again", "killed", "20")
