"""A node for the tests with Kafka clients: one per file, and small helpers around confluent-kafka."""
from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_plus

import pytest

from tests.conftest import require_peer
from tests.interop.peer_process import PeerProcess
from tests.support.node import ROOT, Node

DEADLINE_S = 60.0
JARS = ROOT / ".peers" / "kafka"
NODE_MODULES = ROOT / ".peers" / "node" / "node_modules"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class ToolRun:
    """How a tool has ended, and all that it printed."""

    returncode: int
    stdout: str
    stderr: str


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


def java_command(main: str, *arguments: str, heap: str = "128m", classes: Path | None = None) -> list[str]:
    """One with Apache's jars. main: a class, or a source file; of ours it may be in a folder of compiled classes."""
    path = f"{JARS}/*" if classes is None else f"{classes}:{JARS}/*"
    return ["java", f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, main, *arguments]


def compiled(source: Path, folder: Path) -> Path:
    """The folder with the classes of a program, for several processes of it."""
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(any(JARS.glob("kafka-clients-4*.jar")), "Apache Kafka's jars (make peers)")
    subprocess.run(["javac", "-cp", f"{JARS}/*", "-d", str(folder), str(source)], check=True, timeout=DEADLINE_S)
    return folder


class Member:
    """A process of a group that works until it is killed, or leaves on a signal."""

    def __init__(self, kind: str, command: list[str], output: Path, say: str = "") -> None:
        """say: to its input, which stays open."""
        self.kind = kind
        with output.open("ab") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT)
        if say:
            assert self.process.stdin is not None
            self.process.stdin.write(f"{say}\n".encode())
            self.process.stdin.flush()

    def end(self, signal: str) -> None:
        """kill: without a word; terminate: Python and Java end at once by it, too."""
        getattr(self.process, signal)()
        self.process.wait(DEADLINE_S)


@functools.cache
def _tools() -> PeerProcess:
    """The program that runs Apache's tools, once for all tests of this process."""
    require_peer(shutil.which("javac"), "a JDK")
    require_peer(JARS.is_dir() and any(JARS.glob("kafka-tools-4*.jar")), "Apache Kafka's tools (make peers)")
    peer = PeerProcess(java_command(str(Path(__file__).parent / "java" / "ToolPeer.java"), heap="256m"))
    atexit.register(peer.kill)
    return peer


def java(main: str, *arguments: str, input: str = "", deadline_s: float = DEADLINE_S) -> ToolRun:
    """One of Apache's tools, to its end."""
    status, *said = _tools().run(main, *(quote(word, safe="") for word in ("<" + input, *arguments)),
                                 deadline_s=deadline_s).split(" ")
    output, errors = (unquote_plus(text.removeprefix("<")) for text in said)
    return ToolRun(int(status), output, errors)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    yield from serve(tmp_path_factory.mktemp("kafka"))
