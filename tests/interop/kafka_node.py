"""A node for the tests with Kafka clients: one per file, and small helpers around confluent-kafka."""
from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.support.node import ROOT, Node

DEADLINE_S = 60.0
JARS = ROOT / ".peers" / "kafka"
NODE_MODULES = ROOT / ".peers" / "node" / "node_modules"
_numbers = itertools.count(1)


def start(folder: Path, extra: str = "", **options) -> Node:
    return Node(folder, extra, listeners=("mqtt", "http", "console", "kafka"), **options).start()


def serve(folder: Path, extra: str = "", **options) -> Iterator[Node]:
    """For a fixture of a module."""
    node = start(folder, extra, **options)
    try:
        yield node
        assert node.running, node.process.log_tail()
        assert "Traceback" not in node.process.log_text(), node.process.log_tail(80)
    finally:
        node.process.kill9()


def bootstrap(node: Node) -> str:
    return f"127.0.0.1:{node.ports['kafka']}"


def unique(label: str) -> str:
    """A name that no other test uses."""
    return f"{label}.{os.getpid()}.{next(_numbers)}"


def java(main: str, *arguments: str, input: str | None = None, deadline_s: float = DEADLINE_S
         ) -> subprocess.CompletedProcess[str]:
    """One of Apache's tools, to its end."""
    require_peer(shutil.which("java"), "java")
    require_peer(JARS.is_dir() and any(JARS.glob("kafka-tools-4*.jar")), "Apache Kafka's tools (make peers)")
    return subprocess.run(
        ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{JARS}/*", main, *arguments],
        input=input, capture_output=True, text=True, timeout=deadline_s, check=False)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from serve(tmp_path_factory.mktemp("kafka"))
