"""rhea (Node.js) against a real node. The scenario is node/amqp10_peer.js."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import require_peer
from tests.support.node import ROOT, Node

PEER = Path(__file__).parent / "node" / "amqp10_peer.js"
MODULES = ROOT / ".peers" / "node" / "node_modules"


def test_rhea_sends_reads_asks_selects_is_refused_and_comes_by_websocket(tmp_path):
    require_peer(shutil.which("node"), "Node.js")
    require_peer((MODULES / "rhea").is_dir(), "rhea")
    node = Node(tmp_path, listeners=("amqp", "http", "console"))
    node.start()
    try:
        done = subprocess.run(["node", str(PEER), str(node.ports["amqp"]), str(node.ports["http"])],
                              capture_output=True, timeout=60, check=False,
                              env={**os.environ, "NODE_PATH": str(MODULES)})
        assert done.stdout == b"ok\n", done.stderr.decode()[-3_000:]
    finally:
        node.kill9()
