"""The disk fails: injected by strace into the running node, or a file system of 64 MiB that is really full.

Promises: after a failed sync nothing is acked any more and the partition is read-only; a full disk refuses publishers
(MQTT 0x97, HTTP 507), consumers go on, and free space heals it without a restart. Nothing acked is lost.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_peer
from tests.faults.rig import Rig
from tests.faults.test_kill import SEED
from tests.support.node import Node
from tests.support.rawmqtt import SESSION_EXPIRY, open_mqtt
from tests.support.wait import DEADLINE_S, wait_until

STRACE = shutil.which("strace")
STAY = ((SESSION_EXPIRY, 3600),)


def _may_trace() -> bool:
    """strace may be there and ptrace forbidden, as in many containers."""
    return STRACE is not None and subprocess.run([STRACE, "-o", os.devnull, "true"], capture_output=True,
                                                 check=False).returncode == 0


@contextlib.contextmanager
def injected(node: Node, what: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """While inside, the system calls `what` names fail for the file at path. Leaving it detaches."""
    assert STRACE is not None
    output = node.folder / "strace.txt"
    tracer = subprocess.Popen([STRACE, "-f", "-o", str(output), "-P", str(path), "-e", f"inject={what}",
                               "-p", str(node.process.pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    try:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()                         # "Process 123 attached with 4 threads"
        assert b"attached" in line, line
        yield tracer
    finally:
        tracer.send_signal(signal.SIGINT)                       # detaches and ends
        tracer.wait(DEADLINE_S)
        if tracer.stderr is not None:
            tracer.stderr.close()


def hits(node: Node) -> int:
    """Calls that were really failed."""
    output = node.folder / "strace.txt"
    return output.read_text(errors="replace").count("(INJECTED)") if output.exists() else 0


def segment(node: Node, stream: str = "events") -> Path:
    return max((node.data / "streams" / stream / "0").glob("*.log"))


@pytest.mark.parametrize("what", ["fdatasync:error=EIO", "pwrite64:error=EIO", "pwritev2:error=EIO"])
def test_after_a_failed_write_or_sync_nothing_is_acked(tmp_path: Path, what: str) -> None:
    """Read-only for good, red, loud; the restart serves all that was acked and none that was refused."""
    require_peer(_may_trace(), "strace that may trace")
    rig = Rig(tmp_path, seed=SEED, version=5, producers=("one", "rest"), rate=100)
    with rig.running():
        assert rig.node.get("/readyz").status == 200
        with injected(rig.node, f"{what}:when=1", segment(rig.node)):
            wait_until(lambda: "R " in rig.writers["p-rest"].journal.read_text(), "a publish is refused",
                       also=rig.node.process.log_tail)
        assert hits(rig.node) > 0
        answer = rig.node.publish("other/after", b"x")
        assert answer.status in (500, 503, 507), answer.text     # the disk works again, but the partition does not
        assert wait_until(lambda: rig.node.get("/healthz").status != 200 or rig.node.get("/readyz").status != 200,
                          "health is red")
        assert "read-only" in rig.node.process.log_text()
        rig.quiesce()
        rig.kill()
        rig.restart()
        rig.resume()
        figures = rig.check_clean()
        assert figures.refused > 0
        assert rig.node.stop() == 0
        assert rig.verify_log() == ""


@pytest.mark.parametrize("what", ["pwrite64:error=ENOSPC", "pwritev2:error=ENOSPC", "pwritev2:retval=50"])
def test_a_full_disk_or_short_write_refuses_and_heals_without_restart(tmp_path: Path, what: str) -> None:
    require_peer(_may_trace(), "strace that may trace")
    rig = Rig(tmp_path, seed=SEED, version=5, producers=("one", "rest"), rate=100)
    with rig.running():
        with injected(rig.node, what, segment(rig.node)):
            wait_until(lambda: all(" 0x97" in client.journal.read_text() or " 507" in client.journal.read_text()
                                   for client in rig.writers.values()), "all publishers are told that the disk is full",
                       also=rig.node.process.log_tail)
        assert hits(rig.node) > 0
        wait_until(lambda: rig.node.publish("other/after", b"x").status == 200, "the node heals")
        figures = rig.check_clean()
        assert figures.refused > 0
        assert rig.node.stop() == 0
        assert rig.verify_log() == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB. Needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    mounted = os.getuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    require_peer(mounted, "the right to mount a file system of 64 MiB")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_of_64_mib_fills_up_and_heals(small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(30 * 2**20))
    node = Node(small_disk / "node")
    body = os.urandom(128 * 1024)
    try:
        node.start()
        with open_mqtt(node.mqtt, "reader", clean=False, values=STAY) as reader:
            reader.subscribe(("full/#", 1))
        stored = 0
        while (answer := node.publish(f"full/{stored}", body)).status == 200:
            stored += 1
            assert stored < 64 * 8, "a disk of 64 MiB takes no end"
        assert answer.status == 507, answer.text
        with open_mqtt(node.mqtt, "writer") as writer:
            assert writer.publish_acked("full/x", body).code == 0x97
        assert node.running and node.get("/metrics").status == 200
        with open_mqtt(node.mqtt, "reader", clean=False, values=STAY) as reader:
            topics = [packet.topic for packet in reader.messages(stored)]
        assert topics == [f"full/{number}" for number in range(stored)]     # consumers go on
        ballast.unlink()
        wait_until(lambda: node.publish("full/after", body).status == 200, "the node heals")
        node.restart()
        assert node.publish("full/later", body).status == 200
        assert node.stop() == 0
    finally:
        node.process.kill9()
