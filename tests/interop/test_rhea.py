"""rhea (Node.js) against a real node. The scenarios are node/amqp10_peer.js and node/amqp10_resume.js."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import require_peer
from tests.support.node import ROOT, Node

PEERS = Path(__file__).parent / "node"
MODULES = ROOT / ".peers" / "node" / "node_modules"


def run(tmp_path, script, *listeners):
    require_peer(shutil.which("node"), "Node.js")
    require_peer((MODULES / "rhea").is_dir(), "rhea")
    node = Node(tmp_path, listeners=("amqp", "http", "console"))
    node.start()
    try:
        done = subprocess.run(["node", str(PEERS / script), *(str(node.ports[name]) for name in listeners)],
                              capture_output=True, timeout=60, check=False,
                              env={**os.environ, "NODE_PATH": str(MODULES)})
        assert done.stdout == b"ok\n", done.stderr.decode()[-3_000:]
    finally:
        node.kill9()


def test_rhea_sends_reads_asks_selects_is_refused_and_comes_by_websocket(tmp_path):
    run(tmp_path, "amqp10_peer.js", "amqp", "http")


def test_rhea_loses_its_connection_and_resumes_both_of_its_links(tmp_path):
    run(tmp_path, "amqp10_resume.js", "amqp")
